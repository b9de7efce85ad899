"""A curriculum: training moves on to the next, harder loaders when a threshold is passed, never by the clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.learner import Learner

from diagnose.errors import DiagnoseError
from diagnose.task import Task


def stages_of(task: Task) -> dict[str, Task]:
    """The stages of a task by name, itself the last: its own `stages` if there are several, else its easier versions.

    Raises:
        DiagnoseError: a task without easier versions.
    """
    own = task.stages() if hasattr(task, "stages") else {}
    found = own if len(own) > 1 else {**task.easier(), task.id: task}
    if len(found) < 2:
        raise DiagnoseError(f"{task.id} has no easier version to begin with; leave the curriculum out")
    return found


@dataclass(frozen=True)
class StageMark:
    """Where a stage began, for curves: the loss starts on another scale there.

    Args:
        stage: its name.
        step: training batches that were done before it.
        epoch: that it begins with.
        score: of the stage before, that passed its threshold; None for the first.
    """

    stage: str
    step: int
    epoch: int
    score: float | None


class Curriculum(Callback):
    """Trains on the loaders of one stage after the other.

    After each epoch the metric on the validation loader of the stage is compared with its threshold. Once it is passed,
    the Learner's loaders are those of the next stage from the next epoch on. In the last stage nothing changes any
    more. Where a stage begins is told to a `diagnose.Watch` on the same Learner, and so to its store, its figures of
    the loss, TensorBoard and Comet. Batches of all stages must have the same shapes, the Learner keeps its optimizer,
    and `dls` stays that of the last stage when training ends. The next `fit` goes on in the stage that was reached.

    Args:
        stages: loaders by name, the easiest first, or functions that make them when they are needed.
        thresholds: that each stage's metric must reach; one for all, or one for each stage but the last.
        metric: name of a metric or of `valid_loss`.
        lower: whether lower is better, as for losses.

    Attributes:
        marks: `StageMark`s of the stages that have begun.

    Raises:
        DiagnoseError: no stage, a number of thresholds that does not fit, or (when training begins) no such metric.
    """

    order = 55  # after the Recorder has written the metrics

    def __init__(
        self,
        stages: Mapping[str, DataLoaders | Callable[[], DataLoaders]],
        thresholds: float | list[float],
        metric: str = "accuracy",
        lower: bool = False,
    ):
        self.stages = list(stages.items())
        if not self.stages:
            raise DiagnoseError("a curriculum needs at least one stage")
        given = [thresholds] * (len(self.stages) - 1) if isinstance(thresholds, (int, float)) else list(thresholds)
        if len(given) != len(self.stages) - 1:
            raise DiagnoseError(
                f"{len(given)} thresholds for {len(self.stages)} stages; every stage but the last has one"
            )
        self.thresholds, self.metric, self.lower = given, metric, lower
        self.marks: list[StageMark] = []
        self.steps = self.epochs = 0
        self._trained = False
        self._told = 0

    @property
    def stage(self) -> int:
        """Index of the stage under way, 0 before the first."""
        return max(0, len(self.marks) - 1)

    def before_fit(self) -> None:
        """The loaders of the first stage, and that there is such a metric."""
        known = [n for n in self.recorder.metric_names if n not in ("epoch", "time")]
        if self.metric not in known:
            raise DiagnoseError(f"no metric named {self.metric} to move on by; known: {', '.join(known)}")
        if not self.marks:
            self._begin(None)
        self._trained = False

    def before_train(self) -> None:
        """Epochs that only validate do not count. A `Watch` on the same Learner is told of the stage that begins."""
        self._trained = True
        watch = getattr(self.learn, "watch", None)
        for mark in self.marks[self._told :] if watch is not None else ():
            watch.mark(f"stage {mark.stage}")
        self._told = len(self.marks)

    def after_batch(self) -> None:
        """Training batches are counted over all fits."""
        self.steps += bool(self.training)

    def after_epoch(self) -> None:
        """Move on if the threshold is passed."""
        if not self._trained:
            return
        self._trained = False
        self.epochs += 1
        if self.stage < len(self.thresholds):
            score = dict(zip(self.recorder.metric_names[1:], self.learn.final_record)).get(self.metric)
            threshold = self.thresholds[self.stage]
            if score is None:  # nothing was validated in this epoch
                return
            if score <= threshold if self.lower else score >= threshold:
                self._begin(float(score))

    def _begin(self, score: float | None) -> None:
        self.marks.append(StageMark(self.stages[len(self.marks)][0], self.steps, self.epochs, score))
        self._load(self.learn)

    def _load(self, learn: Learner) -> None:
        loaders = self.stages[self.stage][1]
        learn.dls = loaders() if callable(loaders) and not isinstance(loaders, DataLoaders) else loaders

    def state(self) -> dict[str, Any]:
        """What JSON holds of where it stands."""
        marks = [asdict(mark) for mark in self.marks]
        return {"marks": marks, "steps": self.steps, "epochs": self.epochs, "told": self._told}

    def put_back(self, state: dict[str, Any], learn: Learner) -> None:
        """Stand where `state` was taken, and give the Learner the loaders of that stage."""
        self.marks = [StageMark(**mark) for mark in state["marks"]]
        self.steps, self.epochs, self._told = state["steps"], state["epochs"], state["told"]
        if self.marks:
            self._load(learn)

    def draw(self, axes: Any) -> None:
        """A line with its name where each stage begins, on matplotlib axes over training steps."""
        for mark in self.marks:
            axes.axvline(mark.step, color="#777777", linewidth=1, linestyle=":")
            axes.text(mark.step, 1, f" {mark.stage}", transform=axes.get_xaxis_transform(), va="bottom", fontsize=8)
