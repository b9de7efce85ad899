"""Small labelled sets that come as arrays of pixels: Fashion-MNIST, scikit-learn's digits, scikit-image's faces.

Fashion-MNIST (Xiao, Rasul, Vollgraf 2017) is read from the files of Debian's package, 60,000 images to train on and
10,000 to judge by, MIT licence. Digits (Alpaydin, Kaynak 1998) are 1,797 of 8 x 8 px by 13 people, here enlarged;
faces are scikit-image's 100 from Labeled Faces in the Wild and 100 patches that show none.
"""

from __future__ import annotations

import functools
import gzip
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from diagnose.errors import DiagnoseError
from sslwang.data.photos import shipped

FASHION = "/usr/share/datasets/fashion-mnist"
FASHION_CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
DIGIT_SIDE = 32  # px that the digits of 8 px are enlarged to
IDX_BYTES = 0x08  # code of unsigned bytes in the header of an idx file


@dataclass(frozen=True)
class Pixels:
    """A labelled set: images (N, H, W) uint8 and labels (N,) of each part, and the class of each label."""

    names: tuple[str, ...]
    train: tuple[np.ndarray, np.ndarray]
    valid: tuple[np.ndarray, np.ndarray]


def read_idx(path: Path) -> np.ndarray:
    """Array of a gzipped idx file of unsigned bytes (the format of MNIST).

    Raises:
        DiagnoseError: the file is unreadable, damaged, cut short, or of another format.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
        zero, kind, axes = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{axes}I", content, 4)
    except (OSError, EOFError, zlib.error, struct.error) as e:
        raise DiagnoseError(f"{path}: not a readable idx file ({e})") from e
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if zero or kind != IDX_BYTES or math.prod(shape) != len(values):
        raise DiagnoseError(f"{path}: not an idx file of {' x '.join(map(str, shape))} bytes; install it anew")
    return values.reshape(shape)


@functools.cache
def _fashion(folder: Path) -> Pixels:
    parts = []
    for part in ("train", "t10k"):
        files = [folder / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
        for file in files:
            if not file.is_file():
                raise DiagnoseError(
                    f"fashion-mnist: {file} is not there; apt install dataset-fashion-mnist, or set FASHION_MNIST to "
                    "the folder of its four files"
                )
        images, labels = map(read_idx, files)
        if images.ndim != 3 or labels.shape != images.shape[:1] or labels.max(initial=0) >= len(FASHION_CLASSES):
            raise DiagnoseError(f"{files[1]}: {labels.shape} labels do not fit {images.shape} images of 10 classes")
        parts.append((images, labels.astype(np.int64)))
    return Pixels(FASHION_CLASSES, *parts)


def fashion_mnist() -> Pixels:
    """Fashion-MNIST, from the folder that the variable FASHION_MNIST names or where Debian's package puts it.

    Raises:
        DiagnoseError: it is not installed, or a file is damaged.
    """
    return _fashion(Path(os.environ.get("FASHION_MNIST") or FASHION).expanduser())


def digits() -> Pixels:
    """scikit-learn's digits, 32 px; the last fifth validates (a block: neighbours are often by one hand)."""
    bunch = load_digits()
    small = (bunch.images * (255 / 16)).round().astype(np.uint8)
    side = (DIGIT_SIDE, DIGIT_SIDE)
    large = np.stack([np.asarray(Image.fromarray(i).resize(side, Image.Resampling.BILINEAR)) for i in small])
    first = len(large) - len(large) // 5
    labels = bunch.target.astype(np.int64)
    return Pixels(tuple(map(str, bunch.target_names)), (large[:first], labels[:first]), (large[first:], labels[first:]))


def faces() -> Pixels:
    """scikit-image's faces and patches without one, 25 px; the last fifth of each kind validates."""
    images = (np.load(shipped("skimage", "data/lfw_subset.npy")) * 255).round().astype(np.uint8)
    labels = np.repeat([0, 1], len(images) // 2)  # the first half are faces
    held = np.arange(len(images)) % (len(images) // 2) >= len(images) * 2 // 5
    return Pixels(("face", "other"), (images[~held], labels[~held]), (images[held], labels[held]))


SETS = {"fashion-mnist": fashion_mnist, "digits": digits, "faces": faces}
