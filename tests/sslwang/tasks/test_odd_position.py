"""Odd position: three places agree and the label is the fourth."""

from collections import Counter

import numpy as np
import torch

from sslwang.tasks.odd_position import OddPosition, OddPositionSettings, odd_one


def task(**given):
    return OddPosition(OddPositionSettings(**{"bs": 8, "items": 8, "valid_items": 8, "size": 32, **given}))


def test_the_odd_one_by_hand():
    values = torch.tensor([[0, 0, 1, 0], [3, 2, 2, 2], [1, 1, 1, 0], [2, 0, 2, 2]])
    assert odd_one(values).tolist() == [2, 0, 3, 1]


def test_reordering_the_cells_reorders_the_answer():
    values = torch.tensor([[0, 0, 1, 0]] * 4)
    order = torch.stack([torch.arange(4).roll(k) for k in range(4)])
    answer = odd_one(values.gather(1, order))
    assert order.gather(1, answer[:, None])[:, 0].tolist() == [2] * 4


def test_three_agree_and_cells_and_places_come_equally_often():
    items = task(items=1200).items(0, "train")
    odd, common, pairs = Counter(), Counter(), Counter()
    for i in range(1200):
        places = items.places(np.random.default_rng(i))
        (a, three), (b, one) = Counter(places.tolist()).most_common()
        assert (three, one) == (3, 1)
        odd[places.tolist().index(b)] += 1
        common[a] += 1
        pairs[a, b] += 1
    assert max(odd.values()) < 360
    assert max(common.values()) < 360
    assert len(pairs) == 12
