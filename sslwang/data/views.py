"""Views of images: cropped, turned, mirrored, recoloured, blurred and noisy ones, made for whole batches on any device.

A view is described by numbers that are drawn for it (`Distortion.draw`), so that one and the same view can be made
again.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.nn import functional as F

from sslwang.data.splits import FLAT, TRIES

TAPS = 9  # of the Gaussian blur: three standard deviations of the widest, 1.5 px
WIDEST = 1.5  # px, standard deviation of the blur
NUMBERS = 15  # of a view: 6 of its affine map, blur, 3 gains, 3 offsets, grey, noise
NOISE_STD = math.sqrt(1 / 12)  # of what is uniform in [0, 1]
GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601


@dataclass(frozen=True)
class Distortion:
    """How far views may differ from their images. Nothing is distorted by default.

    Args:
        zoom: smallest side of the crop, as a share of the image; where it lies is drawn too.
        turn: largest angle of a rotation either way, in degrees; what comes in at the corners is mirrored.
        quarters: turn by 0, 90, 180 or 270 degrees besides.
        mirror: swap left and right in half of the views. flip: swap top and bottom in half of them.
        blur: largest standard deviation of a Gaussian blur, in px, at most 1.5.
        gain: largest factor of a channel is 1 + gain, the smallest 1 / (1 + gain).
        offset: largest sum added to a channel, of the range 1 of the pixels.
        grey: share of the views without colour.
        noise: largest standard deviation of uniform noise, of the range 1 of the pixels.
    """

    zoom: float = 1.0
    turn: float = 0.0
    quarters: bool = False
    mirror: bool = False
    flip: bool = False
    blur: float = 0.0
    gain: float = 0.0
    offset: float = 0.0
    grey: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.zoom <= 1 or not 0 <= self.blur <= WIDEST:
            raise ValueError(f"zoom {self.zoom} must be in (0, 1] and blur {self.blur} in [0, {WIDEST}] px")

    def draw(self, rng: np.random.Generator, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (N, 15) float32 for views of images (N, S, S, 3) uint8, and noise of the shape of the images, or of
        side 0 where there is none."""
        count, size = images.shape[:2]
        side, middle = (np.stack(part) for part in zip(*(self._crop(rng, image) for image in images)))
        angle = np.radians(rng.uniform(-self.turn, self.turn, count)) + np.pi / 2 * rng.integers(
            0, 4 if self.quarters else 1, count
        )
        across = np.where(self.mirror & (rng.random(count) < 0.5), -side, side)
        down = np.where(self.flip & (rng.random(count) < 0.5), -side, side)
        cos, sin = np.cos(angle), np.sin(angle)
        where = np.stack([cos * across, -sin * down, middle[:, 0], sin * across, cos * down, middle[:, 1]], 1)
        colour = [
            (1 + self.gain) ** rng.uniform(-1, 1, (count, 3)),
            rng.uniform(-self.offset, self.offset, (count, 3)),
            rng.random((count, 1)) < self.grey,
        ]
        blur, noise = rng.uniform(0, self.blur, (count, 1)), rng.uniform(0, self.noise, (count, 1))
        field = size if self.noise else 0
        grain = rng.integers(0, 256, (count, field, field, 3), dtype=np.uint8)
        return np.concatenate([where, blur, *colour, noise], 1).astype(np.float32), grain

    def _crop(self, rng: np.random.Generator, image: np.ndarray) -> tuple[float, np.ndarray]:
        "Side, as a share, and middle in [-1, 1] of a crop, drawn again where it would show nothing."
        for _ in range(TRIES):
            side = rng.uniform(self.zoom, 1)
            middle = rng.uniform(-1, 1, 2) * (1 - side)
            left, top = (np.rint((1 + middle - side) / 2 * len(image))).astype(int)
            long = max(1, round(side * len(image)))
            if self.zoom == 1 or image[top : top + long : 4, left : left + long : 4].std() > FLAT:
                break
        return side, middle


def distorted(images: torch.Tensor, numbers: torch.Tensor, grain: torch.Tensor) -> torch.Tensor:
    """Views of images (..., 3, S, S) in [0, 1] from numbers (..., 15) and noise (..., S, S, 3), clamped to [0, 1]."""
    lead = images.shape[:-3]
    flat, n = images.flatten(0, -4), numbers.flatten(0, -2)
    where, (blur, colour, noise) = n[:, :6].unflatten(1, (2, 3)), (n[:, 6], n[:, 7:14], n[:, 14])
    flat = blurred(warped(flat, where), blur)
    gain, offset, grey = (part[..., None, None] for part in colour.split([3, 3, 1], 1))
    luma = torch.tensor(GREY, device=flat.device)[:, None, None]
    flat = torch.where(grey > 0.5, (flat * luma).sum(1, keepdim=True), flat) * gain + offset
    if grain.shape[-2]:
        field = (grain.flatten(0, -4).movedim(-1, 1) / 255 - 0.5) / NOISE_STD
        flat = flat + noise[:, None, None, None] * field
    return flat.clamp(0, 1).unflatten(0, lead)


def warped(images: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Images (N, 3, S, S) under affine maps (N, 2, 3) from places of the view to places of the image, in [-1, 1]."""
    grid = F.affine_grid(where, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def blurred(images: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Square images (N, 3, S, S) each under a Gaussian of standard deviation (N,) in px; 0 leaves an image as it is.

    One matrix product along each axis, which is faster than shifting and adding; at the edges the weights of
    what is there are scaled to sum to 1.
    """
    steps = torch.arange(images.shape[-1], device=images.device)
    apart = steps[:, None] - steps
    weights = torch.exp(-(apart**2) / (2 * std[:, None, None].clamp_min(1e-3) ** 2)) * (apart.abs() <= TAPS // 2)
    weights = (weights / weights.sum(2, keepdim=True))[:, None]
    return weights @ images @ weights.transpose(-2, -1)


def through_jpeg(tile: np.ndarray, quality: int) -> np.ndarray:
    """A tile (S, S, 3) uint8 as it comes back from a JPEG file of a quality in [1, 95]."""
    file = io.BytesIO()
    Image.fromarray(tile).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def median_blurred(tile: np.ndarray, side: int) -> np.ndarray:
    """A tile (S, S, 3) uint8 with each pixel the median of the `side` x `side` px around it, channel by channel."""
    return np.asarray(Image.fromarray(tile).filter(ImageFilter.MedianFilter(side)))
