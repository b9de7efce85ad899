"""Evaluations made by hand: starts without runs, and cells whose predictions are right as often as is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from diagnose.task import flat_settings
from sslwang.circumstances import fingerprint
from sslwang.data.images import ArrayImages
from sslwang.data.labelled import Labelled, LabelledImages
from sslwang.evaluation.cells import Protocol, Tuning, judged
from sslwang.evaluation.comparison import Evaluation, Facts
from sslwang.evaluation.starts import Budget, Member, Start, random_encoder
from sslwang.models.weights import save_weights
from sslwang.pretrain import code_now, task_of

CLASSES = ("astronaut", "chelsea", "coffee", "rocket")
SETTINGS = {
    "size": 16, "bs": 4, "encoder.arch": "small", "encoder.norm": "group", "data.source": "photos",
    "data.split": "region", "hardened": True,
}  # fmt: skip
ROWS = 40  # of validation


def start(name: str, kind: str = "pretext", seeds=(0, 1, 2), score: float | None = 0.9, **settings) -> Start:
    """A start whose members' runs are nowhere."""
    runs = [None if kind == "random" else Path("runs") / f"{name}-{seed}" for seed in seeds]
    members = tuple(
        Member(seed, run, f"{name} {seed}", 60.0, None if kind == "random" else score, "behind the gate")
        for seed, run in zip(seeds, runs)
    )
    return Start(
        name, kind, Budget(100, dict(SETTINGS)), members, name.split()[0], {**SETTINGS, **settings}, "accuracy", 0.25
    )


def predictions(right: float, seed: int = 0, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (rows, 4) of which a share is right, and labels (rows,) of the classes 0, 1 and 3."""
    rng = np.random.default_rng(seed)
    labels = np.array([0, 1, 3])[np.arange(rows) % 3]
    said = labels.copy()
    said[: rows - round(right * rows)] = (labels[: rows - round(right * rows)] + 1) % 4
    probabilities = rng.uniform(0, 0.1, (rows, 4))
    probabilities[np.arange(rows), said] += rng.uniform(0.2, 1, rows)
    return (probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32), labels


def cell(name: str, method: str, fraction: float, seed: int, right: float) -> dict:
    """A finished cell as its file holds it."""
    probabilities, labels = predictions(right, seed)
    return {
        "schema": 1, "code": fingerprint(), "start": name, "method": method, "fraction": fraction, "seed": seed,
        "pretraining_seed": seed, "labels": round(400 * fraction), "seconds": 1.0,
        **judged(probabilities, labels, np.array([0, 1, 3])),
    }  # fmt: skip


def evaluation(right: list[tuple[Start, dict[str, list[float]]]], fractions=(0.01, 0.1), **changes) -> Evaluation:
    """An evaluation of (start, {method: accuracy of each seed}) pairs; ten times the labels give 0.1 more."""
    starts = tuple(s for s, _ in right)
    methods = tuple(dict.fromkeys(m for _, by_method in right for m in by_method))
    seeds = tuple(range(max(len(v) for _, by_method in right for v in by_method.values())))
    cells = tuple(
        cell(s.name, method, fraction, seed, min(1.0, value + 0.1 * place))
        for s, by_method in right
        for method, values in by_method.items()
        for place, fraction in enumerate(fractions)
        for seed, value in enumerate(values)
    )
    facts = Facts("photos", CLASSES, 3, 400, ROWS, 0.35)
    protocol = Protocol("photos", "0" * 12, 16, "standardised", Tuning(20))
    made = {"starts": starts, "methods": methods, "fractions": fractions, "seeds": seeds, "cells": cells}
    return Evaluation(**{"facts": facts, "protocol": protocol, **made, **changes})


def small_data(per_class: int = 12, size: int = 16) -> Labelled:
    """Three classes of noise around a colour each; validation has the first and the last of them."""
    rng = np.random.default_rng(0)
    sides = []
    for classes in ((0, 1, 2), (0, 2)):
        labels = np.repeat(classes, per_class)
        tiles = rng.integers(0, 160, (len(labels), size, size, 3)).astype(np.uint8)
        for tile, label in zip(tiles, labels):
            tile[: size // 2, :, label] //= 4
        sides.append((tiles, labels))
    made = [
        LabelledImages(ArrayImages(tiles), labels.astype(np.int64), [f"{part} {i}" for i in range(len(labels))])
        for part, (tiles, labels) in zip(("train", "val"), sides)
    ]
    return Labelled("small", ("blue", "green", "red"), ("blue", "red"), *made, size=size, titles={"red": "<b>red"})


def made_run(folder: Path, task: str = "unmix", seed: int = 0, steps: int = 100, finished: bool = True, **settings):
    """The folder of a run that nobody trained: its record, and an encoder with weights of its own."""
    folder.mkdir(parents=True)
    chosen = task_of(task, {"size": 16, "bs": 4, **settings})
    history = [
        {"epoch": epoch, "steps": steps, "train_loss": 0.5, "valid_loss": 0.6, "exact_pair": 0.5 + 0.2 * epoch}
        for epoch in range(2)
    ]
    record = {
        "schema": 1, "task": task, "settings": flat_settings(chosen.settings), "arch": "small", "norm": "group",
        "seed": seed, "size": 16, "epochs": 2, "steps": steps, "source": "photos", "gate": {"skipped": "by hand"},
        "options": {"schedule": "one-cycle", "accumulate": 1, "precision": "auto"}, "seconds": 12.5,
        "finished": finished, "started": f"2026-01-01T00:00:0{seed}", "history": history,
        "best": {"epoch": 0, "metric": "exact_pair", "value": 0.5}, "identity": code_now(chosen),
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    save_weights(random_encoder("small", "group", 100 + seed), folder / "encoder.safetensors")
    save_weights(random_encoder("small", "group", 200 + seed), folder / "encoder-best.safetensors")
    return folder
