"""Pretraining runs made by hand: a folder with weights that were never trained, and a record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sslwang.models.encoder import make_encoder
from sslwang.models.single import SingleNet
from sslwang.models.weights import save_weights
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
