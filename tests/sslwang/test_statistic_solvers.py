"""Solvers over a few numbers of a picture: they find what is there, and nothing where there is nothing."""

import torch

from sslwang.statistic_solvers import fitted, fitted_classes, sharpness


def test_a_square_is_fitted_on_rows_held_out_and_noise_is_not():
    g = torch.Generator().manual_seed(0)
    x, noise = torch.randn(400, 2, generator=g), torch.randn(400, 1, generator=g)
    y = x[:, :1] ** 2 - x[:, 1:]
    assert (fitted(x, y) - y).square().mean() < 0.01 * y.var()
    assert (fitted(x, noise) - noise).square().mean() > 0.95 * noise.var()


def test_classes_apart_are_found_and_labels_at_random_are_not():
    g = torch.Generator().manual_seed(0)
    y = torch.randint(3, (600,), generator=g)
    centres = torch.tensor([[0.0, 0], [2, 0], [0, 2]])
    x = centres[y] + 0.2 * torch.randn(600, 2, generator=g)
    assert fitted_classes(x, y) > 0.97
    assert fitted_classes(torch.randn(600, 2, generator=g), y) < 0.45


def test_features_that_are_all_alike_do_no_harm():
    y = torch.arange(40) % 2
    assert fitted_classes(torch.ones(40, 3), y) <= 0.6


def test_sharpness_falls_where_images_are_sampled_between_pixels_and_ignores_contrast():
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    between = (image[..., 1:] + image[..., :-1]) / 2
    assert sharpness(between)[0, 0] < sharpness(image)[0, 0] - 0.5
    torch.testing.assert_close(sharpness(3 * image + 1), sharpness(image), atol=1e-4, rtol=1e-4)
