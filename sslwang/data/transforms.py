"""Transforms of batches of images in [0, 1] that a task can ask after, from numbers drawn beforehand.

Each takes images (B, 3, S, S) and what `Draws` drew for every row, and changes every image visibly. They stand in the
order in which several are applied: what comes later does not hide what came before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from sslwang.data.boxes import turned

CONTROL = 4  # control points a side of the field that `elastic` bends images by
REFERENCE = 64  # px: size at which amounts in px are meant
SIGMA = 1.5  # px, of the blur
GRAIN = 0.15  # standard deviation of the noise
BLOCK = 4  # px a side
LEVELS = 4  # shades a channel that `posterize` leaves
BEND = 3.0  # px, standard deviation of the control points' displacement
SHUFFLES = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))  # of channels; all but the one that changes nothing


class Draws(NamedTuple):
    """Random numbers of rows.

    Args:
        choice: (B,) int64, one of 30: which of 5 shuffles, which of 3 turns.
        field: (B, 2, 4, 4) float32, standard normal.
        grain: (B, 3, S, S) float32, standard normal; (B, 0, S, S) where there is no noise to be added.
    """

    choice: torch.Tensor
    field: torch.Tensor
    grain: torch.Tensor


def draws(rng: np.random.Generator, size: int, noise: bool) -> tuple[np.ndarray, ...]:
    """`Draws` of one row, from `rng`."""
    return (
        rng.integers(30),
        rng.standard_normal((2, CONTROL, CONTROL), dtype=np.float32),
        rng.standard_normal((3 if noise else 0, size, size), dtype=np.float32),
    )


def upside_down(images: torch.Tensor, d: Draws, strength: float) -> torch.Tensor:
    """Upper and lower edge exchanged."""
    return images.flip(-2)


def quarter_turn(images: torch.Tensor, d: Draws, strength: float) -> torch.Tensor:
    """Turned by 90, 180 or 270 degrees."""
    return turned(images, d.choice % 3 + 1)


def elastic(images: torch.Tensor, d: Draws, strength: float) -> torch.Tensor:
    """Bent by a smooth random field."""
    size = images.shape[-1]
    smooth = F.interpolate(d.field, size=(size, size), mode="bicubic", align_corners=True)
    return moved(images, strength * BEND * size / REFERENCE * smooth)


def moved(images: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """Images sampled at their own pixels plus a field (B, 2, S, S or 1, S or 1) in px, across and down; bilinear."""
    size = images.shape[-1]
    line = torch.linspace(-1, 1, size, device=images.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    places = torch.stack([x, y], -1) + (2 / (size - 1) * field).movedim(1, -1)
    return F.grid_sample(images, places, mode="bilinear", padding_mode="reflection", align_corners=True)


def shuffled_channels(images: torch.Tensor, d: Draws, strength: float) -> torch.Tensor:
    """Red, green and blue exchanged, in one of the five other orders."""
    order = torch.tensor(SHUFFLES, device=images.device)[d.choice % len(SHUFFLES)]
    return images.gather(1, order[:, :, None, None].expand_as(images))


def grey(images: torch.Tensor, d: Draws, strength: float) -> torch.Tensor:
    """Without colour."""
    return images.mean(1, keepdim=True).expand_as(images)


def inverted(images: torch.Tensor, d: Draws, strength: float) -> torch.Tensor:
    """A negative."""
    return 1 - images


def posterized(images: torch.Tensor, d: Draws, strength: float) -> torch.Tensor:
    """Few shades a channel; strength 2 leaves two."""
    last = max(1, round(LEVELS / strength) - 1)
    return (images * last).round() / last


def pixelated(images: torch.Tensor, d: Draws, strength: float) -> torch.Tensor:
    """Blocks of one colour; strength 2 doubles their side."""
    size = images.shape[-1]
    count = max(2, round(size / (BLOCK * strength * size / REFERENCE)))
    return F.interpolate(F.adaptive_avg_pool2d(images, count), size=(size, size), mode="nearest")


def blurred(images: torch.Tensor, d: Draws, strength: float) -> torch.Tensor:
    """Convolved with a Gaussian."""
    return softened(images, strength * SIGMA * images.shape[-1] / REFERENCE)


def softened(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Images convolved with a Gaussian whose standard deviation is `sigma` px; borders are reflected."""
    reach = min(max(1, int(3 * sigma + 0.5)), images.shape[-1] - 1)
    steps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    bell = torch.exp(-(steps**2) / (2 * sigma**2))
    kernel = (bell / bell.sum()).expand(3, 1, -1)
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    across = F.conv2d(padded, kernel[:, :, None], groups=3)
    return F.conv2d(across, kernel[:, :, :, None], groups=3)


def noisy(images: torch.Tensor, d: Draws, strength: float) -> torch.Tensor:
    """With normal noise, cut off at black and white."""
    return (images + strength * GRAIN * d.grain).clamp(0, 1)


TRANSFORMS: dict[str, Callable[[torch.Tensor, Draws, float], torch.Tensor]] = {
    "upside-down": upside_down,
    "quarter-turn": quarter_turn,
    "elastic": elastic,
    "channel-shuffle": shuffled_channels,
    "grey": grey,
    "invert": inverted,
    "posterize": posterized,
    "pixelate": pixelated,
    "blur": blurred,
    "noise": noisy,
}


def applied(
    images: torch.Tensor, names: Sequence[str], which: torch.Tensor, d: Draws, strength: float = 1.0
) -> torch.Tensor:
    """Images after the transforms of which `which` (B, len(names)) is true, in the order of `TRANSFORMS`."""
    for name, transform in TRANSFORMS.items():
        if name in names:
            chosen = which[:, list(names).index(name)].bool()[:, None, None, None]
            images = torch.where(chosen, transform(images, d, strength), images)
    return images
