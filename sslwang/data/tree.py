"""The bundled photographs as a tree of files like Image-wang's, so that its loaders run everywhere.

`train/<class>/` has 60 crops of the left 70 % of each of eight photographs, `val/<class>/` 40 of the right 25 % of four
of them, `unsup/` 400 of the left part of all ten; no pixel of `val` is in the rest. The class is the photograph.

Colour would give it away: the nearest mean colour of a class finds 0.59 of the validation crops as they are cut
(chance 0.125), and a photograph's whole range of brightness is a matter of its exposure. So each crop is given, channel
by channel, a mean and a deviation drawn from one distribution for all; after that the nearest mean colour finds 0.20,
and the nearest mean of 8 x 8 px thumbnails 0.25. What is left to tell by is texture and shape: a linear probe on the
small encoder finds 0.38 to 0.44 with random weights (five seeds), and all of it trained on all labels for 500 batches
0.78 (one seed). The four that validate are those whose right side is told best from the left sides of all.

A pretext task on `photos` sees the left parts only, but its own validation, by which the best epoch is chosen, shows
right parts (unlabelled); who wants none of that takes the last weights.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from diagnose.errors import DiagnoseError
from sslwang.data.images import kept_in
from sslwang.data.photos import WHERE, photos
from sslwang.data.splits import FLAT, LARGEST, SMALLEST, TRAIN_PART, TRIES, VALID_PART, Side

VERSION = 2  # of the tree: another one is another folder
TITLES = {
    "astronaut": "astronaut",
    "chelsea": "cat",
    "coffee": "cup of coffee",
    "flower": "flower",
    "grace_hopper": "officer",
    "hubble_deep_field": "galaxies",
    "ihc": "stained tissue",
    "retina": "retina",
}
HELD_OUT = ("astronaut", "hubble_deep_field", "ihc", "retina")  # classes of validation, at places 0, 5, 6 and 7
A_CLASS, A_HELD_OUT, UNLABELLED = 60, 40, 400
SHORTER = 96  # px
ASPECTS = (3 / 4, 1.0, 4 / 3)
MEAN, MEAN_SPREAD, SPREAD = 128.0, 14.0, (36.0, 60.0)  # of 255: mean of a channel, and its deviation, of a written crop
GREY_EVERY = 20  # one file in so many is grey, in every class alike
QUALITY = 92  # of JPEG


@dataclass(frozen=True)
class Crop:
    """One file of the tree.

    Args:
        file: path below the root.
        photo: its photograph. box: left, top, right, bottom in px of it.
        size: width and height in px that it is written at.
        mean, deviation: (3,) that its channels are given.
        kind: mode of the file: RGB, grey, palette, RGBA, CMYK or 16-bit.
    """

    file: str
    photo: str
    box: tuple[int, int, int, int]
    size: tuple[int, int]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    kind: str


def crops() -> Iterator[Crop]:
    """Every file of the tree, always the same ones."""
    for name in TITLES:
        yield from _crops(f"train/{name}", [name], A_CLASS, TRAIN_PART)
    for name in HELD_OUT:
        yield from _crops(f"val/{name}", [name], A_HELD_OUT, VALID_PART)
    yield from _crops("unsup", list(WHERE), UNLABELLED, TRAIN_PART)


def _crops(folder: str, names: list[str], count: int, part: tuple[float, float]) -> Iterator[Crop]:
    side = Side(photos(tuple(names)), part)
    seed = list(f"{VERSION} {folder}".encode())
    for i in range(count):
        rng = np.random.default_rng([*seed, i])
        place = i % len(names)
        box = _box(rng, side, place)
        width, height = box[2] - box[0], box[3] - box[1]
        scale = SHORTER / min(width, height)
        kind = _kind(folder, i)
        yield Crop(
            file=f"{folder}/{i:04d}.{'JPEG' if kind in ('RGB', 'grey', 'CMYK') else 'png'}",
            photo=names[place],
            box=box,
            size=(round(width * scale), round(height * scale)),
            mean=tuple(rng.normal(MEAN, MEAN_SPREAD, 3)),
            deviation=tuple(rng.uniform(*SPREAD) * rng.uniform(0.9, 1.1, 3)),
            kind=kind,
        )


def _kind(folder: str, index: int) -> str:
    odd = {1: "palette", 2: "RGBA", 3: "CMYK", 4: "16-bit"} if folder == "unsup" else {}
    return odd.get(index, "grey" if index % GREY_EVERY == 7 else "RGB")


def _box(rng: np.random.Generator, side: Side, index: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = side.area(index)
    for _ in range(TRIES):
        aspect = rng.choice(ASPECTS)
        room = min((right - left) / max(aspect, 1), (bottom - top) / max(1 / aspect, 1))
        shorter = rng.uniform(min(SMALLEST, room), min(LARGEST, room))
        width, height = int(shorter * max(aspect, 1)), int(shorter * max(1 / aspect, 1))
        x, y = int(rng.integers(left, right - width + 1)), int(rng.integers(top, bottom - height + 1))
        box = (x, y, x + width, y + height)
        if np.asarray(side.images[index].crop(box))[::4, ::4].std() > FLAT:
            break
    return box


def pixels(crop: Crop) -> np.ndarray:
    """What one file shows, (H, W, 3) uint8, before it is grey or has few colours."""
    whole = photos((crop.photo,))[0]
    tile = np.asarray(whole.resize(crop.size, Image.Resampling.BOX, crop.box), np.float64)
    tile = (tile - tile.mean((0, 1))) / np.maximum(tile.std((0, 1)), FLAT)
    return (tile * crop.deviation + crop.mean).round().clip(0, 255).astype(np.uint8)


def encoded(crop: Crop) -> bytes:
    """Content of one file."""
    array = pixels(crop)
    image, options = Image.fromarray(array), {"format": "PNG"}
    if crop.kind in ("RGB", "grey", "CMYK"):
        image, options = image.convert({"grey": "L"}.get(crop.kind, crop.kind)), {"format": "JPEG", "quality": QUALITY}
    elif crop.kind == "palette":
        image = image.quantize(32)
    elif crop.kind == "RGBA":
        image.putalpha(Image.fromarray(np.tile(np.linspace(128, 255, image.width), (image.height, 1)).astype(np.uint8)))
    else:
        image = Image.fromarray(array.mean(2).astype(np.uint16) << 8)
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def photo_tree() -> Path:
    """Root of the tree, `$FASTAI_HOME/data/photos-tree-2`, written on first use (seconds, 1,040 files).

    It appears at once and whole: processes that write at the same time each write their own, and one wins.

    Raises:
        DiagnoseError: it cannot be written.
    """
    root = kept_in("data") / f"photos-tree-{VERSION}"
    if root.is_dir():
        return root
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
        try:
            for crop in crops():
                path = unfinished / crop.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(crop))
            unfinished.chmod(0o755)
            try:
                os.rename(unfinished, root)
            except OSError:
                if not root.is_dir():  # else another process was first
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as e:
        raise DiagnoseError(
            f"{root}: cannot be written ({e.strerror or e}); set FASTAI_HOME to a folder with 10 MB of room"
        ) from e
    return root
