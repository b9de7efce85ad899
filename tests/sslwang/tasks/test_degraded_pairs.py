import numpy as np
import pytest
import torch

from sslwang.tasks.degraded_pairs import DegradedPairs

SMALL = {"bs": 32, "items": 32, "valid_items": 8, "size": 32}


@pytest.mark.parametrize("by", ["blur", "jpeg", "either"])
def test_both_pictures_are_degraded_and_still_recognised(by):
    task = DegradedPairs().under(by=by, hardened=False, **SMALL)
    one, other, labels = task.loaders(0).train.one_batch()
    same = labels[:, 0] > 0.5
    gap = (one - other).abs().mean((1, 2, 3))
    assert (gap[same] > 0).float().mean() > 0.6  # each by itself; of three medians two are the same in a third of rows
    assert gap[same].median() < gap[~same].median() / 3
    assert task.oracle(128) > 0.95


def test_copies_are_degraded_once():
    one, other, labels = DegradedPairs().under(views="copies", **SMALL).loaders(0).train.one_batch()
    assert torch.equal((one == other).flatten(1).all(1), labels[:, 0] > 0.5)


@pytest.mark.parametrize("negatives", ["photo", "crop"])
def test_negatives_come_from_another_photograph_or_from_the_same(negatives):
    items = DegradedPairs().under(negatives=negatives, **SMALL).items(0, "train")
    seen = []

    class Recorded:
        images = items.side.images

        def tile(self, rng, size, index):
            seen.append(index)
            return np.zeros((size, size, 3), np.uint8)

        def tiles(self, rng, size, count, distinct=True):
            return np.stack([self.tile(rng, size, int(i)) for i in rng.permutation(len(self.images))[:count]])

    items.side = Recorded()
    rows = [items.item(0, i) for i in range(16)]
    negative = [i for i, row in enumerate(rows) if not row[1][0]]
    assert len(negative) > 3
    pairs = {}
    for row in rows:
        pairs[id(row)] = [seen.pop(0) for _ in range(1 if row[1][0] else 2)]
    for i in negative:
        a, b = pairs[id(rows[i])]
        assert (a == b) == (negatives == "crop")


def test_blur_and_jpeg_are_what_the_settings_say():
    raw = {"hardened": False, "views": "copies", **SMALL}
    blur, jpeg = (DegradedPairs().under(by=by, **raw).loaders(0).train.one_batch()[0] for by in ("blur", "jpeg"))
    edges = [float((x[..., 8:-1:8] - x[..., 7:-2:8]).abs().mean() / x.diff().abs().mean()) for x in (blur, jpeg)]
    assert edges[0] < 1.2 < 1.4 < edges[1]  # JPEG steps at the borders of its blocks of 8 px
