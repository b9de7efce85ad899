"""Split direction: columns are halves, and nothing but the content tells which."""

import pytest
import torch

from sslwang.tasks.split_direction import SplitDirection, SplitDirectionSettings

ROWS = 600


def drawn(**given):
    settings = SplitDirectionSettings(**{"bs": 8, "items": ROWS, "valid_items": 8, "size": 16, **given})
    items = SplitDirection(settings).items(0, "train")
    return items, items.stack([items.item(0, i) for i in range(ROWS)])


@pytest.mark.parametrize("hardened", [True, False])
def test_columns_are_left_and_right_or_top_and_bottom(hardened):
    items, (images, label, places, quarters, jitter) = drawn(hardened=hardened)
    halves = {0: [{0, 2}, {1, 3}], 1: [{0, 1}, {2, 3}]}
    for row, y in zip(places.tolist(), label.tolist()):
        columns = [{row[0], row[2]}, {row[1], row[3]}]
        assert columns in (halves[y], halves[y][::-1])
    assert torch.equal(items.batch(images.float() / 255, label, places, quarters, jitter)[1], label.float())
    if not hardened:
        assert not quarters.any()
        assert len({tuple(p) for p in places.tolist()}) == 2


def test_turns_and_order_say_nothing_of_the_label():
    _, (_, label, places, quarters, _) = drawn()
    for k in range(4):
        for said in ((quarters == k), (places[:, 0] == k)):
            assert abs(label[said].float().mean() - 0.5) < 0.15
    assert quarters.bincount(minlength=4).min() > 100
    assert len({tuple(p) for p in places.tolist()}) == 16


def test_boxes_are_turned_alike():
    items, (images, label, places, quarters, jitter) = drawn(hardened=True)
    images = images.float() / 255
    picture, _ = items.batch(images, label, places, quarters, jitter)
    upright = items.upright(images, places, jitter)
    boxes = items.cutter.taken_up(picture, 2, 2)
    for r in range(20):
        assert torch.equal(boxes[r], upright[r].rot90(int(quarters[r]), (-2, -1)))
