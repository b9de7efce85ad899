"""What tasks with one picture in and classes out share: network, constants from the shares of classes, pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from fastai.metrics import AccumMetric
from torch import nn

from diagnose.task import Task
from sslwang.data.pictures import Shown
from sslwang.losses import IGNORED
from sslwang.models.single import SingleNet
from sslwang.pretext import Pretext, PretextItems

RANGE = 3.0  # standard deviations that are shown; a few brighter spots would leave all else in the dark


def decided(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Classes meant by logits (B, ..., K) for classes (B, ...), or by one logit each for labels of 0 and 1."""
    return outputs.argmax(-1) if outputs.ndim == target.ndim + 1 else (outputs > 0).to(target.dtype)


def accuracy(outputs: torch.Tensor, target: torch.Tensor) -> float:
    """Share of the cells that count whose class is right."""
    counts = target != IGNORED
    right = (decided(outputs, target) == target) & counts
    return (right.sum() / counts.sum().clamp_min(1)).item()


def exact(outputs: torch.Tensor, target: torch.Tensor) -> float:
    """Share of rows whose every cell is right."""
    right = (decided(outputs, target) == target) | (target == IGNORED)
    return right.flatten(1).all(1).float().mean().item()


class ClassItems(PretextItems):
    """Rows that become (picture (B, 3, H, W), classes (B,) or (B, cells), or labels of 0 and 1)."""

    def words(self) -> Sequence[str]:
        """A name for each class."""
        raise NotImplementedError

    def caption(self, target: torch.Tensor) -> str:
        """Words for the classes of one row."""
        return ", ".join(self.words()[int(c)] for c in target.flatten() if c != IGNORED)

    def explained(self, picture: torch.Tensor, target: torch.Tensor) -> torch.Tensor | None:
        """The picture as the classes would have it put right; None where there is nothing to put right."""
        return None

    def shown(self, batch: tuple, outputs: torch.Tensor | None = None) -> list[Shown]:
        """The picture, what it is, what was said, and the picture put right by either."""
        pictures, target = batch
        answers = None if outputs is None else decided(outputs, target)
        rows = []
        for r, picture in enumerate(pictures):
            images, captions, right = [picture.clamp(-RANGE, RANGE)], [self.caption(target[r])], [None]
            solved = self.explained(picture, target[r])
            if solved is not None:
                images.append(solved.clamp(-RANGE, RANGE))
                captions.append("put right")
                right.append(None)
            if answers is not None:
                counts = target[r] != IGNORED
                answer = torch.where(counts, answers[r], target[r])
                right[0] = bool((answer == target[r]).all())
                captions[0] += f"\nsaid: {self.caption(answer)}"
                if solved is not None:
                    images.append(self.explained(picture, answer).clamp(-RANGE, RANGE))
                    share = int(((answer == target[r]) & counts).sum()), int(counts.sum())
                    captions.append(f"as it said, {share[0]} of {share[1]}")
                    right.append(right[0])
            rows.append(Shown(images, captions, right))
        return rows


class Compared(SingleNet):
    """The head `cells` where the answer is one: the mean of what all cells say, or which of the cells it is.

    Args:
        encoder, grid: see `SingleNet`.
        shape: (K,) or () of the answer.
        which: the answer is one of the cells; K is their count.
    """

    def __init__(self, encoder: nn.Module, shape: tuple[int, ...], grid: tuple[int, int], which: bool):
        super().__init__(encoder, "cells", (math.prod(grid), 1 if which else math.prod(shape)), grid)
        self.shape, self.which = shape, which

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) to outputs (B, *shape)."""
        cells = super().forward(images)
        return cells[..., 0] if self.which else cells.mean(1).reshape(len(images), *self.shape)


class ClassTask(Pretext):
    """A task of `ClassItems`. Subclasses give `shape` and `shares`; the constants follow.

    Attributes:
        WHICH: the classes are the cells of the grid.
        EASIER: the settings of each easier version by its name, the easiest first.
    """

    HEADS = ("pooled", "fastai")
    LOSSES = ("ce",)
    metric = "accuracy"
    WHICH: ClassVar[bool] = False
    EASIER: ClassVar[dict[str, dict[str, Any]]] = {"marked": {"mode": "marked"}}

    def __init__(self, settings=None):
        super().__init__(settings)
        shares = self.shares()
        self.chance = sum(map(max, shares)) / len(shares)

    def shape(self) -> tuple[int, ...]:
        """Shape of a row's output: (K,), (cells, K), or () for one logit, as bce has it."""
        return () if self.loss_kind == "bce" else (len(self.shares()[0]),)

    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the cells, where there are any."""
        return None

    def shares(self) -> list[list[float]]:
        """How often each class comes, for each cell that counts."""
        raise NotImplementedError

    def network(self, encoder: nn.Module) -> nn.Module:
        """See `Pretext.network`."""
        shape, grid = self.shape(), self.grid()
        if self.head_kind == "cells" and grid is not None and len(shape) < 2:
            return Compared(encoder, shape, grid, self.WHICH)
        return SingleNet(encoder, self.head_kind, shape, grid)

    def metrics(self) -> list:
        """See `Pretext.metrics`."""
        functions = (accuracy, exact) if len(self.shares()) > 1 else (accuracy,)
        return [AccumMetric(f, flatten=False) for f in functions]

    def best_constant(self) -> float | None:
        """Entropy of the classes, a mean over the cells; times the count of cells if summed."""
        shares = self.shares()
        entropy = sum(-p * math.log(p) for cell in shares for p in cell if p > 0)
        return entropy * self.settings.bs if self.settings.loss.reduction == "sum" else entropy / len(shares)

    def easier(self) -> dict[str, Task]:
        """See `Task.easier`."""
        return {name: self.under(**changes) for name, changes in self.EASIER.items()}

    def titles(self) -> list[str]:
        """One picture."""
        return ["picture"]

    def score(self, outputs: torch.Tensor, *targets: torch.Tensor) -> float:
        """Share of the cells that are right."""
        return accuracy(outputs, targets[0])


def alike(count: int, cells: int = 1) -> list[list[float]]:
    """Shares of classes that all come equally often, in each cell."""
    return [[1 / count] * count for _ in range(cells)]
