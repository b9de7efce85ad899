"""Image files of any kind as 8-bit RGB, folders of them, and arrays of pixels that look the same from outside.

Files arrive as grey, palette, RGBA, CMYK or with 16 bits a channel (about one in a hundred of Image-wang is grey);
every one leaves as 8-bit RGB, so nothing further down needs to know.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from fastai.data.external import fastai_path
from fastai.data.transforms import image_extensions
from PIL import Image, ImageOps

from diagnose.errors import DiagnoseError

KEPT = 256  # decoded images that one folder keeps in memory
SHORTER_SIDE = 256  # px; with crops of 64 to 220 px a larger photograph would only ever show texture
SOURCES = "data.source takes photos, imagewang, fashion-mnist, digits, faces or a folder of images"
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}  # what the last bytes of a whole file contain
TAIL = 64  # bytes in which that is looked for; some cameras write a little after it
BAD = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # that Pillow raises over a damaged file


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
    except BAD as e:
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


class ArrayImages(Sequence):
    """Pixels (N, H, W) or (N, H, W, 3) uint8 as a sequence of 8-bit RGB images."""

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index]).convert("RGB")


class Chosen(Sequence):
    """Some images of a sequence, in the order of `places` (n,)."""

    def __init__(self, images: Sequence[Image.Image], places: np.ndarray):
        self.images, self.places = images, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Image.Image:
        return self.images[int(self.places[index])]


def folder_of(path: str | os.PathLike) -> Path:
    """A folder that is there and may be read.

    Raises:
        DiagnoseError: it is missing, no folder, or unreadable.
    """
    folder = Path(path).expanduser()
    try:
        if not folder.exists():
            raise DiagnoseError(f"{folder}: no such folder; {SOURCES}")
        if not folder.is_dir():
            raise DiagnoseError(f"{folder}: not a folder; {SOURCES}")
    except PermissionError as e:
        raise DiagnoseError(f"{folder}: permission denied") from e
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DiagnoseError(f"{folder}: permission denied")
    return folder


def kept_in(kind: str) -> Path:
    """fastai's folder for `data` or `archive`, below `$FASTAI_HOME` (`~/.fastai` if that is not set).

    Raises:
        DiagnoseError: fastai's own folder cannot be made.
    """
    try:
        return Path(fastai_path(kind))
    except OSError as e:
        raise DiagnoseError(f"{e.filename}: {e.strerror}; set FASTAI_HOME to a folder that can be written") from e


def image_paths(folder: Path) -> list[Path]:
    """Every file below a folder whose name ends as an image's does, sorted; hidden folders are left out.

    Raises:
        DiagnoseError: a folder below it cannot be read (fastai's `get_image_files` would pass over it in silence).
    """

    def refuse(error: OSError) -> None:
        raise DiagnoseError(f"{error.filename}: {(error.strerror or str(error)).lower()}") from error

    found = []
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        hidden = (name.startswith(".") for name in names)
        found += [
            Path(parent, n) for n, h in zip(names, hidden) if not h and Path(n).suffix.lower() in image_extensions
        ]
    return sorted(found)


def damage(path: Path, whole: bool = False) -> str | None:
    """What is wrong with an image file, None if nothing is.

    The header is read, and everything if the file does not end as its format does, is of a format that has no such
    end, or `whole` is asked for. What is damaged in the middle only decoding finds.
    """
    try:
        with Image.open(path) as image:
            if whole or not _ends_well(path, image.format):
                image.load()
    except BAD as e:
        return str(e)
    return None


def _ends_well(path: Path, kind: str | None) -> bool:
    if kind not in ENDS:
        return False
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        return ENDS[kind] in file.read()


def readable(
    paths: Sequence[Path], skip_corrupt: bool = False, way_out: str = "data.skip_corrupt=true goes on without"
) -> list[Path]:
    """The paths of images that can be read, all of them unless `skip_corrupt`.

    Args:
        paths: image files.
        skip_corrupt: go on without damaged files, with one warning that counts them. Every file is then decoded once,
            so that none can stop a training later.
        way_out: what the error advises.

    Raises:
        DiagnoseError: files are damaged and none may be skipped; it names the first and counts the others.
    """
    if skip_corrupt:
        with ThreadPoolExecutor() as threads:
            found = list(threads.map(functools.partial(damage, whole=True), paths))
    else:
        found = [damage(path) for path in paths]
    damaged = [(path, why) for path, why in zip(paths, found) if why is not None]
    if not damaged:
        return list(paths)
    path, why = damaged[0]
    others = f", nor are {len(damaged) - 1} others of {len(paths)}" if len(damaged) > 1 else ""
    if not skip_corrupt:
        raise DiagnoseError(f"{path}: not a readable image ({why}){others}; {way_out}")
    warnings.warn(f"{len(damaged)} of {len(paths)} images are damaged and left out; the first is {path}", stacklevel=2)
    return [path for path, why in zip(paths, found) if why is None]


def files_in(folder: str | os.PathLike, skip_corrupt: bool = False) -> list[Path]:
    """Every image file under a folder, recursively, sorted by path, each checked by `readable`.

    Raises:
        DiagnoseError: the folder is missing, unreadable, holds no image file, or files in it are damaged.
    """
    folder = folder_of(folder)
    paths = image_paths(folder)
    if not paths:
        raise DiagnoseError(f"{folder}: no image file in it or below it")
    paths = readable(paths, skip_corrupt)
    if not paths:
        raise DiagnoseError(f"{folder}: every image file in it is damaged")
    return paths
