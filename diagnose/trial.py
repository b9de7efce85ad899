"""Trials: short trainings of a copy on given batches, under at most one change, giving a curve.

Every loss gets a scale of its own, with no formula needed: 0 is the best constant (one output vector for all rows,
optimised under the user's own loss), 1 is the free-output floor (every output optimised by itself). `learned` is where
on that scale a loss stands.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from fastai.callback.core import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    CancelStepException,
    CancelTrainException,
)
from fastai.callback.mixup import MixHandler
from fastai.callback.training import GradientAccumulation
from fastai.learner import Learner
from fastai.torch_core import TensorBase
from torch import Tensor, nn

from diagnose.changes import Change
from diagnose.errors import DiagnoseError, NotApplicable, SubjectError
from diagnose.isolate import fixed_loaders, loaders, seed_everything, twin
from diagnose.stats import relative_change, replaced, same_bits, spread, tensors

LEARNED = 0.8  # a batch counts as learned from here on: see reports/thresholds.md
ENOUGH = 0.95  # a trial stops here: more steps would not change what is concluded
WINDOW = 10  # steps averaged for the loss at the end of a trial
STEPS = 200  # steps of a full trial
DRAWS = 8  # of MixUp, over which a scale is averaged
AGREED = 0.1  # of the way from the floor to the first loss: a constant this low is found by L-BFGS, and is the answer
FEWEST = 50  # no trial stops early before this: running statistics of norm layers need steps to settle


class BudgetSpent(Exception):
    """The time allowed ran out in the middle of a trial."""


@dataclass(frozen=True)
class Scale:
    """The two losses between which everything is learned.

    Attributes:
        best_constant: loss of the best output that is the same for every row.
        floor: loss of the best outputs whatsoever; −inf if the loss has no lower bound.
        confined: "softmax", "log_softmax" or "sigmoid" if the model's last operation confines its outputs so, else "".
        confined_floor: loss of the best outputs that are confined so; the floor if nothing confines them.
        taught: one branch of the model is the target of another, and was left as it is: it moves with the weights.
    """

    best_constant: float
    floor: float
    confined: str = ""
    confined_floor: float = math.nan
    taught: bool = False

    @property
    def room(self) -> float:
        """Distance from the best constant to the floor; 0 where the loss cannot tell the two apart."""
        gap = self.best_constant - self.floor
        return gap if gap > 1e-4 * max(abs(self.best_constant), 1e-6) else 0.0

    def learned(self, loss: float) -> float:
        """0 at the best constant, 1 at the floor, negative above; 0 if there is no room; NaN for NaN or no floor."""
        if math.isnan(loss) or not math.isfinite(self.floor) or math.isnan(self.best_constant):
            return math.nan
        if not self.room:
            return 0.0
        return (self.best_constant - loss) / self.room if math.isfinite(loss) else -math.inf


@dataclass
class Trial:
    """What one trial gave.

    Attributes:
        change: what was different, "" for the subject as it is.
        steps: optimizer steps made.
        loss: one number a step, in training mode.
        scale: what the loss was measured against.
        learned: mean loss of the last steps on that scale.
        eval_learned: the same batch in evaluation mode after the last step; NaN if several batches were used.
        constant_after: loss of the best constant after the last step, where one branch is the target of another.
        moved: ‖Δw‖/‖w‖ of every parameter from the first step to the last.
        hypers: of each group of parameters at the last step: learning rate, momentum and what else the optimizer has.
        stopped: why it ended: "learned", "not finite" or "steps".
        learner: the trained copy.
        recorded: the `Store` of what the gauges saw of it, if it was recorded.
    """

    change: str
    scale: Scale
    loss: list[float] = field(default_factory=list)
    steps: int = 0
    learned: float = math.nan
    eval_learned: float = math.nan
    constant_after: float = math.nan
    moved: dict[str, float] = field(default_factory=dict)
    hypers: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = "steps"
    seconds: float = 0.0
    learner: Learner | None = None
    recorded: Any = None

    @property
    def is_learned(self) -> bool:
        """True if the batch was learned; NaN never is."""
        return self.learned >= LEARNED


class _CurveOfTrial(Callback):
    order = 12

    def __init__(self, trial: Trial, deadline: float | None, stop_at: float, fewest: int):
        self.trial, self.deadline, self.stop_at, self.fewest = trial, deadline, stop_at, fewest

    def after_loss(self):
        self.trial.loss.append(float(self.learn.loss.detach().float().mean()))

    def after_step(self):
        self.trial.steps += 1
        self.trial.hypers = [dict(group) for group in self.learn.opt.hypers]

    def after_batch(self):
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise BudgetSpent("the budget is spent")  # fastai cannot pass on an exception without a message
        trial = self.trial
        if trial.loss and not math.isfinite(trial.loss[-1]):
            trial.stopped = "not finite"
            raise CancelFitException
        if len(trial.loss) >= self.fewest and len(trial.loss) % 5 == 0 and _end_of(trial) >= self.stop_at:
            trial.stopped = "learned"
            raise CancelFitException

    def before_validate(self):
        raise CancelFitException  # trials never validate: metrics and trackers of the user's stay out of it


def _end_of(trial: Trial) -> float:
    last = trial.loss[-WINDOW:]
    return trial.scale.learned(sum(last) / len(last)) if last else math.nan


def level(learned: float | None) -> float:
    """How much was learned, as a number to compare: 0 for less than nothing, NaN and what was not measured."""
    return max(learned, 0.0) if learned is not None and math.isfinite(learned) else 0.0


def run_trial(
    learn: Learner,
    batches: list[Any],
    scale: Scale | None = None,
    change: Change | None = None,
    steps: int = STEPS,
    seed: int = 0,
    deadline: float | None = None,
    stop_at: float = ENOUGH,
    fewest: int = FEWEST,
    callbacks: Sequence[Callback] = (),
) -> Trial:
    """Train a copy of `learn` on `batches`, over and over in the given order, for at most `steps` optimizer steps.

    The learning rate is constant, the optimizer, its hyper-parameters and the callbacks are the subject's own. Random
    streams start from `seed`, so that two trials differ by their change only.

    Args:
        batches: as the loader yields them.
        scale: what the loss is measured against; computed under the changed loss if not given.
        deadline: `time.monotonic()` after which the trial is broken off.
        stop_at: stop early once this much is learned, but not before `fewest` steps.
        callbacks: of ours, which only look on.

    Raises:
        SubjectError: the subject's own code raised, and no change was made to it.
        NotApplicable: it raised under the change.
        BudgetSpent: the deadline passed.
    """
    started = time.monotonic()
    data = [batches[i % len(batches)] for i in range(steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch would warn of is what the checks report
        student = twin(learn, data)
        _keep_steps_per_batch(learn, student, batches)
        name = change.name if change else ""
        seed_everything(seed)
        try:
            if change:
                change.apply(student)
            scale = measure_scale(student, batches) if scale is None else scale
            trial = Trial(name, scale, learner=student)
            start = [(n, p, p.detach().clone()) for n, p in student.model.named_parameters()]
            seed_everything(seed)
            student.fit(1, cbs=[*callbacks, _CurveOfTrial(trial, deadline, stop_at, fewest)])
        except (BudgetSpent, NotApplicable, DiagnoseError, KeyboardInterrupt):
            raise
        except Exception as e:
            if change:
                raise NotApplicable(f"under the change '{name}' the subject raised {type(e).__name__}: {e}") from e
            raise SubjectError("training on one batch", e) from e
        trial.learned = math.nan if trial.stopped == "not finite" else _end_of(trial)
        trial.moved = {n: relative_change(before, p) for n, p, before in start}
        if len({id(b) for b in batches}) == 1:
            trial.eval_learned = scale.learned(batch_loss(student, batches[0], training=False))
        if scale.taught:
            # what became low because the targets fell together is not learned: a constant would be as good now
            trial.constant_after = measure_scale(student, batches, taught=True).best_constant
            lost = max(scale.best_constant - trial.constant_after, 0.0) / scale.room
            trial.learned, trial.eval_learned = trial.learned - lost, trial.eval_learned - lost
        student.dls = fixed_loaders(student, batches[:1])  # hundreds of batches must not live as long as the result
    trial.seconds = time.monotonic() - started
    return trial


def _keep_steps_per_batch(learn: Learner, student: Learner, batches: list[Any]) -> None:
    "Accumulation counts rows: with the few rows of a trial it would step so many times more seldom than the owner's."
    whole = getattr(loaders(learn)[0], "bs", None)
    rows = max((len(t) for b in batches[:1] for t in tensors(b)[:1] if t.ndim), default=0)
    if not isinstance(whole, int) or not 0 < rows < whole:
        return
    for cb in student.cbs:
        if isinstance(cb, GradientAccumulation):
            cb.n_acc = max(round(cb.n_acc * rows / whole), 1)


class _Captured(Callback):
    "Stops a fit at the first batch, once every other callback has prepared it."

    order = 1000

    def before_batch(self):
        self.found, self.loss_func = (self.learn.xb, self.learn.yb), self.learn.loss_func
        raise CancelFitException


def prepared(student: Learner, batch: Any) -> tuple[tuple, tuple]:
    """Inputs and targets as they reach the model: after the loader, the device transfer and every callback."""
    return _captured(student, batch).found


def _captured(student: Learner, batch: Any) -> _Captured:
    capture = _Captured()
    seen = student.dls
    student.dls = fixed_loaders(student, [batch])
    try:
        student.fit(1, cbs=capture)
    finally:
        student.dls = seen
    return capture


def predicted(student: Learner, output: Any, xb: tuple, yb: tuple) -> Any:
    """What the loss is given: callbacks may unpack a model's output (fastai's `RNNCallback`) or cast it. `student` is
    a twin, in the mode that its `training` says."""
    student.xb, student.yb, student.pred = xb, yb, output
    with contextlib.suppress(*_CANCELS):
        student("after_pred")
    return student.pred


_CANCELS = (CancelStepException, CancelBatchException, CancelTrainException, CancelEpochException, CancelFitException)


def batch_loss(student: Learner, batch: Any, training: bool) -> float:
    """Loss of one batch without a step, in training or in evaluation mode. `student` is a twin."""
    with student.removed_cbs([] if training else [cb for cb in student.cbs if isinstance(cb, MixHandler)]):
        xb, yb = prepared(student, batch)
    student.training = training
    with torch.no_grad():
        output = predicted(student, forward(student.model, xb, training), xb, yb)
        return float(student.loss_func(output, *yb).detach().float().mean())


def measure_scale(student: Learner, batches: list[Any], taught: bool = False) -> Scale:
    """Best constant and free-output floor over different batches, under the loss of the student and with its targets.

    Outputs that a last softmax or sigmoid confines to [0, 1] stay confined if the loss refuses others or has no lower
    bound for them: it expects probabilities then. Where all outputs agree on one constant for any targets, those that
    carry no gradient while others do are targets, and stay as they are.

    Args:
        taught: it is known that one branch is the target of another.

    Raises:
        NotApplicable: the batches carry no target, or the model's output holds no floating-point tensor.
    """
    unique = list({id(b): b for b in batches}.values())[:8]
    scales = []
    for batch in _repeated_if_mixed(student, unique):
        captured = _captured(student, batch)
        xb, yb = captured.found
        if not len(yb):
            raise NotApplicable("the batch has no target: fastai computes no loss without one")
        with unchanged(student.model), torch.enable_grad():
            student.model.eval()
            student.training = True  # MixUp and the like act on the loss only while training
            output = predicted(student, student.model(*xb), xb, yb)
            if any(_given(output)):
                student.model.train()  # the targets that one branch gives another are those of training mode
                output = predicted(student, student.model(*xb), xb, yb)
        scales.append(_scale_of_batch(captured.loss_func, output, yb, taught))
    n = len(scales)
    return Scale(
        sum(s.best_constant for s in scales) / n,
        sum(s.floor for s in scales) / n,
        scales[0].confined,
        sum(s.confined_floor for s in scales) / n,
        any(s.taught for s in scales),
    )


def _repeated_if_mixed(student: Learner, batches: list[Any]) -> list[Any]:
    "MixUp draws new targets for the same batch at every step: the scale is the mean over some draws."
    mixed = any(isinstance(cb, MixHandler) for cb in student.cbs)
    return [b for b in batches for _ in range(max(DRAWS // len(batches), 1))] if mixed else batches


def _scale_of_batch(loss_func: Callable, output: Any, yb: tuple, taught: bool) -> Scale:
    kind = confined_by(output)
    start = replaced(output, [t.detach() for t in tensors(output)])

    def loss_of(out: Any) -> Tensor:
        return loss_func(out, *yb)

    if not kind:
        free, given = scale_of(loss_of, start), _given(output)
        taught = any(given) and (taught or _agree(free, float(loss_of(start).detach().float().mean())))
        if taught:
            free = scale_of(loss_of, start, given)
        return Scale(free.best_constant, free.floor, "", free.floor, taught)
    squash = torch.sigmoid if kind == "sigmoid" else partial(getattr(torch, kind), dim=1)
    within = scale_of(lambda z: loss_of(squash(z)), torch.zeros_like(start))
    if _takes_any_number(loss_func, start, yb):
        free = scale_of(loss_of, start)
        if math.isfinite(free.floor):
            return Scale(free.best_constant, free.floor, kind, within.floor)
    return Scale(within.best_constant, within.floor, kind, within.floor)


def _given(output: Any) -> list[bool]:
    """For each tensor of an output, whether it may be a target for the others: it has no gradient, and they have (as
    where a gradient is stopped: Grill et al. 2020, Chen & He 2021). Empty if none has one."""
    given = [not t.requires_grad for t in tensors(output)]
    return given if not all(given) else []


def _agree(scale: Scale, first: float) -> bool:
    "Whether outputs that are all free need but agree on one constant, so that such a scale has no length."
    return scale.best_constant - scale.floor <= AGREED * (first - scale.floor)


def confined_by(output: Any) -> str:
    """What confines an output that still has its graph: "softmax", "log_softmax", "sigmoid" or "".

    Rows that are non-negative and sum to 1 along dimension 1 are a softmax, or the logarithm of one. Values in [0, 1]
    are a sigmoid only if that is the last operation: numbers may happen to lie there.
    """
    if not isinstance(output, Tensor) or output.ndim < 1 or not output.is_floating_point() or not output.numel():
        return ""
    out = output.detach().float()
    if not bool(torch.isfinite(out).all()) or float(out.max()) > 1:
        return ""
    rows = out.ndim > 1 and out.shape[1] > 1
    if rows and float(out.max()) <= 0 and bool((out.logsumexp(1).abs() < 1e-3).all()):
        return "log_softmax"
    if float(out.min()) < 0:
        return ""
    if rows and bool(((out.sum(1) - 1).abs() < 1e-3).all()):
        return "softmax"
    node = output.grad_fn
    while node is not None and any(w in type(node).__name__ for w in _RESHAPES) and node.next_functions:
        node = node.next_functions[0][0]
    return "sigmoid" if node is not None and "Sigmoid" in type(node).__name__ else ""


_RESHAPES = ("View", "Squeeze", "Unsqueeze", "Reshape", "Clone", "Select", "Slice", "Transpose", "Permute", "Alias")


def _takes_any_number(loss_func: Callable, out: Tensor, yb: tuple) -> bool:
    """Whether a loss gives a finite number for outputs outside [0, 1]. Asked on the CPU: on CUDA a refusal is an
    assertion on the device, after which nothing works any more."""
    loss_func = copy_to_cpu(loss_func)
    try:
        with torch.no_grad():
            answers = [
                loss_func(out.cpu() + shift, *(y.cpu() if isinstance(y, Tensor) else y for y in yb))
                for shift in (-2, 2)
            ]
    except (RuntimeError, ValueError):
        return False
    return all(bool(torch.isfinite(a).all()) for a in answers)


def copy_to_cpu(loss_func: Callable) -> Callable:
    """A loss that can be called with tensors on the CPU."""
    return copy.deepcopy(loss_func).cpu() if isinstance(loss_func, nn.Module) else loss_func


def scale_of(loss_of: Callable[[Any], Tensor], output: Any, given: Sequence[bool] = ()) -> Scale:
    """The scale of a loss for outputs of the shape of `output`, by optimising outputs instead of weights.

    Both optimisations are L-BFGS with a strong-Wolfe line search (Nocedal & Wright 2006, ch. 7), started from zero and
    from the given outputs; the least loss ever seen counts.

    Args:
        given: for each tensor of the output, whether it stays as it is: the loss takes it for a target.

    Raises:
        NotApplicable: there is no floating-point output to optimise.
    """
    parts = tensors(output)
    fixed = {i for i, kept in enumerate(given) if kept}
    free = [i for i, t in enumerate(parts) if t.is_floating_point() and t.ndim > 0 and i not in fixed]
    if not free:
        raise NotApplicable("the model's output holds no floating-point tensor")

    def rebuilt(values: list[Tensor]) -> Any:
        new = list(parts)
        for i, v in zip(free, values):
            new[i] = v.to(parts[i].dtype)
        return replaced(output, new)

    def mean_of(out: Any) -> Tensor:
        loss = loss_of(out)
        if isinstance(loss, TensorBase):  # of fastai: each of its operations takes twice as long
            loss = loss.as_subclass(Tensor)
        return loss.float().mean()

    def loss_of_constant(values: list[Tensor]) -> Tensor:
        return mean_of(rebuilt([v.expand(parts[i].shape) for i, v in zip(free, values)]))

    def loss_of_free(values: list[Tensor]) -> Tensor:
        return mean_of(rebuilt(values))

    finite = [torch.nan_to_num(parts[i].detach().float(), nan=0.0, posinf=0.0, neginf=0.0) for i in free]
    means = [t.mean(0, keepdim=True) for t in finite]
    best = min(least_loss(loss_of_constant, [torch.zeros_like(m) for m in means]), least_loss(loss_of_constant, means))
    wide = [m.expand_as(t).contiguous() for m, t in zip(means, finite)]
    floor = min(least_loss(loss_of_free, [torch.zeros_like(t) for t in finite]), least_loss(loss_of_free, wide), best)
    scale = Scale(best, floor, "", floor)
    if scale.room or not math.isfinite(floor):
        return scale
    # a loss that compares rows with each other has no slope where all rows are alike: start where they differ
    apart = [t.clone() for t in finite] if spread(finite) > 0 else [noise_for(t) for t in finite]
    floor = min(least_loss(loss_of_free, apart), floor)
    return Scale(best, floor, "", floor)


def noise_for(t: Tensor) -> Tensor:
    """Normal noise of a tensor's shape, the same every time."""
    return torch.randn(t.shape, generator=torch.Generator().manual_seed(0)).to(t.device)


def least_loss(loss_of: Callable[[list[Tensor]], Tensor], start: list[Tensor], rounds: int = 60) -> float:
    """Least loss seen while minimising over tensors from where they start; −inf if it falls without end, NaN if it
    never was a number."""
    values = [t.clone().requires_grad_(True) for t in start]
    seen: list[float] = []
    optimizer = torch.optim.LBFGS(values, lr=1.0, max_iter=rounds, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> float:
        for v in values:
            v.grad = None
        loss = loss_of(values)
        if loss.requires_grad:
            loss.backward()
        if math.isfinite(number := loss.item()):
            seen.append(number)
        return number

    with torch.enable_grad():
        first = closure()
        if any(v.grad is not None for v in values) and math.isfinite(first):
            with contextlib.suppress(RuntimeError):  # a loss without a lower bound ends in an overflow
                for _ in range(2):  # a restart forgets curvature that saturation has spoilt
                    optimizer.step(closure)
    if not seen:
        return math.nan
    return -math.inf if min(seen) < -1e4 * max(abs(seen[0]), 1.0) else min(seen)


def forward(model: nn.Module, xb: tuple, training: bool = False) -> Any:
    """One forward pass without a gradient, in the given mode; the model ends as it was."""
    with unchanged(model), torch.no_grad():
        model.train(training)
        output = model(*xb)
        return replaced(output, [t.detach() for t in tensors(output)])


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Whatever a forward pass keeps in the model ends as it began: modes, buffers, and attributes such as the hidden
    state of a recurrent model, without which the next pass would differ although its inputs do not."""
    bound = [(m, dict(vars(m)), dict(m._buffers)) for m in model.modules()]
    bits = [(b, b.detach().clone()) for b in model.buffers()]
    try:
        yield
    finally:
        for module, attributes, buffers in bound:
            vars(module).clear()
            vars(module).update(attributes)
            module._buffers.update(buffers)
        with torch.no_grad():
            for buffer, was in bits:
                if not same_bits(buffer, was):
                    buffer.copy_(was)
