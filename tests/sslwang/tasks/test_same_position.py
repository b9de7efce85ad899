"""Same position: every box of a row is from the one place, or from its own."""

import pytest
import torch

from sslwang.data.splits import Side
from sslwang.tasks.same_position import SamePosition, SamePositionSettings

SMALL = {"bs": 24, "items": 24, "valid_items": 8, "size": 32}


def task(**given):
    return SamePosition(SamePositionSettings(**{**SMALL, **given}))


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(("grid", "g"), [(2, 2), (3, 2), (2, 4)])
def test_boxes_are_cut_where_the_label_says(same, grid, g):
    items = task(same=same, grid=grid, g=g, hardened=False).items(0, "train")
    images, places, jitter = items.stack([items.item(0, i) for i in range(24)])
    picture, target = items.batch(images.float() / 255, places, jitter)
    boxes = items.cutter.taken_up(picture, grid, grid)
    cell = 32 // g
    for r in range(24):
        for k in range(grid**2):
            place = int(target[r] if same else target[r, k])
            y, x = place // g * cell, place % g * cell
            wanted = (images[r, k, :, y : y + cell, x : x + cell].float() / 255 - 0.45) / 0.25
            torch.testing.assert_close(boxes[r, k], wanted)


def test_own_places_are_drawn_with_replacement_and_one_place_is_shared():
    own = task(same=False).loaders(0).train.one_batch()[1]
    assert any(len(set(row.tolist())) < 4 for row in own)
    assert any(len(set(row.tolist())) > 1 for row in own)
    assert task().loaders(0).train.one_batch()[1].shape == (24,)


def test_a_row_takes_its_boxes_from_different_photographs(monkeypatch):
    items, chosen = task().items(0, "train"), []
    tile = Side.tile

    def spy(side, rng, size, index):
        chosen.append(index)
        return tile(side, rng, size, index)

    monkeypatch.setattr(Side, "tile", spy)
    items.item(0, 0)
    assert len(set(chosen)) == len(chosen) == 4


def test_captions():
    t = task(same=False)
    assert t.items(0, "train").caption(torch.tensor([0, 1, 2, 3])) == "ul ur / ll lr"
    assert task().items(0, "train").caption(torch.tensor(2)) == "all lower left"


@pytest.mark.parametrize("same", [True, False])
def test_the_oracle_knows_both_forms(same):
    assert task(same=same).oracle() > 0.95
