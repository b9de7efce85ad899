"""Pictures of any range are stretched to be looked at, and a few odd values do not spoil them."""

import torch

from sslwang.data.pictures import viewable


def test_the_range_becomes_black_to_white_and_channels_come_last():
    ramp = torch.linspace(-3, 5, 64 * 64).reshape(1, 64, 64).expand(3, -1, -1)
    seen = viewable(ramp)
    assert seen.shape == (64, 64, 3)
    assert seen.min() == 0
    assert seen.max() == 1
    assert torch.allclose(seen[..., 0], ((ramp[0] + 3) / 8), atol=0.006)


def test_one_bright_and_one_dark_pixel_leave_the_rest_as_it_is():
    torch.manual_seed(0)
    image = torch.rand(3, 32, 32)
    spoiled = image.clone()
    spoiled[:, 5, 5], spoiled[:, 9, 9] = 100.0, -100.0
    before, after = viewable(image), viewable(spoiled)
    assert (before - after).abs()[10:].max() < 0.02
    assert (after[5, 5] == 1).all()
    assert (after[9, 9] == 0).all()


def test_a_flat_picture_with_a_spot_still_shows_the_spot():
    image = torch.zeros(3, 32, 32)
    image[:, 3, 4] = 1.0
    seen = viewable(image)
    assert (seen[3, 4] == 1).all()
    assert seen.sum() == 3
    assert not viewable(torch.full((3, 8, 8), 7.0)).any()


def test_what_is_not_finite_does_not_matter_to_the_rest():
    image = torch.linspace(0, 1, 32 * 32).reshape(1, 32, 32).repeat(3, 1, 1)
    spoiled = image.clone()
    spoiled[:, 0, 0], spoiled[:, 0, 1] = torch.nan, torch.inf
    assert viewable(spoiled).isfinite().all()
    assert torch.allclose(viewable(spoiled)[1:], viewable(image)[1:], atol=0.01)
    assert not viewable(torch.full((3, 4, 4), torch.nan)).any()


def test_together_they_keep_their_order_of_brightness():
    dark, bright = torch.rand(3, 16, 16), torch.rand(3, 16, 16) + 2
    assert viewable(dark, [dark, bright]).max() < viewable(bright, [dark, bright]).min()
