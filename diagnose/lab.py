"""Lab: what checks and causes work with. It holds the subject, one fixed batch, the scale of its loss, and runs trials.

Everything expensive is computed once and shared: the batch, the scale, the trial of the subject as it is.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from fastai.callback.mixup import MixHandler
from fastai.learner import Learner
from fastai.torch_core import to_device
from torch import Tensor

from diagnose import trial as trials
from diagnose.changes import Change
from diagnose.errors import DiagnoseError, NotApplicable, SubjectError
from diagnose.isolate import loaders, seed_everything, twin
from diagnose.stats import replaced, tensors
from diagnose.subject import Subject
from diagnose.task import Task
from diagnose.trial import Scale, Trial
from diagnose.watch import Watch

ASSERTED = ("out of bounds", "out of range", "between 0 and 1")  # in words on the CPU, by an assertion on CUDA
ROWS = 16  # rows of the fixed batch: enough for batch statistics, few enough for hundreds of steps in seconds


@dataclass(frozen=True)
class Gradients:
    """One backward pass: the loss, whether it has a gradient at all, and the gradient of every trainable parameter."""

    loss: float
    has_gradient: bool
    of: dict[str, Tensor | None]


class Lab:
    """One subject under examination.

    Args:
        subject: what is examined.
        seed: starts every random stream of every measurement.
        deadline: `time.monotonic()` at which the budget is spent; None for no bound.
        say: told in words what is going on, for the progress display.
    """

    def __init__(
        self,
        subject: Subject,
        seed: int = 0,
        deadline: float | None = None,
        say: Callable[[str], None] = lambda text: None,
    ):
        self.subject, self.learn, self.task = subject, subject.learner, subject.task
        self.seed, self.deadline, self.say = seed, deadline, say

    # ---- batches -------------------------------------------------------------------------------------------------

    @cached_property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.learn.model.parameters()).device

    @cached_property
    def whole_batch(self) -> Any:
        """The first training batch, as the loader yields it, on the model's device.

        Raises:
            DiagnoseError: the loader yields none.
            SubjectError: reading it raised.
        """
        found = self.read(loaders(self.learn)[0], 1)
        if not found:
            raise DiagnoseError(f"the training loader yields no batch{self._why_no_batch()}")
        return found[0]

    def read(self, loader: Any, count: int) -> list[Any]:
        """The first `count` batches of a pass over a loader, read without workers where the loader allows it."""
        seed_everything(self.seed)
        try:
            with _no_workers(loader):
                return [to_device(b, self.device) for b in itertools.islice(iter(loader), count)]
        except DiagnoseError:
            raise
        except Exception as e:
            raise SubjectError("reading a batch", e) from e

    def _why_no_batch(self) -> str:
        loader = loaders(self.learn)[0]
        items, size = getattr(loader, "n", None), getattr(loader, "bs", None)
        if items is None or size is None:
            return ": give it some"
        if items < size and getattr(loader, "drop_last", False):
            return f": {items} items are fewer than one batch of {size}, and drop_last is on; use bs={items} or less"
        return f": it has {items} items, batch size {size}"

    @cached_property
    def batch(self) -> Any:
        """The fixed batch of all one-batch trials: up to 16 rows of the first training batch, the same every time.

        A model or a loss that is made for one batch size gets the whole batch.
        """
        few = few_rows(self.whole_batch, ROWS)
        return few if few is self.whole_batch or self.accepts(few) else self.whole_batch

    def other_rows(self, number: int) -> Any | None:
        """As many other rows of the first training batch as the fixed one has, the `number`-th such part (from 1); None
        if there are none, or if they have but one label."""
        if self.batch is self.whole_batch:
            return None
        parts = tensors(self.whole_batch)
        first = number * self.rows
        if len(parts[0]) < first + self.rows:
            return None
        rows = replaced(self.whole_batch, [t[first : first + self.rows] for t in parts])
        return None if _all_alike(tensors(rows)[-1]) else rows

    def accepts(self, batch: Any) -> bool:
        """Whether model and loss take a batch, asked of a copy on the CPU."""
        # if it is not the number of rows, it is raised again when the whole batch is used
        return self._asked_on_cpu(batch) is None

    def _asked_on_cpu(self, batch: Any) -> tuple[str, Exception] | None:
        """What a copy on the CPU raises on a batch, and where: "forward" or "loss". An index out of range is an
        assertion on a CUDA device, after which nothing works any more."""
        cpu, stage = torch.device("cpu"), "forward"
        try:
            copy, batch = twin(self.learn, [batch]), to_device(batch, cpu)
            copy.model, copy.dls.device = copy.model.to(cpu), cpu
            copy.remove_cbs([cb for cb in copy.cbs if isinstance(cb, MixHandler)])  # they act while training only
            seed_everything(self.seed)
            xb, yb = trials.prepared(copy, batch)
            output = trials.forward(copy.model, xb)
            stage = "loss"
            with torch.no_grad():
                trials.copy_to_cpu(copy.loss_func)(trials.predicted(copy, output, xb, yb), *yb)
        except Exception as e:
            return stage, e
        return None

    @property
    def _on_cuda(self) -> bool:
        return self.device.type == "cuda"

    @cached_property
    def _refused(self) -> tuple[str, Exception] | None:
        found = self._asked_on_cpu(self.batch) if self._on_cuda else None
        return found if found and any(words in str(found[1]).lower() for words in ASSERTED) else None

    def _guard(self, stage: str) -> None:
        "Raises what would be an assertion on the device, before the device is asked."
        if self._refused and (stage == "loss" or self._refused[0] == "forward"):
            at = "running the forward pass" if self._refused[0] == "forward" else "computing the loss"
            raise SubjectError(at, self._refused[1])

    @cached_property
    def rows(self) -> int:
        """Rows of the fixed batch."""
        return len(tensors(self.batch)[0])

    @cached_property
    def inputs_and_targets(self) -> tuple[tuple, tuple]:
        """The fixed batch as it reaches the model, after every callback."""
        copy = self.twin()
        seed_everything(self.seed)
        try:
            return trials.prepared(copy, self.batch)
        except Exception as e:
            raise SubjectError("preparing a batch", e) from e

    @property
    def xb(self) -> tuple:
        """Inputs of the fixed batch as the model gets them."""
        return self.inputs_and_targets[0]

    @property
    def yb(self) -> tuple:
        """Targets of the fixed batch as the loss gets them."""
        return self.inputs_and_targets[1]

    # ---- copies and trials ----------------------------------------------------------------------------------------

    def twin(self) -> Learner:
        """A fresh copy that may be changed, on the fixed batch."""
        return twin(self.learn, [self.batch])

    def forward(self, model: torch.nn.Module, xb: tuple | None = None, training: bool = False) -> Any:
        """One forward pass of a copy, with the random streams at the seed.

        Raises:
            SubjectError: it raised on the batch as it is. NotApplicable: it raised on altered inputs.
        """
        self._guard("forward")
        seed_everything(self.seed)
        try:
            return trials.forward(model, self.xb if xb is None else xb, training)
        except Exception as e:
            if xb is None:
                raise SubjectError("running the forward pass", e) from e
            raise NotApplicable(f"the forward pass raised {type(e).__name__} on altered inputs: {e}") from e

    def features(self, task: Task, model: torch.nn.Module, inputs: tuple) -> Tensor:
        """What a registered task takes for the features of its model, in the model's current mode, without a gradient.

        Raises:
            NotApplicable: the model is not of the kind that the task knows.
        """
        seed_everything(self.seed)
        try:
            with torch.no_grad():
                return task.features(model, *inputs).detach()
        except AttributeError as e:
            raise NotApplicable(f"the model is not of the kind whose features the task knows: {e}") from e

    @cached_property
    def output(self) -> Any:
        """The model's output on the fixed batch in evaluation mode, before any step, as the loss gets it."""
        copy = self.twin()
        output = self.forward(copy.model)
        try:
            return self.predicted(copy, output)
        except Exception as e:
            raise SubjectError("running the callbacks after the forward pass", e) from e

    @cached_property
    def scale(self) -> Scale:
        """Best constant and floor of the fixed batch under the subject's own loss."""
        self._guard("loss")
        copy = self.twin()
        try:
            return trials.measure_scale(copy, [self.batch])
        except (NotApplicable, DiagnoseError):
            raise
        except Exception as e:
            raise SubjectError("computing the loss", e) from e

    def trial(
        self,
        change: Change | None = None,
        batches: list[Any] | None = None,
        steps: int = trials.STEPS,
        scale: Scale | None = None,
        seed: int | None = None,
        record: bool = False,
        **kwargs: Any,
    ) -> Trial:
        """One trial, on the fixed batch unless told otherwise, within the budget.

        Args:
            seed: of its random streams; the lab's own if None.
            record: let the gauges record every step; `Trial.recorded` holds what they saw.
        """
        self._guard("loss")
        watch = Watch(first=steps, alarms=False) if record else None
        trial = trials.run_trial(
            self.learn,
            [self.batch] if batches is None else batches,
            scale=scale,
            change=change,
            steps=steps,
            seed=self.seed if seed is None else seed,
            deadline=self.deadline,
            callbacks=[watch] if watch else [],
            **kwargs,
        )
        if watch:
            trial.recorded = watch.store
        return trial

    @cached_property
    def baseline(self) -> Trial:
        """The subject as it is, on the fixed batch: the one half that all paired trials share."""
        return self.trial(scale=self.scale, record=True)

    @cached_property
    def gradients(self) -> Gradients:
        """Gradient of the first loss on the fixed batch with respect to every parameter, in training mode."""
        return self.gradients_under(None)

    def gradients_under(self, change: Change | None) -> Gradients:
        """Gradients of a copy under a change, in training mode, from the random streams at the seed.

        Raises:
            SubjectError: the subject raised, and no change was made to it. NotApplicable: it raised under the change.
        """
        self._guard("loss")
        copy = self.twin()
        seed_everything(self.seed)
        try:
            if change:
                change.apply(copy)
            copy.model.train()
            copy.model.zero_grad(set_to_none=True)
            seed_everything(self.seed)
            loss = self.loss_of(copy, self.predicted(copy, copy.model(*self.xb)))
            if loss.requires_grad:
                loss.backward()
        except NotApplicable:
            raise
        except Exception as e:
            if change:
                raise NotApplicable(f"under the change '{change.name}' it raised {type(e).__name__}: {e}") from e
            raise SubjectError("running the forward and backward pass", e) from e
        grads = {n: p.grad for n, p in copy.model.named_parameters() if p.requires_grad}
        return Gradients(float(loss.detach()), loss.requires_grad, grads)

    def predicted(self, copy: Learner, output: Any) -> Any:
        """What callbacks make of a copy's output on the fixed batch before the loss gets it: `loss_of` takes that."""
        copy.training = True
        return trials.predicted(copy, output, self.xb, self.yb)

    def loss_of(self, copy: Learner, output: Any) -> Tensor:
        """The subject's own loss of an output against the fixed batch's targets, as one number."""
        if not len(self.yb):
            raise NotApplicable("the batch has no target: fastai computes no loss without one")
        self._guard("loss")
        copy.training = True
        return copy.loss_func(output, *self.yb).float().mean()

    @property
    def time_left(self) -> float:
        """Seconds of the budget that are left; infinite without a budget."""
        return float("inf") if self.deadline is None else self.deadline - time.monotonic()


@contextmanager
def _no_workers(loader: Any) -> Iterator[None]:
    fake = getattr(loader, "fake_l", None)
    if fake is None:
        yield
        return
    with fake.no_multiproc():
        yield


def few_rows(batch: Any, rows: int) -> Any:
    """Up to `rows` rows of a batch, with more than one label among them if the batch has more than one.

    A batch whose tensors do not agree on their first dimension is kept whole.
    """
    parts = tensors(batch)
    sizes = {t.shape[0] for t in parts if t.ndim} | ({0} if any(not t.ndim for t in parts) else set())
    if len(sizes) != 1 or (n := sizes.pop()) <= rows:
        return batch
    chosen = torch.arange(rows)
    last = parts[-1]
    if _all_alike(last[:rows]) and not _all_alike(last):
        chosen = torch.linspace(0, n - 1, rows).round().long()
    return replaced(batch, [t[chosen.to(t.device)] for t in parts])


def _all_alike(t: Tensor) -> bool:
    return bool((t == t[:1]).all())
