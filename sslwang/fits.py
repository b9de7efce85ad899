"""Which heads and losses go with which task: what the tasks say of themselves, as tables."""

from __future__ import annotations

import inspect
from typing import Literal, get_args, get_origin

from pydantic import ValidationError

from diagnose.errors import DiagnoseError
from diagnose.registry import entries, load
from diagnose.task import Task
from sslwang.losses import LOSSES, MetricLoss, Variational, ViewLoss
from sslwang.models.pairs import HEADS, METRIC_HEADS
from sslwang.models.single import SINGLE_HEADS
from sslwang.models.views import VIEW_HEADS
from sslwang.pretext import Pretext

Kind = Literal["heads", "losses"]

_SPECIAL = (MetricLoss, ViewLoss, Variational)

KINDS: dict[Kind, dict[str, dict[str, type]]] = {
    "heads": {
        "one image": SINGLE_HEADS,
        "an image and others": HEADS,
        "an image and others, on a fixed scale": METRIC_HEADS,
        "views of an image": VIEW_HEADS,
    },
    "losses": {
        "outputs of any other head": {n: c for n, c in LOSSES.items() if not issubclass(c, _SPECIAL)},
        "scores of the heads embed-...": {n: c for n, c in LOSSES.items() if issubclass(c, MetricLoss)},
        "views of an image": {n: c for n, c in LOSSES.items() if issubclass(c, ViewLoss)},
        "a variational autoencoder": {n: c for n, c in LOSSES.items() if issubclass(c, Variational)},
    },
}


def fitting(task: Pretext, kind: Kind) -> dict[str, tuple[str, ...]]:
    """What fits a task, its own first, by the setting under which that is so; "" for its settings as they are.

    Each choice of the task's settings is tried by itself, and told where it makes a difference.
    """

    def fit(t: Pretext) -> tuple[str, ...]:
        return t.heads() if kind == "heads" else t.losses()

    found = {"": fit(task)}
    for name, field in type(task.settings).model_fields.items():
        for value in get_args(field.annotation) if get_origin(field.annotation) is Literal else ():
            try:
                fits = fit(task.under(**{name: value}))
            except (ValidationError, DiagnoseError):  # not possible with the other settings as they are
                continue
            if fits != found[""]:
                found[f"{name}={value}"] = fits
    return found


def fit_rows(catalogue: str, kind: Kind) -> list[tuple[str, str, str, str]]:
    """Rows (task, setting, its own, others that fit) of all tasks of a catalogue."""
    rows = []
    for entry in entries(catalogue):
        for setting, (own, *others) in fitting(load(entry, Task)(), kind).items():
            rows.append((entry.id, setting, own, ", ".join(others)))
    return rows


def kind_rows(kind: Kind) -> list[tuple[str, str, str]]:
    """Rows (kind, for what, what it is) of all heads or losses that there are."""
    return [(name, group, _first_sentence(cls)) for group, kinds in KINDS[kind].items() for name, cls in kinds.items()]


def _first_sentence(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
