"""Unmixing for anybody's images: a batch transform for fastai's `DataBlock`, and what it gives, shown to be understood.

from fastai.vision.all import DataBlock, ImageBlock, Resize, get_image_files
from sslwang import UnmixTransform, unmix_learner

block = DataBlock(blocks=ImageBlock, get_items=get_image_files, item_tfms=Resize(72), batch_tfms=UnmixTransform())
dls = block.dataloaders("photos/")
dls.show_batch()
unmix_learner(dls).fit_one_cycle(5)
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from fastai.data.core import show_batch as _first  # noqa: F401 (fastai's own methods come before ours)
from fastai.torch_basics import ItemTransform, TensorBase, dispatch, fastuple
from matplotlib import pyplot
from matplotlib.axes import Axes

from sslwang.data.gathered import gathered
from sslwang.data.mixing import draw_moves, draw_rows, mixtures, shared_weights, windows
from sslwang.data.pictures import Shown, rows_figure, viewable
from sslwang.data.pixels import standardised

Target = Literal["classification", "regression"]

FAR = 0.15  # a weight that is said to be this far from the true one counts as wrong


class UnmixLabels(TensorBase):
    """(B, n): 1 where a source was mixed, else 0."""


class UnmixWeights(TensorBase):
    """(B, n): the weights of the sources in the mixture, which sum to 1."""


class UnmixRow(fastuple):
    """The mixture, then its n sources: images (3, S, S) each, or batches of them (B, 3, S, S)."""

    def show(self, ctx: Axes | None = None, title: str = "", **kwargs: Any) -> Axes:
        """The images of one row side by side on an axis, the mixture on the left."""
        axes = pyplot.subplots(layout="constrained")[1] if ctx is None else ctx
        pictures = [viewable(image.detach().float()) for image in self]
        gap = torch.ones(len(pictures[0]), max(1, len(pictures[0]) // 32), 3)
        line = [part for picture in pictures for part in (picture, gap)][:-1]
        axes.imshow(torch.cat(line, dim=1))
        axes.set_axis_off()
        axes.set_title(title, fontsize=9)
        return axes


class UnmixTransform(ItemTransform):
    """Batches of images to rows of a mixture and n sources, with labels or weights; a batch transform of any loader.

    The sources of a row are its own image and others of the same batch, so that each image is decoded once and a net
    that knows (`unmix_learner` makes one) encodes it once. Other parts of the batch (labels) are left out. Training
    rows are drawn from torch's random stream; the rows of a validation batch are the same in every epoch.

    Args:
        n: sources of a row, 2 to 5; 3 or more for labels, of which two would both be 1.
        target: `classification` gives labels, `regression` weights.
        alpha, beta: of the Beta distribution of the share of one of the two images that are mixed.
        hardened: standardise each image by itself and show each source shifted and turned, without which the task is
            solved by colours and by least squares. Images come out 2 `shift` px smaller.
        shift: px that a source may move against the mixture, up and down, left and right.

    Raises:
        ValueError: settings that make no task, or a batch whose first part is no batch of images of enough px.
    """

    order = 100  # after fastai's own: images are floats, augmented and normalised

    def __init__(
        self,
        n: int = 3,
        target: Target = "classification",
        alpha: float = 5.0,
        beta: float = 8.0,
        hardened: bool = True,
        shift: int = 4,
    ):
        super().__init__()
        if target not in ("classification", "regression"):
            raise ValueError(f"target {target!r}: give classification or regression")
        if n < 2 or (n == 2 and target == "classification"):
            raise ValueError(f"n={n}: of fewer than 3 sources every label is 1; use n >= 3, or n = 2 for regression")
        if alpha <= 0 or beta <= 0 or shift < 0:
            raise ValueError("alpha and beta must be above 0, shift not below 0")
        self.n, self.target, self.alpha, self.beta = n, target, alpha, beta
        self.hardened, self.shift = hardened, shift if hardened else 0
        self.validating = False

    def __call__(self, b: Any, split_idx: int | None = None, **kwargs: Any) -> Any:
        """The rows of a batch; `split_idx` 1 is fastai's name for validation."""
        self.validating = split_idx == 1
        return super().__call__(b, split_idx=split_idx, **kwargs)

    def encodes(self, b):
        """(images (B, 3, H, W), ...) to (UnmixRow, UnmixLabels or UnmixWeights)."""
        images = b[0] if isinstance(b, (list, tuple)) else b
        if not isinstance(images, torch.Tensor) or images.ndim != 4 or min(images.shape[-2:]) <= 2 * self.shift:
            what = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
            raise ValueError(
                f"UnmixTransform got {what}; it takes batches of images (B, C, H, W) of more than {2 * self.shift} px"
            )
        images = images.as_subclass(torch.Tensor).float()
        count, device = len(images), images.device
        rng = np.random.default_rng(self._seed(images))
        rows = draw_rows(rng, count, self.n, self.alpha, self.beta)
        index, weights = (torch.from_numpy(x).to(device) for x in (rows.index, rows.weights))
        if self.hardened:
            moves = torch.from_numpy(draw_moves(rng, count, 2 * self.shift)).to(device)
            pool = standardised(windows(images, moves, self._size(images)))
            inner = [slice(self.shift, side - self.shift) for side in images.shape[-2:]]
            mixture = standardised(mixtures(images[:, :, inner[0], inner[1]], index, weights))
        else:
            pool, mixture = images, mixtures(images, index, weights)
        weights = shared_weights(index, weights)
        target = UnmixWeights(weights) if self.target == "regression" else UnmixLabels((weights > 0).float())
        return UnmixRow(mixture, *gathered(pool, index)), target

    def _size(self, images: torch.Tensor) -> tuple[int, int]:
        height, width = images.shape[-2:]
        return height - 2 * self.shift, width - 2 * self.shift

    def _seed(self, images: torch.Tensor) -> int:
        if self.validating:
            return zlib.crc32(images[..., ::4, ::4].cpu().numpy().tobytes())
        return int(torch.randint(2**62, ()))


def rows_shown(
    images: Sequence[torch.Tensor], target: torch.Tensor, values: torch.Tensor | None, regression: bool
) -> list[Shown]:
    """Rows as a person looks at them: the mixture, and each source with its label or weight.

    Args:
        images: the mixture and the sources, (B, 3, S, S) each.
        target: (B, n).
        values: (B, n) predicted probabilities or weights, told beside the truth and judged; None if there are none.
        regression: whether the target is weights.
    """
    name, rows = "weight" if regression else "mixed", []
    for r in range(len(target)):
        captions, right = ["mixture"], [None]
        for k in range(target.shape[1]):
            truth = f"{target[r, k]:.2f}" if regression else ("yes" if target[r, k] else "no")
            captions.append(f"{name}: {truth}")
            right.append(None)
            if values is not None:
                captions[-1] += f"\nsaid {values[r, k]:.2f}"
                right[-1] = not bool((values[r, k] - target[r, k]).abs() >= (FAR if regression else 0.5))
        rows.append(Shown([x[r] for x in images], captions, right))
    return rows


@dispatch
def show_batch(x: UnmixRow, y: Any, samples: Any, ctxs: Any = None, max_n: int = 6, **kwargs: Any):
    """fastai's `dls.show_batch()` for rows of unmix."""
    rows = rows_shown(
        [image[:max_n] for image in x], y[:max_n].as_subclass(torch.Tensor), None, isinstance(y, UnmixWeights)
    )
    rows_figure(rows, pyplot.figure(layout="constrained"))


@dispatch
def show_results(x: UnmixRow, y: Any, samples: Any, outs: Any, ctxs: Any = None, max_n: int = 6, **kwargs: Any):
    """fastai's `learn.show_results()` for rows of unmix: what was said beside what is true, green or red."""
    said = torch.stack([torch.as_tensor(o[0]).as_subclass(torch.Tensor).float() for o in outs[:max_n]])
    rows = rows_shown(
        [image[:max_n] for image in x], y[:max_n].as_subclass(torch.Tensor), said, isinstance(y, UnmixWeights)
    )
    rows_figure(rows, pyplot.figure(layout="constrained"))
