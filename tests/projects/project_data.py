"""What the little projects read: crops of photographs that come with scikit-image, and handwritten digits."""

from functools import cache

import numpy as np
import torch
from skimage import data
from sklearn.datasets import load_digits

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")


def photos(split: str, size: int = 16) -> torch.Tensor:
    """Crops shrunk fourfold, 72 of "train" or 24 of "valid": (count, 3, size, size) in [0, 1]."""
    crops = _crops(size)
    held_out = torch.arange(len(crops)) % 4 == 3
    return crops[held_out if split == "valid" else ~held_out]


@cache
def _crops(size: int, each: int = 24) -> torch.Tensor:
    crops = []
    for number, name in enumerate(PHOTOS):
        picture, rng = getattr(data, name)(), np.random.default_rng(number)
        for _ in range(each):
            top, left = (rng.integers(0, side - 4 * size) for side in picture.shape[:2])
            crop = picture[top : top + 4 * size, left : left + 4 * size]
            crops.append(crop.reshape(size, 4, size, 4, 3).mean((1, 3)) / 255)
    return torch.tensor(np.stack(crops), dtype=torch.float32).permute(0, 3, 1, 2).contiguous()


@cache
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (1797, 1, 8, 8) in [0, 1] and their classes."""
    bunch = load_digits()
    return torch.tensor(bunch.images[:, None] / 16, dtype=torch.float32), torch.tensor(bunch.target)
