"""Boxes: what is cut, turned, laid out and painted is where it was asked for; solvers that put boxes together."""

import numpy as np
import pytest
import torch

from sslwang.box_solvers import fewer_by_colour, turned_by_edges, two_by_colour, two_by_edges
from sslwang.data.boxes import FLAT, MARK, Cutter, marked, palette, place_names, shaded, turned


def numbered(rows=1, images=2, size=8):
    """Every pixel of every image is a number of its own."""
    return torch.arange(rows * images * 3 * size * size).reshape(rows, images, 3, size, size).float()


def smooth(rows, images, size=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(rows * images, 3, 5, 5, generator=g)
    fine = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)
    return fine.unflatten(0, (rows, images))


@pytest.mark.parametrize("hardened", [True, False])
def test_boxes_are_cut_where_place_and_jitter_say(hardened):
    images, cutter = numbered(size=12), Cutter(12, 2, hardened)
    which, place = torch.tensor([[1, 0, 1]]), torch.tensor([[3, 1, 0]])
    jitter = torch.tensor([[[1, 0], [0, 1], [0, 0]]]) if hardened else torch.zeros(1, 3, 2, dtype=torch.int64)
    boxes = cutter.cut(images, which, place, jitter)
    side = cutter.side
    corners = [(6, 6), (0, 6), (0, 0)]
    for k, (y, x) in enumerate(corners):
        y, x = y + int(jitter[0, k, 0]), x + int(jitter[0, k, 1])
        assert torch.equal(boxes[0, k], images[0, which[0, k], :, y : y + side, x : x + side])


@pytest.mark.parametrize(("size", "g"), [(64, 2), (64, 3), (128, 2), (64, 8), (32, 2), (96, 3)])
def test_hardened_boxes_have_margins_and_no_side_of_a_multiple_of_8(size, g):
    hard, raw = Cutter(size, g), Cutter(size, g, hardened=False)
    assert hard.side % 8
    assert 0.5 * hard.cell <= hard.side < hard.cell
    assert raw.side == raw.cell == size // g
    offsets = hard.jitter(np.random.default_rng(0), 500)
    assert offsets.min() == 0
    assert offsets.max() == hard.cell - hard.side
    assert not raw.jitter(np.random.default_rng(0), 50).any()


def test_cells_too_small_to_show_anything_are_refused():
    with pytest.raises(ValueError, match="below 4 px"):
        Cutter(16, 8)


@pytest.mark.parametrize("hardened", [True, False])
def test_what_is_laid_out_can_be_taken_up_again_and_stands_in_raster_order(hardened):
    cutter = Cutter(16, 2, hardened)
    boxes = torch.rand(2, 6, 3, cutter.side, cutter.side) + 1
    picture = cutter.laid_out(boxes, 2, 3)
    assert picture.shape == (2, 3, 16, 24)
    assert torch.equal(cutter.taken_up(picture, 2, 3), boxes)
    assert torch.equal(cutter.taken_up(picture[0], 2, 3), boxes[0])
    before = cutter.margins[0]
    assert picture[1, 0, before, 8 + before] == boxes[1, 1, 0, 0, 0]
    assert picture[1, 0, 8 + before, before] == boxes[1, 3, 0, 0, 0]
    assert int((picture == 0).sum()) == picture.numel() - boxes.numel()


def test_boxes_turn_counter_clockwise_each_by_its_own():
    box = torch.arange(4.0).reshape(1, 2, 2).expand(3, 2, 2)  # 0 1 / 2 3
    quarters = torch.tensor([0, 1, 2, 3, 5, -1])
    found = turned(box.expand(6, 3, 2, 2), quarters)[:, 0].flatten(1).tolist()
    once, twice, thrice = [1, 3, 0, 2], [3, 2, 1, 0], [2, 0, 3, 1]
    assert found == [[0, 1, 2, 3], once, twice, thrice, once, thrice]


def test_hardened_boxes_lose_brightness_and_contrast_but_flat_ones_are_not_blown_up():
    box = torch.rand(1, 1, 3, 12, 12)
    cutter = Cutter(32, 2)
    done = cutter.finished(box)
    assert done.mean((-2, -1)).abs().max() < 1e-5
    assert (done.std((-2, -1)) - 1).abs().max() < 0.01
    torch.testing.assert_close(cutter.finished(0.3 * box + 0.5), done)
    flat = 0.5 + FLAT / 10 * (box - 0.5)
    assert cutter.finished(flat).std() < 0.1


def test_marks_have_one_colour_a_code_in_the_middle():
    assert torch.cdist(palette(16), palette(16)).fill_diagonal_(9).min() >= MARK * 0.75
    boxes = torch.zeros(1, 2, 3, 12, 12)
    done = marked(boxes, torch.tensor([[5, 2]]), 8)
    assert torch.equal(done[0, :, :, 6, 6], palette(8)[[5, 2]])
    assert not done[..., 0, :].any()
    both = marked(marked(boxes, torch.tensor([[5, 2]]), 8, 0, 2), torch.tensor([[1, 1]]), 8, 1, 2)
    assert torch.equal(both[0, :, :, 6, 4], palette(8)[[5, 2]])
    assert torch.equal(both[0, :, :, 6, 7], palette(8)[[1, 1]])


def test_a_shade_tells_how_a_box_was_turned():
    boxes = shaded(torch.zeros(4, 3, 8, 8))
    done = turned(boxes, torch.arange(4))
    upper, left = done[..., :4, :].mean((1, 2, 3)), done[..., :4].mean((1, 2, 3))
    assert (upper[0] > 1, left[1] > 1, upper[2] < -1, left[3] < -1) == (True,) * 4


def test_places_have_names():
    assert place_names(2) == ("upper left", "upper right", "lower left", "lower right")
    assert place_names(3)[5] == "row 2, column 3"


# ---- solvers ------------------------------------------------------------------------------------------------------


def test_edges_put_two_shuffled_images_together_again():
    images = smooth(20, 2)
    cutter = Cutter(16, 2, hardened=False)
    order = torch.stack([torch.randperm(8, generator=torch.Generator().manual_seed(s)) for s in range(20)])
    boxes = cutter.cut(images, order // 4, order % 4, torch.zeros(20, 8, 2, dtype=torch.int64))
    found = two_by_edges(boxes)
    assert (found % 4 == order % 4).float().mean() > 0.95
    same = (found[:, :1] // 4 == found // 4) == (order[:, :1] // 4 == order // 4)
    assert same.float().mean() > 0.95


def test_colours_part_boxes_of_two_images_even_if_one_is_missing():
    g = torch.Generator().manual_seed(0)
    boxes = torch.rand(6, 8, 3, 4, 4, generator=g) * 0.1
    of_first = torch.stack([torch.randperm(8, generator=g) < 4 for _ in range(6)])
    boxes[of_first] += torch.tensor([0.5, 0.0, 0.2])[:, None, None]
    found = two_by_colour(boxes)
    assert torch.equal(found == found[:, :1], of_first == of_first[:, :1])
    few = fewer_by_colour(boxes[:, 1:])
    assert torch.equal(few, of_first[:, 1:] == of_first[:, :1])


def test_edges_tell_how_quadrants_were_turned():
    images = smooth(30, 1)
    cutter = Cutter(16, 2, hardened=False)
    places = torch.arange(4).expand(30, -1)
    upright = cutter.cut(images, torch.zeros_like(places), places, torch.zeros(30, 4, 2, dtype=torch.int64))
    quarters = torch.randint(4, (30, 4), generator=torch.Generator().manual_seed(1))
    assert (turned_by_edges(turned(upright, quarters)) == quarters).float().mean() > 0.9
