"""What the tasks share that ask which of four boxes is the odd one."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from sslwang.data.boxes import place_names
from sslwang.tasks._classes import ClassTask, accuracy, alike

CELLS = 4
NAMES = [f"odd: {name}" for name in place_names(2)]


def three_and_one(rng: np.random.Generator, kinds: int) -> np.ndarray:
    """Kinds (4,) of the boxes: three alike and one, anywhere, that differs."""
    common, other = rng.choice(kinds, 2, replace=False)
    drawn = np.full(CELLS, common)
    drawn[rng.integers(CELLS)] = other
    return drawn


def odd_one(kinds: torch.Tensor) -> torch.Tensor:
    """Index (B,) of the kind in each row (B, k) that fewest others equal."""
    return (kinds[:, :, None] == kinds[:, None]).sum(2).argmin(1)


class OddTask(ClassTask):
    """Which of four boxes in a 2 x 2 picture is the odd one."""

    HEADS = ("cells", "pooled", "fastai")
    GENERALISES = False
    WHICH = True

    def grid(self) -> tuple[int, int] | None:
        """See `ClassTask.grid`."""
        return 2, 2

    def shares(self) -> list[list[float]]:
        """See `ClassTask.shares`."""
        return alike(CELLS)

    def judged(self, kinds: torch.Tensor, target: torch.Tensor) -> float:
        """Score of an oracle that found these kinds (B, 4)."""
        return accuracy(F.one_hot(odd_one(kinds), CELLS).float(), target)
