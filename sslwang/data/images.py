"""Image files of any kind as 8-bit RGB, and folders of them.

Files arrive as grey, palette, RGBA, CMYK or with 16 bits a channel (about one in a hundred of Image-wang is grey);
every one leaves as 8-bit RGB, so nothing further down needs to know.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fastai.data.transforms import get_image_files
from PIL import Image, ImageOps

from diagnose.errors import DiagnoseError

KEPT = 256  # decoded images that one folder keeps in memory
SHORTER_SIDE = 256  # px; with crops of 64 to 220 px a larger photograph would only ever show texture


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of an image of any mode; transparent parts become white, 16-bit and float samples are scaled."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        samples = np.asarray(image, dtype=np.float64)
        low, high = samples.min(), samples.max()
        return Image.fromarray(((samples - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def open_rgb(path: str | os.PathLike, shorter_side: int | None = None) -> Image.Image:
    """Decode one file as 8-bit RGB, upright, its shorter side at most `shorter_side` px.

    Raises:
        DiagnoseError: the file is missing, unreadable, damaged or not an image; the message names it.
    """
    try:
        with Image.open(path) as image:
            if shorter_side is not None:
                image.draft("RGB", (shorter_side, shorter_side))
            rgb = to_rgb(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise DiagnoseError(f"{path}: not a readable image ({e})") from e
    if shorter_side is not None and min(rgb.size) > shorter_side:
        scale = shorter_side / min(rgb.size)
        rgb = rgb.resize((round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.BOX)
    return rgb


class ImageFiles(Sequence):
    """Image files as a sequence of 8-bit RGB images, decoded when asked for; the last few hundred stay in memory.

    Args:
        paths: the files, in the order of the sequence.
        shorter_side: larger images are shrunk to this many px on their shorter side; None keeps them as they are.
        keep: how many decoded images to hold.
    """

    def __init__(self, paths: Sequence[Path], shorter_side: int | None = SHORTER_SIDE, keep: int = KEPT):
        self.paths, self.shorter_side, self.keep = list(paths), shorter_side, keep
        self._decode = functools.lru_cache(maxsize=keep)(functools.partial(open_rgb, shorter_side=shorter_side))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        return self._decode(self.paths[index])

    def __reduce__(self):
        return type(self), (self.paths, self.shorter_side, self.keep)


def files_in(folder: str | os.PathLike) -> list[Path]:
    """Every image file under a folder, recursively, sorted by path; the header of each has been read.

    Raises:
        DiagnoseError: the folder is missing, unreadable, holds no image file, or a file in it is no image.
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise DiagnoseError(f"{folder}: no such folder; data.source takes photos, imagewang or a folder of images")
    if not folder.is_dir():
        raise DiagnoseError(f"{folder}: not a folder; data.source takes photos, imagewang or a folder of images")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DiagnoseError(f"{folder}: permission denied")
    paths = sorted(get_image_files(folder))
    if not paths:
        raise DiagnoseError(f"{folder}: no image file in it or below it")
    for path in paths:
        try:
            with Image.open(path):
                pass
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
            raise DiagnoseError(f"{path}: not a readable image ({e})") from e
    return paths
