"""What training may show and what validation may show, with no pixel in both.

Photographs: the left 70 % of the seven photographs train; validation is either the right 25 % of the same photographs
(`region`, 5 % between them is shown by neither) or the three others (`photo`), so both splits judge one and the same
training. Everything else: a fifth of the images validates, chosen by a hash of their names, not by the seed. Of a
source that has images to judge transfer by (`val`), these are in neither side unless they are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from diagnose.errors import DiagnoseError
from sslwang.data.arrays import SETS
from sslwang.data.images import ArrayImages, ImageFiles, files_in, folder_of, image_paths, readable
from sslwang.data.imagewang import archive_for, imagewang_root
from sslwang.data.photos import SEEN, UNSEEN, photos

TRAIN_PART, VALID_PART = (0.0, 0.70), (0.75, 1.0)
SMALLEST, LARGEST = 64, 220  # px, side of a crop before it is resized
PRETEXT_FOLDERS = ("train", "unsup")  # of a tree with validation; `val` beside them is not for pretext tasks
LEAST_SHARE = 0.8  # that a crop shows at least of an image below 64 px, and of any where whole images are asked for
TRIES, FLAT = 8, 6.0  # redraws of a crop whose grey levels spread less than this (of 255): it shows nothing


@dataclass(frozen=True)
class Side:
    """One side of a split: images, and the part of their width that crops may touch.

    Args:
        images: RGB images.
        part: left and right border as fractions of the width.
        whole: crops show four fifths to the whole of the shorter side of what may be shown, however large it is.
    """

    images: Sequence[Image.Image]
    part: tuple[float, float] = (0.0, 1.0)
    whole: bool = False

    def area(self, index: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in px of what may be shown of one image."""
        width, height = self.images[index].size
        left = int(np.ceil(width * self.part[0]))
        return left, 0, max(int(width * self.part[1]), left + 1), height

    def lengths(self, room: int) -> tuple[int, int]:
        """Least and largest side in px of a crop, where the shorter side of what may be shown is `room`."""
        if room >= SMALLEST and not self.whole:
            return SMALLEST, min(LARGEST, room)
        return int(np.ceil(LEAST_SHARE * room)), room

    def tile(self, rng: np.random.Generator, size: int, index: int) -> np.ndarray:
        """A random square crop of 64 to 220 px of one image, resized and flipped at random: (size, size, 3) uint8.

        Of an image below 64 px, and of any if `whole`, it is four fifths to the whole of its shorter side.
        """
        left, top, right, bottom = self.area(index)
        least, largest = self.lengths(min(right - left, bottom - top))
        for _ in range(TRIES):
            side = int(rng.integers(least, largest + 1))
            x = int(rng.integers(left, right - side + 1))
            y = int(rng.integers(top, bottom - side + 1))
            crop = self.images[index].resize((size, size), Image.Resampling.BOX, (x, y, x + side, y + side))
            tile = np.asarray(crop)
            if tile[::4, ::4].std() > FLAT:
                break
        return tile[:, ::-1] if rng.random() < 0.5 else tile

    def tiles(self, rng: np.random.Generator, size: int, count: int, distinct: bool = True) -> np.ndarray:
        """Tiles of images drawn at random, (count, size, size, 3); `distinct` repeats none before all are used."""
        total = len(self.images)
        step = min(total, count) if distinct else 1
        draws = [rng.choice(total, min(step, count - k), replace=False) for k in range(0, count, step)]
        chosen = np.concatenate(draws)
        return np.stack([self.tile(rng, size, int(i)) for i in chosen])


def held_out(names: Sequence[str]) -> np.ndarray:
    """Which of the named images validate, (N,) bool: the fifth with the smallest SHA-1 of the name, at least one."""
    digests = [hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest() for name in names]
    order = sorted(range(len(names)), key=lambda i: (digests[i], i))
    chosen = np.zeros(len(names), dtype=bool)
    chosen[order[: max(1, len(names) // 5)]] = True
    return chosen


def split_files(paths: Sequence[Path], root: Path) -> tuple[list[Path], list[Path]]:
    """Training and validation files, by their names below `root`; see `held_out`.

    Raises:
        DiagnoseError: fewer than two files.
    """
    if len(paths) < 2:
        raise DiagnoseError(f"{root}: one image cannot be split; at least 2 are needed")
    held = held_out([path.relative_to(root).as_posix() for path in paths])
    return [p for p, h in zip(paths, held) if not h], [p for p, h in zip(paths, held) if h]


def pretext_files(root: Path, with_val: bool = False, skip_corrupt: bool = False) -> list[Path]:
    """Image files below a folder that a pretext task may see.

    Of a tree with a folder `val` and a folder `train` or `unsup` these are the files of the latter two; of any other
    folder all.

    Raises:
        DiagnoseError: a folder that is missing, unreadable or without images; damaged images; `val` is asked for where
            there is none.
    """
    root = folder_of(root)
    parts = [root / name for name in PRETEXT_FOLDERS if (root / name).is_dir()]
    if not (root / "val").is_dir() or not parts:
        if with_val:
            raise DiagnoseError(f"{root}: data.with_val=true, but there is no folder val beside train or unsup in it")
        return files_in(root, skip_corrupt)
    paths = []
    for part in [*parts, root / "val"] if with_val else parts:
        found = image_paths(folder_of(part))
        if not found:
            raise DiagnoseError(f"{part}: no image file in it or below it")
        paths += found
    return readable(paths, skip_corrupt)


def sides(
    source: str, split: str = "region", with_val: bool = False, skip_corrupt: bool = False, size: int = 64
) -> tuple[Side, Side]:
    """Training and validation side of a source, both without labels.

    Args:
        source: photos, imagewang, fashion-mnist, digits, faces, or the path of a folder of images.
        split: `region` or `photo`, for the photographs; everything else is split by image.
        with_val: show what transfer is judged on as well (`val`, of arrays their validation part).
        skip_corrupt: see `readable`.
        size: px that the images will be fed at: of Image-wang that says which archive is read.

    Raises:
        DiagnoseError: a source that is missing, empty, unreadable or damaged, or has no `val` where that is asked for.
    """
    if source == "photos":
        if with_val:
            raise DiagnoseError("data.with_val=true: the photographs have no files to add; name a folder with val")
        seen = photos(SEEN)
        return Side(seen, TRAIN_PART), Side(seen, VALID_PART) if split == "region" else Side(photos(UNSEEN))
    if source in SETS:
        found = SETS[source]()
        pixels = np.concatenate([found.train[0], found.valid[0]]) if with_val else found.train[0]
        held = held_out([str(i) for i in range(len(pixels))])
        return Side(ArrayImages(pixels[~held])), Side(ArrayImages(pixels[held]))
    root = imagewang_root(archive_for(size)) if source == "imagewang" else Path(source).expanduser()
    train, valid = split_files(pretext_files(root, with_val, skip_corrupt), root)
    return Side(ImageFiles(train)), Side(ImageFiles(valid))
