"""Transforms that tasks ask after: each changes every image, and nothing but the rows that are meant."""

import itertools

import numpy as np
import pytest
import torch

from sslwang.data.transforms import TRANSFORMS, Draws, applied, draws, moved, softened

SIZE = 64


def drawn(rows=6, seed=0):
    rng = np.random.default_rng(seed)
    return Draws(*(torch.from_numpy(np.stack(p)) for p in zip(*(draws(rng, SIZE, True) for _ in range(rows)))))


def images(rows=6):
    g = torch.Generator().manual_seed(3)
    coarse = torch.rand(rows, 3, 12, 12, generator=g)
    return torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear", align_corners=True)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_image_is_changed_and_stays_one(name):
    x = images()
    done = TRANSFORMS[name](x, drawn(), 1.0)
    assert done.shape == x.shape
    assert done.min() >= -1e-5
    assert done.max() <= 1 + 1e-5
    assert (done - x).abs().flatten(1).mean(1).min() > 0.004
    assert torch.equal(done, TRANSFORMS[name](x, drawn(), 1.0))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_only_the_rows_that_are_meant_are_changed(name):
    x, which = images(4), torch.tensor([[0], [1], [0], [1]])
    done = applied(x, [name], which, drawn(4))
    assert torch.equal(done[::2], x[::2])
    assert not torch.equal(done[1], x[1])
    assert not torch.equal(done[3], x[3])


def test_every_choice_of_the_default_five_looks_different():
    names = ["grey", "posterize", "pixelate", "blur", "noise"]
    choices = torch.tensor(list(itertools.product((0, 1), repeat=5)))
    x = images(1).expand(32, -1, -1, -1)
    d = Draws(*(t.expand(32, *t.shape[1:]) for t in drawn(1)))
    done = applied(x, names, choices, d).flatten(1)
    assert (torch.cdist(done, done) / done.shape[1] ** 0.5).fill_diagonal_(1).min() > 0.003


@pytest.mark.parametrize("name", ["blur", "noise", "pixelate", "elastic", "posterize"])
def test_strength_makes_more_of_it(name):
    x, d = images(), drawn()
    weak, strong = ((TRANSFORMS[name](x, d, s) - x).square().mean() for s in (1.0, 2.0))
    assert strong > 1.3 * weak


def test_shuffled_channels_and_turns_by_hand():
    x, d = images(30), drawn(30)
    done = TRANSFORMS["channel-shuffle"](x, d, 1.0)
    torch.testing.assert_close(done.sort(1).values, x.sort(1).values)
    assert (done != x).flatten(1).any(1).all()
    turns = TRANSFORMS["quarter-turn"](x, d, 1.0)
    for k in range(30):
        assert any(torch.equal(turns[k], x[k].rot90(q, (-2, -1))) for q in (1, 2, 3))
    assert torch.equal(TRANSFORMS["upside-down"](x, d, 1.0)[:, :, 0], x[:, :, -1])


def test_a_field_of_whole_pixels_moves_pixels_and_none_moves_nothing():
    x = images(2)
    torch.testing.assert_close(moved(x, torch.zeros(2, 2, 1, 1)), x, atol=1e-4, rtol=0)
    across = torch.tensor([2.0, 0.0])[None, :, None, None].expand(2, -1, 1, 1)
    torch.testing.assert_close(moved(x, across)[..., :-2], x[..., 2:], atol=1e-4, rtol=0)


def test_softening_keeps_the_mean_of_flat_images_and_takes_detail():
    flat = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(softened(flat, 1.0), flat)
    noise = torch.rand(1, 3, 64, 64)
    assert 0.2 < softened(noise, 1.0).std() / noise.std() < 0.4  # 1 / (2 sqrt(pi) sigma) = 0.28
