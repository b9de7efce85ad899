"""Train a pretext task for a number of steps and judge it on every held-out split."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from fastai.callback.core import Callback
from fastai.callback.schedule import Learner  # patches fit_one_cycle in

from diagnose.task import Task


@dataclass(frozen=True)
class Result:
    """One training.

    Args:
        seed: of weights and data.
        scores: loss and metrics by split, on items that were never trained on.
        seconds: of the training alone.
        learner: as it was trained.
    """

    seed: int
    scores: dict[str, dict[str, float]]
    seconds: float
    learner: Learner


class StepCounter(Callback):
    """Calls `on_step(step, loss)` after every training batch."""

    order = 60

    def __init__(self, on_step: Callable[[int, float], None]):
        self.on_step = on_step

    def after_batch(self) -> None:
        """Count training batches only."""
        if self.training:
            self.on_step(self.train_iter, self.loss.item())


def held_out_splits(task: Task) -> dict[str, Task]:
    """The task under every split that its data can be held out by, by name; the training data are the same in all."""
    data = task.settings.data
    if data.source != "photos":
        return {"file": task}
    kinds = get_args(type(data).model_fields["split"].annotation)
    return {
        kind: type(task)(task.settings.model_copy(update={"data": data.model_copy(update={"split": kind})}))
        for kind in kinds
    }


def train(
    task: Task,
    steps: int,
    seed: int,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    device: str = "cpu",
) -> Result:
    """Train for `steps` batches of fresh items under the one-cycle schedule with the task's own learning rate.

    Raises:
        DiagnoseError: the data cannot be read or are fewer than one batch.
    """
    task = type(task)(task.settings.model_copy(update={"items": steps * task.settings.bs}))
    learner = task.learner(seed, device)
    learner.remove_cbs([cb for cb in learner.cbs if cb.name == "progress"])
    began = time.perf_counter()
    with learner.no_logging(), learner.added_cbs(StepCounter(on_step)):
        learner.fit_one_cycle(1)
        seconds = time.perf_counter() - began
        names = ["loss", *(m.name for m in learner.metrics)]
        scores = {
            split: dict(zip(names, map(float, learner.validate(dl=held_out.loaders(seed, device).valid))))
            for split, held_out in held_out_splits(task).items()
        }
    return Result(seed, scores, seconds, learner)
