"""A missing box filled in without learning, and how near an answer comes: what networks that generate it are beside."""

from __future__ import annotations

import math

import torch

from sslwang.data.pixels import STD

PEAK = 1 / STD  # from black to white in the units of boxes, standard deviations of photographs


def psnr(pixels: torch.Tensor, target: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pixels (B, 3, h, w): 20 lg of `PEAK` over the root of the mean squared error
    of all of them; infinite where nothing differs.
    """
    error = (pixels - target).square().mean().item()
    return 10 * math.log10(PEAK**2 / error) if error > 0 else math.inf


def mean_colour(cells: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """The mean colour of the visible boxes of the same image.

    Args:
        cells: (B, N, 3, h, h), boxes as they lie.
        same: (B, N), which are visible and of the image that lost one; where there is none the answer is grey, 0.

    Returns:
        (B, 3, h, h).
    """
    weights = same.to(cells.dtype)
    colour = (cells.mean((-2, -1)) * weights[..., None]).sum(1) / weights.sum(1, keepdim=True).clamp_min(1)
    return colour[..., None, None].expand_as(cells[:, 0])


def nearest_box(
    cells: torch.Tensor, visible: torch.Tensor, missing: torch.Tensor, layout: tuple[int, int]
) -> torch.Tensor:
    """A copy of the visible box that lies nearest, of several the first in raster order.

    Args:
        cells: (B, N, 3, h, h). visible: (B, N).
        missing: (B,), which cell is to be filled.
        layout: rows and columns of the grid.

    Returns:
        (B, 3, h, h).
    """
    at = torch.cartesian_prod(*(torch.arange(k, device=cells.device) for k in layout)).float()  # (N, 2)
    away = torch.cdist(at[missing], at).masked_fill(~visible, torch.inf)
    return cells[torch.arange(len(cells), device=cells.device), away.argmin(1)]


def from_borders(
    cells: torch.Tensor, visible: torch.Tensor, missing: torch.Tensor, layout: tuple[int, int]
) -> torch.Tensor:
    """Interpolated between the edges that up to four neighbours turn to the missing box.

    Each pixel is the mean of the pixels that it faces on those edges, weighted by the inverse of the distance in px.
    Without a visible neighbour the answer is grey, 0. Args and result as of `nearest_box`.
    """
    rows, columns = layout
    side = cells.shape[-1]
    every = torch.arange(len(cells), device=cells.device)
    near = 1 / torch.arange(1, side + 1, device=cells.device, dtype=cells.dtype)  # to the left or upper edge
    total, weights = torch.zeros_like(cells[:, 0]), torch.zeros_like(cells[:, 0, :1])
    for down, across in ((0, -1), (0, 1), (-1, 0), (1, 0)):
        y, x = missing // columns + down, missing % columns + across
        inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
        which = torch.where(inside, y * columns + x, 0)
        there = (inside & visible[every, which]).to(cells.dtype)[:, None, None, None]
        facing = 0 if down + across > 0 else side - 1
        weight = near if down + across < 0 else near.flip(0)
        box = cells[every, which]
        edge, weight = (box[..., :, facing, None], weight) if across else (box[..., facing, None, :], weight[:, None])
        total += there * weight * edge
        weights += there * weight
    return total / weights.clamp_min(torch.finfo(cells.dtype).tiny)
