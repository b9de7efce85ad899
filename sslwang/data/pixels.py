"""Arithmetic on batches of images that the tasks share: to floats, hardening, cutting into boxes and putting together.

Everything works on tensors (..., 3, H, W) on any device; what is random is drawn by the caller and handed in.
"""

from __future__ import annotations

import math

import torch

MEAN, STD = 0.45, 0.25  # of photographs in [0, 1], all channels alike; where images keep their own brightness
LEAST_STD = 1e-2  # of a channel; flatter ones are not blown up into noise


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1] to about mean 0 and standard deviation 1 over all photographs; each keeps its own brightness."""
    return (images - MEAN) / STD


def standardised(images: torch.Tensor, out: torch.Tensor | None = None, white: float = 1.0) -> torch.Tensor:
    """Each image (..., 3, H, W) with mean 0 and standard deviation 1 in every channel.

    Args:
        images: floats in [0, white].
        out: where they are written, which may be the images themselves.
        white: so that what comes as bytes need not be divided by 255 first.
    """
    centred = torch.sub(images, images.mean((-2, -1), keepdim=True), out=out)
    norm = torch.linalg.vector_norm(centred, dim=(-2, -1), keepdim=True)  # without a copy of the squares
    return centred.div_(norm.div_(math.sqrt(images.shape[-2] * images.shape[-1])).clamp_min_(white * LEAST_STD))


def boxes(images: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Images (..., 3, H, W) cut into a grid: (..., rows * columns, 3, H / rows, W / columns), in raster order.

    Raises:
        ValueError: the grid does not divide the image.
    """
    *lead, channels, height, width = images.shape
    if height % rows or width % columns:
        raise ValueError(f"{rows} x {columns} boxes do not divide an image of {height} x {width} px")
    cut = images.reshape(*lead, channels, rows, height // rows, columns, width // columns)
    axes = len(lead)
    order = [*range(axes), axes + 1, axes + 3, axes, axes + 2, axes + 4]
    return cut.permute(order).flatten(axes, axes + 1)


def composed(cells: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Boxes (..., rows * columns, 3, h, w) in raster order put together: (..., 3, rows * h, columns * w)."""
    *lead, _, channels, height, width = cells.shape
    axes = len(lead)
    grid = cells.reshape(*lead, rows, columns, channels, height, width)
    order = [*range(axes), axes + 2, axes, axes + 3, axes + 1, axes + 4]
    return grid.permute(order).reshape(*lead, channels, rows * height, columns * width)
