"""Decisions, views and constants that the tasks of several pictures share."""

import numpy as np
import pytest
import torch

from sslwang.data.views import TAPS, Distortion, blurred, distorted, median_blurred, through_jpeg
from sslwang.learn import train
from sslwang.tasks._likeness import HEAVY, accuracy, chosen, colour_likeness, ordered, retrieved, thumbnail_likeness
from sslwang.tasks._views import ranked
from sslwang.tasks.autoencode import Autoencode
from sslwang.tasks.degraded_pairs import DegradedPairs
from sslwang.tasks.hard_pairs import HardPairs
from sslwang.tasks.is_it_in import IsItIn
from sslwang.tasks.n_pair import NPair
from sslwang.tasks.nt_xent import NTXentTask
from sslwang.tasks.same_or_different import SameOrDifferent
from sslwang.tasks.scale import Scale
from sslwang.tasks.simclr import SimCLR
from sslwang.tasks.unmix_triplet import UnmixTriplet
from sslwang.tasks.vicreg import VICReg


def pictures(count=3, size=16, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.random((count, 3, size, size), dtype=np.float32))


def views(images, distortion, seed=0):
    pixels = (images * 255).round().to(torch.uint8).movedim(1, -1).numpy()
    numbers, grain = distortion.draw(np.random.default_rng(seed), pixels)
    return distorted(images, torch.from_numpy(numbers), torch.from_numpy(grain))


# ---- decisions -------------------------------------------------------------------------------------------------------


def test_the_highest_are_chosen_and_one_alone_by_the_threshold():
    outputs = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, -1.0]])
    target = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert chosen(outputs, target).tolist() == [[True, False, True], [False, True, False]]
    assert chosen(torch.tensor([[-0.4], [-0.6]]), torch.ones(2, 1), -0.5).tolist() == [[True], [False]]
    assert retrieved(outputs, target) == pytest.approx(2 / 3)
    assert accuracy(outputs, target) == pytest.approx(4 / 6)


def test_pairs_are_ordered_and_equal_ones_count_half():
    target = torch.tensor([[1.0, 0.0, 0.0]])
    assert ordered(torch.tensor([[2.0, 1.0, 3.0]]), target) == 0.5
    assert ordered(torch.tensor([[2.0, 1.0, 2.0]]), target) == 0.75
    assert ordered(torch.zeros(1, 3), target) == 0.5


def test_views_are_ranked_against_those_of_other_images():
    e = torch.eye(4)
    assert ranked(torch.stack([e, e], 1)) == 1
    assert ranked(torch.stack([e, e.roll(1, 0)], 1)) < 0.5
    assert ranked(torch.ones(4, 2, 3)) == 0.5


# ---- views -----------------------------------------------------------------------------------------------------------


def test_no_distortion_changes_nothing():
    images = pictures()
    torch.testing.assert_close(views(images, Distortion()), images, atol=1e-5, rtol=0)


def test_views_are_turned_by_quarters_and_mirrored_exactly():
    images = pictures(64, 8)
    found = views(images, Distortion(quarters=True, mirror=True, flip=True))
    kinds = [images.rot90(k, (-2, -1)) for k in range(4)] + [images.flip(-1).rot90(k, (-2, -1)) for k in range(4)]
    gaps = torch.stack([(found - kind).abs().amax((1, 2, 3)) for kind in kinds], 1)
    assert gaps.min(1).values.max() < 1e-4
    assert set(gaps.argmin(1).tolist()) == set(range(8))


def test_a_crop_shows_only_a_part_and_stays_inside():
    ramp = torch.linspace(0, 1, 32).expand(64, 3, 32, 32)
    found = views(ramp, Distortion(zoom=0.5))
    spread = found[:, 0, 0].amax(1) - found[:, 0, 0].amin(1)
    assert 0.45 < spread.min() < 0.6 < 0.9 < spread.max() <= 1
    assert found[:, 0, 0].diff(dim=1).min() > 0  # what is mirrored in at an edge would descend


def test_crops_that_show_nothing_are_drawn_again():
    half = torch.zeros(200, 3, 32, 32)
    half[:, :, :, :12] = pictures(200, 32)[:, :, :, :12]
    found = views(half, Distortion(zoom=0.5))
    assert (found.flatten(1).std(1) < 0.02).float().mean() < 0.02


def test_the_blur_keeps_the_mean_and_no_blur_keeps_the_picture():
    images = torch.zeros(2, 3, 32, 32)
    images[:, :, 16, 16] = 1
    found = blurred(images, torch.tensor([0.0, 1.5]))
    torch.testing.assert_close(found[0], images[0])
    assert found[1].sum((1, 2)).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    row = found[1, 0].sum(0)
    variance = (row * (torch.arange(32) - 16) ** 2).sum()
    assert variance == pytest.approx(1.5**2, rel=0.05)
    assert (row > 1e-6).sum() == TAPS


def test_colours_are_multiplied_shifted_and_taken_away():
    images = 0.25 + pictures(200, 8) / 2
    gain = views(images, Distortion(gain=0.2)) / images
    assert 1 / 1.2 <= gain.min() < 0.9 < 1.1 < gain.max() <= 1.2 + 1e-4
    shift = views(images, Distortion(offset=0.1)) - images
    assert -0.1001 <= shift.min() < -0.08 < 0.08 < shift.max() <= 0.1001
    grey = views(images, Distortion(grey=0.5))
    share = ((grey[:, 0] - grey[:, 2]).abs().amax((1, 2)) < 1e-6).float().mean()
    assert 0.4 < share < 0.6


def test_noise_is_as_strong_as_it_says_and_pictures_stay_in_range():
    images = torch.full((100, 3, 16, 16), 0.5)
    std = (views(images, Distortion(noise=0.1)) - 0.5).flatten(1).std(1)
    assert 0.09 < std.max() < 0.105
    assert std.min() < 0.02
    found = views(pictures(50), HEAVY)
    assert found.min() >= 0
    assert found.max() <= 1


def test_a_view_does_not_depend_on_the_others():
    images = pictures(4)
    numbers, grain = HEAVY.draw(np.random.default_rng(0), (images * 255).byte().movedim(1, -1).numpy())
    numbers, grain = torch.from_numpy(numbers), torch.from_numpy(grain)
    whole = distorted(images, numbers, grain)
    torch.testing.assert_close(distorted(images[2:3], numbers[2:3], grain[2:3]), whole[2:3])


def test_impossible_distortions_are_refused():
    with pytest.raises(ValueError, match="zoom"):
        Distortion(zoom=0.0)
    with pytest.raises(ValueError, match="blur"):
        Distortion(blur=9.0)


def test_jpeg_and_median_lose_detail_and_keep_the_colour():
    tile = (pictures(1, 32)[0].movedim(0, -1).numpy() * 255).astype(np.uint8)
    for worse in (through_jpeg(tile, 5), median_blurred(tile, 5)):
        assert worse.shape == tile.shape
        assert worse.dtype == np.uint8
        assert worse.std() < 0.6 * tile.std()
        assert np.abs(worse.mean((0, 1)) - tile.mean((0, 1))).max() < 12


# ---- solvers ---------------------------------------------------------------------------------------------------------


def test_solvers_know_the_same_picture_and_not_the_rounding_of_its_mean():
    anchor, other = pictures(5), pictures(5, seed=1)
    others = torch.stack([other, anchor], 1)
    assert (thumbnail_likeness(anchor, others).argmax(1) == 1).all()
    assert (colour_likeness(anchor, others).argmax(1) == 1).all()
    centred = others - others.mean((-2, -1), keepdim=True)
    assert colour_likeness(centred[:, 0], centred).abs().max() == 0


# ---- constants, learning ---------------------------------------------------------------------------------------------

SMALL = {"bs": 256, "items": 256, "valid_items": 32, "size": 16}


@pytest.mark.parametrize(
    ("cls", "given"),
    [
        (SameOrDifferent, {"goal": "distance"}),
        (DegradedPairs, {"goal": "distance", "by": "jpeg"}),
        (HardPairs, {"form": "triplet"}),
        (NTXentTask, {"positives": 2}),
        (NPair, {"n": 6}),
        (Scale, {"target": "regression"}),
        (Scale, {"target": "regression", "loss": {"kind": "mse"}}),
        (Scale, {"target": "regression", "n": 1}),
        (Scale, {"ratio": "equal"}),
        (IsItIn, {}),
        (UnmixTriplet, {}),
        (UnmixTriplet, {"mode": "dup_src"}),
    ],
)
def test_no_constant_is_better_than_the_best_one(cls, given):
    """Over a grid of scores that are the same for all, the least loss is what the task states; summed as well."""
    for reduction in ("mean", "sum"):
        loss = {**given.get("loss", {}), "reduction": reduction}
        task = cls().under(**{**SMALL, **given, "loss": loss})
        batch = task.loaders(0).train.one_batch()
        loss_func, target = task.loss(), batch[-1]
        least = min(loss_func(torch.full(target.shape, float(c)), target).item() for c in torch.arange(-2, 2, 0.02))
        assert least == pytest.approx(task.best_constant(), rel=0.12 if given.get("n") == 1 else 0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cls", "given", "steps"),
    [
        (SameOrDifferent, {}, 40),
        (SameOrDifferent, {"goal": "distance"}, 40),
        (DegradedPairs, {}, 40),
        (HardPairs, {}, 40),
        (HardPairs, {"form": "triplet"}, 40),
        (NPair, {}, 40),
        (NTXentTask, {}, 40),
        (IsItIn, {}, 40),
        (UnmixTriplet, {}, 40),
        (Scale, {}, 150),
        (SimCLR, {}, 40),
        (VICReg, {}, 40),
        (Autoencode, {}, 400),
    ],
)
def test_the_easiest_version_is_learned(cls, given, steps):
    version = next(iter(cls().under(size=32, bs=32, valid_items=96, **given).easier().values()))
    scores = train(version, steps, 0).scores
    name = next(n for n in scores["region"] if n != "loss")
    assert scores["region"][name] >= 0.95


def test_easier_versions_come_in_order_and_copies_are_twins():
    for cls in (SameOrDifferent, DegradedPairs, HardPairs, NPair, NTXentTask, SimCLR, VICReg):
        versions = cls().under(bs=16, items=16, valid_items=8, size=16).easier()
        assert list(versions) == ["copies", "crops"]
        batch = versions["copies"].loaders(0).train.one_batch()
        twins = versions["copies"].twins(batch)
        wanted = 16 if cls in (SimCLR, VICReg) else int(batch[-1].sum())
        assert len(twins) == wanted > 2
        for row, a, b in twins.tolist():
            assert torch.equal(batch[a][row], batch[b][row])
        assert versions["crops"].twins(versions["crops"].loaders(0).train.one_batch()) is None


def test_permuted_others_take_their_labels_along():
    task = NTXentTask().under(bs=8, items=8, valid_items=8, size=16)
    batch = task.loaders(0).train.one_batch()
    moved = task.permuted(batch, [2, 0, 3, 1])
    assert torch.equal(moved[1], batch[3])
    assert torch.equal(moved[-1][:, 0], batch[-1][:, 2])
    model = task.learner(0).model.eval()
    with torch.no_grad():
        assert torch.allclose(model(*moved[:-1]), model(*batch[:-1])[:, [2, 0, 3, 1]], atol=1e-5)


def test_autoencode_has_no_roles_to_permute():
    with pytest.raises(NotImplementedError):
        Autoencode().permuted((), [])
