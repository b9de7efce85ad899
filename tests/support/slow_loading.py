"""A pretext task whose rows sleep, hang, end their process or fill memory, alone or in worker processes only."""

from __future__ import annotations

import os
import signal
import time
from typing import ClassVar, Literal

import numpy as np
import torch
from fastai.losses import CrossEntropyLossFlat
from torch import nn
from torch.utils.data import get_worker_info

from diagnose.errors import DiagnoseError
from sslwang.pretext import Pretext, PretextItems, PretextSettings

HOARD = 200 * 2**20  # bytes


class SlowSettings(PretextSettings):
    """`rest` is seconds slept over a row; `fault` is what happens besides, in workers or (`-alone`) without them."""

    size: int = 16
    bs: int = 4
    rest: float = 0.0
    fault: Literal["", "hang", "exit", "raise", "hoard", "kill-alone", "usage-alone"] = ""


class SlowItems(PretextItems):
    """Even and odd rows are darker and lighter."""

    settings: SlowSettings

    def row(self, rng: np.random.Generator) -> tuple:
        """An image and its label, after what the settings ask for."""
        time.sleep(self.settings.rest)
        if get_worker_info() is not None:
            self._as_worker(self.settings.fault)
        elif self.settings.fault == "kill-alone":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.settings.fault == "usage-alone":
            raise DiagnoseError("the data are gone")
        label = int(rng.integers(2))
        return np.full((1, 16, 16, 3), 50 + 100 * label, np.uint8), label

    def _as_worker(self, fault: str) -> None:
        if fault == "hang":
            time.sleep(3600)
        elif fault == "exit":
            os._exit(3)
        elif fault == "raise":
            raise ValueError("no such luck")
        elif fault == "hoard":
            self.hoarded = np.ones(HOARD, np.uint8)

    def batch(self, images: torch.Tensor, *labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Images (B, 3, 16, 16) and labels (B,)."""
        return images[:, 0], labels[0]


class Slow(Pretext):
    """Tells dark from light."""

    Settings: ClassVar[type[PretextSettings]] = SlowSettings
    Items = SlowItems
    metric, chance = "accuracy", 0.5

    @property
    def sides(self):
        """No images are read."""
        return None, None

    def network(self, encoder: nn.Module) -> nn.Module:
        """A linear map."""
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))

    def loss(self) -> nn.Module:
        """Cross-entropy."""
        return CrossEntropyLossFlat()

    def metrics(self) -> list:
        """None are needed."""
        return []


def slow(**settings) -> Slow:
    return Slow(SlowSettings(**settings))
