"""Odd rotation: both angles are drawn, three boxes share one, and turning all alike changes no label."""

from collections import Counter

import torch

from sslwang.data.boxes import turned
from sslwang.tasks.odd_rotation import OddRotation, OddRotationSettings


def drawn(count=400, **given):
    settings = OddRotationSettings(**{"bs": 8, "items": count, "valid_items": 8, "size": 32, **given})
    items = OddRotation(settings).items(0, "train")
    return items, items.stack([items.item(0, i) for i in range(count)])


def test_three_share_an_angle_that_is_not_always_0():
    items, (images, places, quarters, jitter) = drawn()
    _, target = items.batch(images.float() / 255, places, quarters, jitter)
    common, pairs = Counter(), Counter()
    for row, label in zip(quarters.tolist(), target.tolist()):
        (a, three), (b, one) = Counter(row).most_common()
        assert (three, one) == (3, 1)
        assert row[label] == b
        common[a] += 1
        pairs[a, b] += 1
    assert min(common.values()) > 60
    assert len(pairs) == 12
    assert max(Counter(target.tolist()).values()) < 140


def test_turning_every_box_once_more_keeps_the_label_and_turns_the_picture():
    items, (images, places, quarters, jitter) = drawn(16)
    images = images.float() / 255
    picture, target = items.batch(images, places, quarters, jitter)
    more, again = items.batch(images, places, quarters + 1, jitter)
    assert torch.equal(target, again)
    boxes, once_more = (items.cutter.taken_up(p, 2, 2) for p in (picture, more))
    assert torch.equal(turned(boxes, torch.ones(16, 4, dtype=torch.int64)), once_more)
