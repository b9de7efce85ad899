"""Missing box: which is missing, what it showed, constants by simulation and the baselines of the pixels."""

import numpy as np
import pytest
import torch

from sslwang.losses import IGNORED
from sslwang.tasks.missing_box import MissingBox, MissingBoxSettings, explained

SMALL = {"bs": 32, "items": 32, "valid_items": 8, "size": 32}


def task(**given):
    return MissingBox(MissingBoxSettings(**{**SMALL, **given}))


def rows(**given):
    """Items, what was drawn, and the batch made of it."""
    items = task(**given).items(0, "train")
    drawn = items.stack([items.item(0, i) for i in range(len(items))])
    return items, drawn, items.batch(drawn[0].float() / 255, *drawn[1:])


def test_the_label_is_one_where_the_image_of_the_first_visible_box_lost_one():
    _, (_, order, _, missing, _), (_, target) = rows(items=200)
    upper_left_missing = 0
    for r in range(200):
        visible = [int(b) // 4 for k, b in enumerate(order[r]) if k != missing[r]]
        assert visible.count(int(order[r, missing[r]]) // 4) == 3
        assert target[r] == (visible.count(visible[0]) == 3)
        upper_left_missing += int(missing[r] == 0)
    assert upper_left_missing > 10


def test_of_more_images_the_class_is_the_rank_of_appearance():
    _, (_, order, _, missing, _), (_, target) = rows(items=100, n=3)
    for r in range(100):
        visible = [int(b) // 4 for k, b in enumerate(order[r]) if k != missing[r]]
        assert list(dict.fromkeys(visible))[target[r]] == int(order[r, missing[r]]) // 4


def test_only_the_missing_cell_is_grey_and_it_is_not_asked_for():
    items, (_, _, _, missing, _), (picture, target) = rows(target="position", hardened=False)
    cells = items.cutter.taken_up(picture, *items.settings.layout)
    at = torch.arange(32)
    assert not cells[at, missing].any()
    assert (target[at, missing] == IGNORED).all()
    assert (target != IGNORED).sum(1).eq(7).all()


def test_the_pixels_are_those_that_the_whole_patchwork_would_show():
    items, (images, order, jitter, missing, _), (_, pixels) = rows(target="pixels")
    whole = items.boxes(images.float() / 255, order, jitter, None)
    assert torch.equal(pixels, whole[torch.arange(32), missing])


@pytest.mark.parametrize(("n", "chance"), [(2, 4 / 7), (3, None), (4, None)])
def test_shares_of_the_classes_are_those_of_a_simulation(n, chance):
    t = task(n=n, size=16, hardened=False, items=3000)
    items = t.items(0, "train")
    items.side = type("Blank", (), {"tiles": lambda self, rng, size, k, d: np.zeros((k, size, size, 3), np.uint8)})()
    drawn = items.stack([items.item(0, i) for i in range(3000)])
    target = items.batch(drawn[0].float() / 255, *drawn[1:])[1].long()
    np.testing.assert_allclose(target.bincount(minlength=n) / 3000, t.shares()[0], atol=0.03)
    if chance:
        assert t.chance == pytest.approx(chance)
        assert t.best_constant() == pytest.approx(0.6829, abs=1e-4)


def test_shares_of_the_positions_are_those_of_a_simulation():
    t = task(target="position", size=16, hardened=False, items=4000)
    items = t.items(0, "train")
    items.side = type("Blank", (), {"tiles": lambda self, rng, size, k, d: np.zeros((k, size, size, 3), np.uint8)})()
    drawn = items.stack([items.item(0, i) for i in range(4000)])
    target = items.batch(drawn[0].float() / 255, *drawn[1:])[1]
    for k in range(8):
        seen = target[:, k][target[:, k] != IGNORED]
        np.testing.assert_allclose(seen.bincount(minlength=8) / len(seen), t.shares()[k], atol=0.03)


def test_the_mean_colour_of_what_is_left_explains_raw_pixels_and_not_hardened_ones():
    scores = {}
    for hardened in (False, True):
        t = task(target="pixels", hardened=hardened, items=256, bs=256, size=64)
        scores[hardened] = t.probes()["mean colour"](t.loaders(0).train.one_batch())
    assert scores[False] > 0.1
    assert scores[True] < 0.02


@pytest.mark.parametrize("target", ["pixels", "position", "image"])
def test_the_oracle_knows_every_target(target):
    assert task(target=target).oracle() > 0.98
    assert task(target=target, n=3).oracle() > 0.98


@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_best_constant_of_flat_boxes(kind):
    t = task(target="pixels", mode="marked", loss={"kind": kind}, items=512, bs=512)
    _, pixels = t.loaders(0).train.one_batch()
    reached = t.loss()(torch.zeros_like(pixels), pixels).item()
    assert reached == pytest.approx(t.best_constant(), rel=0.01)


def test_r2_of_pixels_by_hand():
    target = torch.tensor([-1.0, 1.0])[:, None, None, None].expand(2, 3, 4, 4)
    assert explained(target, target) == 1
    assert explained(torch.zeros(2, 3, 4, 4), target) == 0
    assert explained(target / 2, target) == pytest.approx(0.75)


def test_pixels_are_shown_with_what_was_said():
    items, _, batch = rows(target="pixels")
    plain, told = items.shown(batch), items.shown(batch, batch[1])
    assert [len(r.images) for r in (plain[0], told[0])] == [2, 3]
    assert told[0].right == [None, None, True]
    assert items.shown(batch, -batch[1])[0].right[-1] is False


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="n=1: it is always the same image"):
        task(n=1)
    task(n=1, target="pixels")
