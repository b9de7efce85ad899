"""Labelled images to judge an encoder by: training and validation, their classes mapped by name and never by place.

The classes of validation are some of training's (Image-wang: 10 of 20, at places 1-7 and 9-11, not 0-9); whoever
numbers them by themselves compares each prediction with another class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from diagnose.errors import DiagnoseError
from sslwang.data.arrays import SETS, Pixels
from sslwang.data.images import SHORTER_SIDE, ArrayImages, Chosen, ImageFiles, folder_of, image_paths, readable
from sslwang.data.imagewang import IMAGEWANG_TITLES, archive_for, imagewang_root
from sslwang.data.tree import TITLES, photo_tree

SMALLEST, LARGEST, STEP = 32, 128, 32  # px, of the size that images of a folder are fed at by default
LOOKED_AT = 32  # images of a folder whose sides decide that


@dataclass(frozen=True)
class LabelledImages:
    """Images with labels.

    Args:
        images: 8-bit RGB, decoded when asked for; picklable.
        labels: (N,) int64, places in `Labelled.classes`.
        names: for people and logs: the path below the root, or "train 123".
    """

    images: Sequence[Image.Image]
    labels: np.ndarray
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Sequence[int] | np.ndarray) -> LabelledImages:
        """The images at `indices` (n,), in that order.

        Raises:
            IndexError: one of them is out of range.
        """
        chosen = np.arange(len(self))[np.asarray(indices, dtype=np.int64)]
        return LabelledImages(Chosen(self.images, chosen), self.labels[chosen], [self.names[i] for i in chosen])


@dataclass(frozen=True)
class Labelled:
    """A labelled source.

    Args:
        source: as it was asked for.
        classes: of training, sorted; a label is a place in here.
        valid_classes: those that occur in validation, some or all of `classes`, sorted.
        train, valid: the images.
        size: px that its images are fed at by default.
        titles: what people call a class, by its name, where that is something else.
    """

    source: str
    classes: tuple[str, ...]
    valid_classes: tuple[str, ...]
    train: LabelledImages
    valid: LabelledImages
    size: int
    titles: dict[str, str] = field(default_factory=dict)

    def valid_places(self) -> np.ndarray:
        """Places (V,) int64 of `valid_classes` in `classes`."""
        return np.array([self.classes.index(name) for name in self.valid_classes], dtype=np.int64)

    def title(self, place: int) -> str:
        """What people call the class at a place."""
        return self.titles.get(self.classes[place], self.classes[place])


IMAGEWANG_SIZE = 128  # px


def files_for(source: str, size: int | None = None) -> str:
    """Name of the files that a source has for images of a size; "" where it has the same for every size."""
    return archive_for(size or IMAGEWANG_SIZE).name if source == "imagewang" else ""


def labelled(source: str, skip_corrupt: bool = False, size: int | None = None) -> Labelled:
    """The labelled images of a source.

    Args:
        source: photos, imagewang, fashion-mnist, digits, faces, or a folder with `train/<class>/` and `val/<class>/`.
        skip_corrupt: see `readable`.
        size: px that the images will be fed at: of Image-wang that says which archive is read.

    Raises:
        DiagnoseError: the source is missing, unreadable or damaged, a class has no image, or validation has a class
            that training lacks.
    """
    if source in SETS:
        return _of_pixels(source, SETS[source]())
    if source == "photos":
        return _of_folder(source, photo_tree(), skip_corrupt, size=64, titles=TITLES)
    if source == "imagewang":
        root = imagewang_root(archive_for(size or IMAGEWANG_SIZE))
        return _of_folder(source, root, skip_corrupt, size or 0, IMAGEWANG_SIZE, IMAGEWANG_TITLES)
    return _of_folder(source, folder_of(source), skip_corrupt, size or 0)


def _of_pixels(source: str, pixels: Pixels) -> Labelled:
    classes = tuple(sorted(pixels.names))
    place = np.array([classes.index(name) for name in pixels.names], dtype=np.int64)
    sides = [
        LabelledImages(ArrayImages(images), place[labels], [f"{part} {i}" for i in range(len(labels))])
        for part, (images, labels) in (("train", pixels.train), ("val", pixels.valid))
    ]
    present = tuple(classes[i] for i in np.unique(sides[1].labels))
    return Labelled(source, classes, present, *sides, size=32)


def _of_folder(
    source: str,
    root: Path,
    skip_corrupt: bool,
    fed: int = 0,
    size: int | None = None,
    titles: dict[str, str] | None = None,
) -> Labelled:
    parts = {part: _by_class(root, part) for part in ("train", "val")}
    classes, present = (tuple(sorted(found)) for found in parts.values())
    unknown = [name for name in present if name not in parts["train"]]
    if unknown:
        others = f" (nor {', '.join(unknown[1:])})" if unknown[1:] else ""
        raise DiagnoseError(
            f"{root / 'val' / unknown[0]}: training has no class {unknown[0]}{others}; its classes are "
            f"{', '.join(classes)}"
        )
    files = [p for found in parts.values() for paths in found.values() for p in paths]
    whole = set(readable(files, skip_corrupt, "mend or delete what is damaged"))
    kept = max(SHORTER_SIDE, fed)
    sides = [_side(root, part, found, classes, whole, kept) for part, found in parts.items()]
    if size is None:
        size = _size_of(sides[0].images)
    return Labelled(source, classes, present, *sides, size=size, titles=dict(titles or {}))


def _by_class(root: Path, part: str) -> dict[str, list[Path]]:
    "Image files of each class folder of `train` or `val`."
    folder = root / part
    if not folder.is_dir():
        raise DiagnoseError(f"{folder}: no such folder; labelled images are files in train/CLASS/ and val/CLASS/")
    folder_of(folder)
    found = {p.name: image_paths(p) for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")}
    if not found:
        raise DiagnoseError(
            f"{folder}: no class folder in it; labelled images are files in train/CLASS/ and val/CLASS/"
        )
    for name in sorted(found):
        if not found[name]:
            raise DiagnoseError(f"{folder / name}: a class without an image; delete the folder or fill it")
    return found


def _side(
    root: Path, part: str, found: dict[str, list[Path]], classes: tuple[str, ...], whole: set[Path], shorter_side: int
) -> LabelledImages:
    kept = {name: [p for p in found[name] if p in whole] for name in classes if name in found}
    for name, paths in kept.items():
        if not paths:
            raise DiagnoseError(f"{root / part / name}: every image of this class is damaged")
    paths = [p for paths in kept.values() for p in paths]
    labels = np.repeat([classes.index(name) for name in kept], [len(paths) for paths in kept.values()])
    images = ImageFiles(paths, shorter_side)
    return LabelledImages(images, labels.astype(np.int64), [p.relative_to(root).as_posix() for p in paths])


def _size_of(images: ImageFiles) -> int:
    "The median shorter side of some images, as a multiple of 32 px from 32 to 128."
    some = np.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).astype(int)
    shorter = np.median([min(images[i].size) for i in some])
    return int(np.clip(shorter // STEP * STEP, SMALLEST, LARGEST))


def stratified(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Indices (n,), sorted, of a share of each class, at least one image a class; equal arguments give equal indices.

    Args:
        labels: (N,) integers.
        fraction: in (0, 1]; each class keeps this share of its images, rounded.
        seed: of the choice. A larger fraction under one seed holds all images of a smaller one.

    Raises:
        DiagnoseError: the fraction is out of range.
    """
    if not 0 < fraction <= 1:
        raise DiagnoseError(f"a fraction of {fraction:g} of the labels: it must be above 0 and at most 1")
    labels = np.asarray(labels)
    chosen: list[np.ndarray] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.random.default_rng([seed, int(label)]).permutation(members)
        chosen.append(order[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)
