import numpy as np
import torch

from sslwang.data.views import Distortion, distorted
from sslwang.losses import Triplet
from sslwang.tasks.hard_pairs import HardPairs, aligned_likeness

SMALL = {"bs": 64, "items": 64, "valid_items": 8, "size": 32}


def test_triplets_have_one_positive_in_a_random_place():
    *images, labels = HardPairs().under(form="triplet", views="copies", **SMALL).loaders(0).train.one_batch()
    assert (labels.sum(1) == 1).all()
    assert 0.3 < labels[:, 0].mean() < 0.7
    same = torch.stack([(images[0] == x).flatten(1).all(1) for x in images[1:]], 1)
    assert torch.equal(same, labels > 0.5)


def test_each_form_has_its_own_head_loss_and_metric():
    pair, triplet = HardPairs().under(form="pair"), HardPairs().under(form="triplet")
    assert (pair.metric, pair.losses(), triplet.metric) == ("accuracy", ("bce",), "ordered")
    assert (triplet.heads(), triplet.losses()) == (("embed-l2",), ("triplet",))
    assert triplet.best_constant() == Triplet().margin
    assert triplet.oracle(128) > 0.95


def test_the_oracle_undoes_rotation_and_flip():
    images = (
        HardPairs().under(hardened=False, views="copies", **SMALL).loaders(0).train.one_batch()[0][:16] * 0.25 + 0.45
    )
    pixels = (images.clamp(0, 1) * 255).byte().movedim(1, -1).numpy()
    numbers, grain = Distortion(turn=90, flip=True).draw(np.random.default_rng(1), pixels)
    turned = distorted(images, torch.from_numpy(numbers), torch.from_numpy(grain))
    assert aligned_likeness(images, turned[:, None]).median() > 0.95
    assert aligned_likeness(images, turned.roll(1, 0)[:, None]).median() < 0.7
