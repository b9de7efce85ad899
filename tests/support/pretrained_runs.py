"""Pretraining runs: one made by hand, of weights that were never trained and a record; and how one is stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sslwang.models.encoder import make_encoder
from sslwang.models.single import SingleNet
from sslwang.models.weights import save_weights
from sslwang.pretrain import Told
from sslwang.runs import BEST, ENCODER, MODEL, PretrainRun


def make_run(folder: Path, arch: str = "small", norm: str = "group", seed: int = 7, **changes: Any) -> PretrainRun:
    """A pretraining run that says of itself what `changes` do not change; its encoder is drawn from `seed`."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    net = SingleNet(make_encoder(arch, norm), "pooled", (4,))
    save_weights(net, folder / MODEL)
    save_weights(net.encoder, folder / ENCODER)
    torch.manual_seed(seed + 1)
    save_weights(make_encoder(arch, norm), folder / BEST)
    record = {
        "schema": 1, "task": "unmix", "settings": {"hardened": True}, "arch": arch, "norm": norm, "size": 32, "seed": 0,
        "steps": 10, "source": "photos", "with_val": False, "finished": True, "gate": {"skipped": "test"},
        "started": "2026-11-24T20:00:00", **changes,
    }  # fmt: skip
    run = PretrainRun(folder, record)
    run.save()
    return run


def weights(run: PretrainRun) -> list[bytes]:
    """The files of weights of a run."""
    return [(run.path / name).read_bytes() for name in (MODEL, ENCODER, BEST)]


class Stopping(Told):
    """Does something after so many batches, and keeps what is said."""

    def __init__(self, after: int | None, act: Callable[[], Any] | None):
        self.after, self.act, self.lines = after, act, []

    def step(self, done, epoch, loss):
        if done == self.after:
            self.act()

    def say(self, line):
        self.lines.append(line)
