"""Patchwork: labels by hand, constants by simulation, the curriculum's room, pictures that are put right."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from sslwang.data.boxes import Cutter
from sslwang.losses import IGNORED
from sslwang.tasks.patchwork import Patchwork, PatchworkSettings, canonical, image_shares

SMALL = {"bs": 8, "items": 8, "valid_items": 8}


def task(**given):
    return Patchwork(PatchworkSettings(**{**SMALL, **given}))


def numbers(text):
    """Boxes by their names: a1 is 0, b1 is 4."""
    return torch.tensor([[4 * (ord(name[0]) - ord("a")) + int(name[1]) - 1 for name in text.split()]])


@pytest.mark.parametrize(
    ("grid", "labels"),
    [
        ("a4 b2 b4 a3 a1 a2 b1 b3", [4, 6, 8, 3, 1, 2, 5, 7]),  # the notes' example
        ("b4 a2 a4 b3 b1 b2 a1 a3", [4, 6, 8, 3, 1, 2, 5, 7]),  # whichever image is called a
        ("a1 a2 a3 a4 b1 b2 b3 b4", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("c1 a1 c2 b1 a2 a3 b2 b3 c3 b4 a4 c4", [1, 5, 2, 9, 6, 7, 10, 11, 3, 12, 8, 4]),
    ],
)
def test_images_are_numbered_in_the_order_in_which_they_appear(grid, labels):
    assert (canonical(numbers(grid), 4) + 1).tolist() == [labels]


def test_empty_and_hidden_cells_name_no_image():
    boxes = torch.tensor([[4, 0, 5, -1]])
    assert canonical(boxes, 4).tolist() == [[0, 4, 1, IGNORED]]
    hidden = torch.tensor([[False, True, True, True]])
    assert canonical(boxes, 4, hidden).tolist() == [[4, 0, 5, IGNORED]]


def test_renaming_the_images_changes_nothing_and_shuffling_the_cells_follows():
    order = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(s)) for s in range(20)])
    for names in itertools.permutations(range(3)):
        renamed = torch.tensor(names)[order // 4] * 4 + order % 4
        assert torch.equal(canonical(renamed, 4), canonical(order, 4))
    same = (order[:, :, None] // 4) == (order[:, None] // 4)
    labels = canonical(order, 4)
    assert torch.equal((labels[:, :, None] // 4) == (labels[:, None] // 4), same)
    assert torch.equal(labels % 4, order % 4)


@pytest.mark.parametrize(("n", "per_image"), [(2, 4), (3, 4), (2, 9), (1, 4), (8, 4)])
def test_shares_of_images_in_each_cell_are_those_of_a_simulation(n, per_image):
    rng = np.random.default_rng(0)
    order = torch.from_numpy(np.stack([rng.permutation(n * per_image) for _ in range(8000)]))
    counted = torch.nn.functional.one_hot(canonical(order, per_image) // per_image, n).float().mean(0).numpy()
    shares = image_shares(n, per_image)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-9)
    np.testing.assert_allclose(shares, counted, atol=0.025)


def test_known_constants():
    assert task().chance == pytest.approx(0.15625)  # (1/4 + 7/7) / 8
    assert task(target="image").chance == pytest.approx(0.625)
    summed = task(loss={"reduction": "sum"})
    assert summed.best_constant() == pytest.approx(task().best_constant() * 8 * 8)


@pytest.mark.parametrize(("n", "room", "layout"), [(2, 0, (2, 4)), (4, 0, (4, 4)), (2, 8, (4, 8)), (3, 0, (2, 6))])
def test_the_grid_has_room_for_as_many_images_as_are_asked_for(n, room, layout):
    t = task(n=n, room=room, size=32)
    picture, target = t.loaders(0).train.one_batch()
    assert t.settings.layout == layout
    assert picture.shape == (8, 3, layout[0] * 16, layout[1] * 16)
    assert target.shape == (8, layout[0] * layout[1])
    assert (target != IGNORED).sum(1).eq(4 * n).all()
    assert not t.items(0, "train").cutter.taken_up(picture, *layout)[target == IGNORED].any()


def test_the_notes_extremes_make_a_batch_or_say_why_not():
    _, target = task(n=8, g=8, size=64, bs=2, items=2).loaders(0).train.one_batch()
    assert target.shape == (2, 512)
    assert torch.equal(target.sort(1).values, torch.arange(512).expand(2, -1))
    with pytest.raises(ValueError, match="below 4 px"):
        task(g=16, size=32)
    with pytest.raises(ValueError, match="room=2 is too small for n=3"):
        task(n=3, room=2)


def test_a_picture_put_right_shows_its_images():
    t = task(hardened=False, size=32)
    items = t.items(0, "train")
    images, order, jitter = items.stack([items.item(0, i) for i in range(8)])
    picture, target = items.batch(images.float() / 255, order, jitter)
    solved = torch.stack([items.explained(p, c) for p, c in zip(picture, target)])
    wanted = (images.float() / 255 - 0.45) / 0.25
    first = order[:, 0] // 4
    for r in range(8):
        torch.testing.assert_close(solved[r, ..., :32], wanted[r, first[r]])
        torch.testing.assert_close(solved[r, ..., 32:], wanted[r, 1 - first[r]])


def test_captions_name_boxes_as_they_lie():
    labels = canonical(numbers("a4 b2 b4 a3 a1 a2 b1 b3"), 4)[0]
    assert task().items(0, "train").caption(labels) == "a4 b2 b4 a3 / a1 a2 b1 b3"


def test_metrics_tell_image_and_place_apart():
    t = task()
    order = torch.stack([torch.randperm(8, generator=torch.Generator().manual_seed(s)) for s in range(30)])
    target = canonical(order, 4)
    wrong_place = torch.nn.functional.one_hot(target // 4 * 4 + (target + 1) % 4, 8).float()
    wrong_image = torch.nn.functional.one_hot((target + 4) % 8, 8).float()
    said = {}
    for name, logits in {"place": wrong_place, "image": wrong_image}.items():
        for metric in t.metrics():
            metric.reset()
            metric.accum_values(logits, target)
            said[name, metric.name] = metric.value
    assert said["place", "same_image"] == said["image", "place_in_image"] == 1
    assert said["place", "place_in_image"] == said["image", "same_image"] == 0
    assert said["place", "exact"] == said["image", "accuracy"] == 0


def test_every_box_is_equally_likely_everywhere():
    items = task(items=1500, size=16, hardened=False).items(0, "train")
    items.side = type("Blank", (), {"tiles": lambda self, rng, size, n, d: np.zeros((n, size, size, 3), np.uint8)})()
    first = Counter(int(items.item(0, i)[1][0]) for i in range(1500))
    assert set(first) == set(range(8))
    assert max(first.values()) < 1.3 * 1500 / 8


def test_hardened_boxes_hide_their_brightness():
    picture, _ = task().loaders(0).train.one_batch()
    boxes = Cutter(64, 2).taken_up(picture, 2, 4)
    assert boxes.mean((-2, -1)).abs().max() < 1e-4
