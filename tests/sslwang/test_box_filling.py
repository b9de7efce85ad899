"""Ways of filling a missing box in, by hand; what they reach on photographs is between nothing and the truth."""

import math

import pytest
import torch

from sslwang.box_filling import PEAK, from_borders, mean_colour, nearest_box, psnr
from sslwang.tasks.missing_box import MissingBox, MissingBoxSettings

LAYOUT = (2, 3)


def grid(side=3):
    """Cells (1, 6, 3, side, side), cell k all of value k, and all visible but the one in the middle of the top."""
    cells = torch.arange(6.0)[None, :, None, None, None].expand(1, 6, 3, side, side).clone()
    missing = torch.tensor([1])
    return cells, torch.arange(6)[None] != missing[:, None], missing


def test_psnr_by_hand():
    target = torch.zeros(2, 3, 4, 4)
    assert psnr(target, target) == math.inf
    assert psnr(target + PEAK, target) == pytest.approx(0)
    assert psnr(target + PEAK / 10, target) == pytest.approx(20)


def test_the_mean_colour_is_that_of_the_same_image():
    cells, visible, _ = grid()
    same = torch.tensor([[True, False, False, True, False, True]])
    assert torch.equal(mean_colour(cells, same), torch.full((1, 3, 3, 3), 8 / 3))
    assert not mean_colour(cells, same & ~visible).any()


def test_the_nearest_box_is_copied_and_one_that_is_not_visible_is_not():
    cells, visible, missing = grid()
    assert torch.equal(nearest_box(cells, visible, missing, LAYOUT), cells[:, 0])
    visible[:, [0, 2]] = False
    assert torch.equal(nearest_box(cells, visible, missing, LAYOUT), cells[:, 4])
    visible[:, 4] = False
    assert torch.equal(nearest_box(cells, visible, missing, LAYOUT), cells[:, 3])


def test_borders_are_weighted_by_their_distance():
    cells, visible, missing = grid()
    cells[:, 0, :, :, :2] = 99  # only the edge counts that faces the missing box
    cells[:, 4, :, 1:] = 99
    found = from_borders(cells, visible, missing, LAYOUT)[0, 0]
    left, right, below = 0.0, 2.0, 4.0
    for y in range(3):
        for x in range(3):
            weights = 1 / (x + 1), 1 / (3 - x), 1 / (3 - y)
            mean = sum(w * v for w, v in zip(weights, (left, right, below))) / sum(weights)
            assert found[y, x].item() == pytest.approx(mean)


def test_without_a_visible_neighbour_the_borders_say_nothing():
    cells, visible, missing = grid()
    visible[:, [0, 2, 4]] = False
    assert not from_borders(cells, visible, missing, LAYOUT).any()


def test_a_picture_that_goes_on_is_filled_in_best_from_its_borders():
    """A plane of brightness in a grid that was not shuffled: the box between its neighbours."""
    ramp = torch.linspace(-1, 1, 12)
    picture = (ramp[:, None] + ramp[None])[None, None].expand(1, 3, 12, 12)
    cells = picture.unflatten(3, (3, 4)).unflatten(2, (3, 4)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    missing = torch.tensor([4])
    visible = torch.arange(9)[None] != missing[:, None]
    reached = {
        "borders": psnr(from_borders(cells, visible, missing, (3, 3)), cells[:, 4]),
        "nearest": psnr(nearest_box(cells, visible, missing, (3, 3)), cells[:, 4]),
    }
    assert reached["borders"] > reached["nearest"] + 3


@pytest.mark.parametrize("hardened", [False, True])
def test_baselines_of_photographs(hardened):
    settings = {"target": "pixels", "hardened": hardened, "size": 32, "bs": 8, "items": 8, "valid_items": 8}
    task = MissingBox(MissingBoxSettings(**settings))
    found = task.baselines(rows=96)
    assert set(found) == {f"{name}, PSNR in dB" for name in ("mean colour", "nearest box", "from the borders")}
    assert found == task.baselines(rows=96)
    colour, nearest, borders = found.values()
    assert 5 < nearest < colour < 30
    assert borders < colour
    if hardened:  # every box has mean 0 and at most deviation 1: the mean colour is grey
        assert 20 * math.log10(PEAK) < colour < 20 * math.log10(PEAK) + 4


def test_other_targets_have_none():
    assert MissingBox(MissingBoxSettings(size=32)).baselines(rows=8) == {}
