"""Mixup ratio: the larger share of what was mixed, its constants, and gratings."""

import numpy as np
import pytest
import torch

from sslwang.tasks.mixup_ratio import MixupRatio, MixupRatioSettings, grating, larger_shares, r2


def task(**given):
    return MixupRatio(MixupRatioSettings(**{"bs": 16, "items": 16, "valid_items": 8, "size": 32, **given}))


def test_the_mixture_is_made_of_standardised_sources_and_the_label_is_the_larger_share():
    items = task(hardened=False).items(0, "train")
    images, p = items.stack([items.item(0, i) for i in range(16)])
    mixture, share = items.batch(images.float() / 255, p)
    x = images.double() / 255
    s = (x - x.mean((-2, -1), keepdim=True)) / x.std((-2, -1), keepdim=True, correction=0).clamp_min(0.01)
    by_hand = p[:, None, None, None] * s[:, 0] + (1 - p)[:, None, None, None] * s[:, 1]
    torch.testing.assert_close(mixture.double(), by_hand, atol=1e-4, rtol=1e-4)
    assert torch.equal(share, torch.maximum(p, 1 - p))


def test_exchanging_the_sources_changes_nothing():
    items = task().items(0, "train")
    images, p = items.stack([items.item(0, i) for i in range(16)])
    images = images.float() / 255
    one, other = items.batch(images, p), items.batch(images.flip(1), 1 - p)
    torch.testing.assert_close(one[0], other[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one[1], other[1])


def test_hardened_mixtures_have_all_the_same_contrast():
    mixture, _ = task(size=64).loaders(0).train.one_batch()
    assert (mixture.std((-2, -1)) - 1).abs().max() < 0.01


@pytest.mark.parametrize(("alpha", "beta", "mean", "variance"), [(5, 8, 0.645, 0.0092), (1, 1, 0.75, 1 / 48)])
def test_constants_of_the_larger_share(alpha, beta, mean, variance):
    value, weight = larger_shares(alpha, beta)
    assert (value * weight).sum() == pytest.approx(mean, abs=1e-3)
    assert task(alpha=alpha, beta=beta).best_constant() == pytest.approx(variance, rel=0.01)
    p = np.random.default_rng(0).beta(alpha, beta, 40_000)
    share = np.maximum(p, 1 - p)
    assert share.mean() == pytest.approx(mean, abs=5e-3)
    l1 = task(alpha=alpha, beta=beta, loss={"kind": "l1"}).best_constant()
    assert np.abs(share - np.median(share)).mean() == pytest.approx(l1, rel=0.02)
    bins = np.bincount(((share - 0.5) * 10).astype(int), minlength=5) / len(p)
    np.testing.assert_allclose(task(alpha=alpha, beta=beta, target="bins").shares()[0], bins, atol=0.01)


def test_bins_are_fifths_of_a_half():
    items = task(target="bins").items(0, "train")
    images, _ = items.stack([items.item(0, i) for i in range(6)])
    p = torch.tensor([0.5, 0.41, 0.61, 0.25, 0.85, 0.999])
    assert items.batch(images.float() / 255, p)[1].tolist() == [0, 0, 1, 2, 3, 4]
    assert items.words()[0] == "larger share 0.5 to 0.6"


def test_the_network_answers_within_range():
    t = task()
    picture, _ = t.loaders(0).train.one_batch()
    said = t.learner(0).model(100 * picture)
    assert said.shape == (16,)
    assert said.min() >= 0.5
    assert said.max() <= 1


def test_r2_by_hand():
    share = torch.tensor([0.5, 0.6, 0.7, 0.8])
    assert r2(share, share) == 1
    assert r2(torch.full((4,), 0.65), share) == pytest.approx(0, abs=1e-6)
    assert task().score(torch.zeros(4), share) == 0


def test_a_grating_varies_along_the_rows_only():
    wave = grating(np.random.default_rng(0), 64).astype(float)
    assert wave.shape == (64, 64, 3)
    assert wave.std(0).max() == 0
    assert wave.std(1).min() > 50


@pytest.mark.parametrize("mode", ["plain", "gratings"])
def test_the_oracle_knows_every_mode(mode):
    assert task(mode=mode, target="bins").oracle() > 0.95
