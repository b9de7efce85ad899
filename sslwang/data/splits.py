"""What training may show and what validation may show, with no pixel in both.

Photographs: the left 70 % of the seven photographs train; validation is either the right 25 % of the same photographs
(`region`, 5 % between them is shown by neither) or the three others (`photo`), so both splits judge one and the same
training. Folders and Image-wang: a fifth of the files validates, chosen by a hash of their names, not by the seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from diagnose.errors import DiagnoseError
from sslwang.data.images import ImageFiles, files_in
from sslwang.data.imagewang import imagewang_files
from sslwang.data.photos import SEEN, UNSEEN, photos

TRAIN_PART, VALID_PART = (0.0, 0.70), (0.75, 1.0)
SMALLEST, LARGEST = 64, 220  # px, side of a crop before it is resized
TRIES, FLAT = 8, 6.0  # redraws of a crop whose grey levels spread less than this (of 255): it shows nothing


@dataclass(frozen=True)
class Side:
    """One side of a split: images, and the part of their width that crops may touch.

    Args:
        images: RGB images.
        part: left and right border as fractions of the width.
    """

    images: Sequence[Image.Image]
    part: tuple[float, float] = (0.0, 1.0)

    def area(self, index: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in px of what may be shown of one image."""
        width, height = self.images[index].size
        left = int(np.ceil(width * self.part[0]))
        return left, 0, max(int(width * self.part[1]), left + 1), height

    def tile(self, rng: np.random.Generator, size: int, index: int) -> np.ndarray:
        """A random square crop of 64 to 220 px of one image, resized and flipped at random: (size, size, 3) uint8."""
        left, top, right, bottom = self.area(index)
        room = min(right - left, bottom - top)
        for _ in range(TRIES):
            side = int(rng.integers(min(SMALLEST, room), min(LARGEST, room) + 1))
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


def split_files(paths: Sequence[Path], root: Path | None = None) -> tuple[list[Path], list[Path]]:
    """Training and validation files: the fifth with the smallest SHA-1 of the name (below `root`) validates.

    Raises:
        DiagnoseError: fewer than two files.
    """
    if len(paths) < 2:
        raise DiagnoseError(f"{root or paths[0].parent}: one image cannot be split; at least 2 are needed")

    def digest(path: Path) -> str:
        name = path.relative_to(root) if root else Path(*path.parts[-2:])
        return hashlib.sha1(name.as_posix().encode(), usedforsecurity=False).hexdigest()

    held_out = set(sorted(paths, key=digest)[: max(1, len(paths) // 5)])
    return [p for p in paths if p not in held_out], [p for p in paths if p in held_out]


def sides(source: str, split: str = "region") -> tuple[Side, Side]:
    """Training and validation side of a source.

    Args:
        source: `photos`, `imagewang`, or the path of a folder of images.
        split: `region` or `photo`, for the photographs; files are always split by file.

    Raises:
        DiagnoseError: a folder that is missing, empty or unreadable, or Image-wang that cannot be fetched.
    """
    if source == "photos":
        seen = photos(SEEN)
        return Side(seen, TRAIN_PART), Side(seen, VALID_PART) if split == "region" else Side(photos(UNSEEN))
    if source == "imagewang":
        train, valid = split_files(imagewang_files())
    else:
        root = Path(source).expanduser()
        train, valid = split_files(files_in(root), root)
    return Side(ImageFiles(train)), Side(ImageFiles(valid))
