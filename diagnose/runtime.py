"""What a run costs: seconds a step, items a second of the loader, memory by batch size. Each is measured once.

Everything works on copies and is bounded in time; nothing is measured beyond a quarter of the free memory.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psutil
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.data.load import DataLoader
from fastai.learner import Learner
from torch import Tensor
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import IterableDataset

from diagnose.errors import NotApplicable, SubjectError
from diagnose.isolate import loaders, seed_everything, twin
from diagnose.lab import Lab
from diagnose.stats import replaced, tensors
from diagnose.trial import Scale, predicted, run_trial

T = TypeVar("T")
WARM_UP, STEPS = 3, 20  # steps left out of the medians, and steps in them
STEP_SECONDS = 6.0  # after which no further step is timed
WORKERS = (0, 1, 2, 4, 8)
SETTING_SECONDS = 1.0  # of reading for one setting of the loader, after its first batch
SETTING_BATCHES = 64
STUCK = 20.0  # seconds without a batch after which workers count as stuck
LARGEST = 2**14  # rows
MEMORY_SECONDS = 3.0  # after which no larger batch is tried
SHARE = 0.25  # of the free memory that may be used


def once(lab: Lab, name: str, measure: Callable[[Lab], T]) -> T:
    """A measurement that several checks share."""
    kept = lab.__dict__.setdefault("runtime", {})
    if name not in kept:
        kept[name] = measure(lab)
    return kept[name]


def synchronised(device: torch.device) -> float:
    """The time now, once everything asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


# ---- seconds a step ----------------------------------------------------------------------------------------------

PARTS = ("data", "forward", "backward", "step")


@dataclass(frozen=True)
class StepTimes:
    """Medians over steps after the warm-up, in seconds; `first` is the wait for the first batch of the epoch."""

    data: float
    forward: float
    backward: float
    step: float
    first: float
    steps: int
    rows: int

    @property
    def compute(self) -> float:
        """Seconds a step without waiting for data."""
        return self.forward + self.backward + self.step

    @property
    def total(self) -> float:
        """Seconds a step."""
        return self.data + self.compute


class _Clock(Callback):
    "Stamps the phases of every step, before all other callbacks."

    order = -1000

    def __init__(self, device: torch.device):
        self.device, self.spans, self.rows, self.first = device, [], 0, 0.0

    def before_train(self):
        self.began = self.last = synchronised(self.device)
        self.stamps = []

    def before_batch(self):
        self.stamps = [self.last, synchronised(self.device)]
        self.rows = max((len(t) for t in tensors(self.learn.xb) if t.ndim), default=0)
        if not self.spans and not self.first:
            self.first = self.stamps[1] - self.stamps[0]

    def after_loss(self):
        self.stamps.append(synchronised(self.device))

    def after_backward(self):
        self.stamps.append(synchronised(self.device))

    def after_step(self):
        self.stamps.append(synchronised(self.device))

    def after_batch(self):
        if len(self.stamps) == len(PARTS) + 1:
            self.spans.append([b - a for a, b in zip(self.stamps, self.stamps[1:])])
        self.last = synchronised(self.device)
        if len(self.spans) >= WARM_UP + STEPS or self.last - self.began > STEP_SECONDS:
            raise CancelFitException

    def before_validate(self):
        raise CancelFitException


def step_times(lab: Lab) -> StepTimes:
    """Seconds a step of a copy on the subject's own loader, as its owner would train it.

    Raises:
        NotApplicable: no step was complete. SubjectError: the subject's own code raised.
    """
    return once(lab, "step times", _step_times)


def _step_times(lab: Lab) -> StepTimes:
    copy, clock = twin(lab.learn), _Clock(lab.device)
    seed_everything(lab.seed)
    try:
        copy.fit(1, cbs=clock)
    except Exception as e:
        raise SubjectError("training on the loader", e) from e
    spans = clock.spans[WARM_UP:] or clock.spans
    if not spans:
        raise NotApplicable("no step of the epoch was complete: a callback cancelled every one")
    medians = [statistics.median(parts) for parts in zip(*spans)]
    return StepTimes(*medians, first=clock.first, steps=len(spans), rows=clock.rows)


# ---- the loader --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoaderRate:
    """What one setting of the loader delivers.

    Attributes:
        first: seconds to the first batch, the start of the workers included.
        batch: mean seconds a batch after the first; NaN if there was one batch only.
        rows: rows read. error: why there is no number, "" if there is one.
    """

    workers: int
    pinned: bool
    first: float = float("nan")
    batch: float = float("nan")
    rows: int = 0
    batches: int = 0
    error: str = ""

    @property
    def where(self) -> str:
        """The setting, as evidence names it."""
        return f"workers={self.workers}, pin_memory={'on' if self.pinned else 'off'}"

    @property
    def items_per_second(self) -> float:
        """Without the first batch."""
        return self.rows / self.batches / self.batch if self.batches and self.batch > 0 else float("nan")

    @property
    def with_first(self) -> float:
        """Items a second with the first batch."""
        rest = self.batch * (self.batches - 1) if self.batches > 1 else 0.0
        return self.rows / (self.first + rest) if self.rows else float("nan")

    def epoch(self, batches: int) -> float:
        """Seconds to read that many batches, the first included."""
        return self.first + self.batch * (batches - 1) if batches > 1 else self.first


def configured(loader: Any) -> tuple[int, bool]:
    """Workers and pinning that a loader has now."""
    inner = getattr(loader, "fake_l", loader)
    return getattr(inner, "num_workers", 0), bool(getattr(inner, "pin_memory", False))


def batches_per_epoch(lab: Lab) -> int | None:
    """Length of the training loader; None if it has none."""
    try:
        return len(loaders(lab.learn)[0])
    except TypeError:
        return None


def loader_rates(lab: Lab) -> list[LoaderRate]:
    """What the training loader delivers under 0, 1, 2, 4 and 8 workers, as far as there are cores.

    Raises:
        NotApplicable: the loader cannot be made again with other workers.
    """
    return once(lab, "loader rates", _loader_rates)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _loader_rates(lab: Lab) -> list[LoaderRate]:
    loader = loaders(lab.learn)[0]
    if not isinstance(loader, (DataLoader, TorchLoader)):
        raise NotApplicable(f"the loader is a {type(loader).__name__}, which has no workers")
    if isinstance(getattr(loader, "dataset", None), IterableDataset):
        raise NotApplicable("the data set is an iterable: each worker would read all of it")
    now, pinned = configured(loader)
    counts = sorted({w for w in WORKERS if w <= cores()} | {now})
    pins = [False, True] if lab.device.type == "cuda" else [False]
    rates = []
    for pin in sorted({*pins, pinned and lab.device.type == "cuda"}):
        for workers in counts:
            lab.say(f"loader throughput: {workers} workers")
            rates.append(_rate(lab, loader, workers, pin))
    return rates


def _again(loader: Any, workers: int, pin: bool) -> Any:
    timeout = STUCK if workers else 0
    if isinstance(loader, DataLoader):
        return loader.new(num_workers=workers, pin_memory=pin, timeout=timeout)
    shared = {"collate_fn": loader.collate_fn, "worker_init_fn": loader.worker_init_fn, "generator": loader.generator}
    own = {"num_workers": workers, "pin_memory": pin, "timeout": timeout, **shared}
    if loader.batch_sampler is not None:
        return TorchLoader(loader.dataset, batch_sampler=loader.batch_sampler, **own)
    return TorchLoader(loader.dataset, batch_size=None, sampler=loader.sampler, **own)


def _rate(lab: Lab, loader: Any, workers: int, pin: bool) -> LoaderRate:
    seed_everything(lab.seed)
    iterator, rows, count, first, now = None, 0, 0, 0.0, 0.0
    try:
        began = time.perf_counter()
        iterator = iter(_again(loader, workers, pin))
        for batch in iterator:
            now = time.perf_counter()
            first = now if not count else first
            count += 1
            rows += max((len(t) for t in tensors(batch) if t.ndim), default=0)
            if count >= SETTING_BATCHES or now - first > SETTING_SECONDS:
                break
    except Exception as e:  # workers may need what a process cannot be given: said, and the other settings go on
        return LoaderRate(workers, pin, error=f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}")
    finally:
        if hasattr(iterator, "close"):
            iterator.close()
        del iterator  # the last reference: its workers end here
    if not count:
        return LoaderRate(workers, pin, error="no batch")
    each = (now - first) / (count - 1) if count > 1 else float("nan")
    return LoaderRate(workers, pin, first - began, each, rows, count)


# ---- memory ------------------------------------------------------------------------------------------------------


@dataclass
class Memory:
    """Memory of a training step by batch size.

    Attributes:
        fixed: bytes of weights, gradients and optimizer state.
        peak: bytes by rows, `fixed` included.
        seconds: of one forward and backward pass, by rows.
        limit: bytes that may be used: a quarter of what is free on the CPU, all that is free on CUDA.
        fits: largest number of rows that fits into the limit.
        measured: True if `fits` was tried, False if it is extrapolated.
    """

    fixed: int
    limit: int
    peak: dict[int, int] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    fits: int = 0
    measured: bool = False

    @property
    def per_row(self) -> float:
        """Bytes that one more row takes, from the two largest sizes."""
        sizes = sorted(self.peak)[-2:]
        return (self.peak[sizes[1]] - self.peak[sizes[0]]) / (sizes[1] - sizes[0]) if len(sizes) == 2 else float("nan")

    def per_row_or_mean(self) -> float:
        """Bytes a row: from two sizes, or from the only one."""
        if len(self.peak) > 1:
            return self.per_row
        (rows, peak), *_ = self.peak.items()
        return (peak - self.fixed) / max(rows, 1)

    @property
    def fastest(self) -> int:
        """The smallest tried batch size that handles nine tenths of the most rows a second."""
        rate = {n: n / s for n, s in self.seconds.items() if s > 0}
        best = max(rate.values(), default=0.0)
        return min((n for n, r in rate.items() if r >= 0.9 * best), default=0)


def memory_by_rows(lab: Lab) -> Memory:
    """Memory of one training step for doubling batch sizes; on CUDA the limit is bisected.

    On the CPU the tensors that autograd keeps for the backward pass are counted, which is exact and repeatable where
    the size of the process is neither. On CUDA the allocator's own peak is read.

    Raises:
        NotApplicable: the batch has no rows that could be repeated, or the model takes one batch size only.
    """
    return once(lab, "memory", _memory)


def _memory(lab: Lab) -> Memory:
    parts = tensors((lab.xb, lab.yb))
    if not len(lab.yb):
        raise NotApplicable("the batch has no target: fastai computes no loss without one")
    if any(not t.ndim or t.shape[0] != lab.rows for t in parts):
        raise NotApplicable("the tensors of the batch do not agree on their first dimension")
    cuda = lab.device.type == "cuda"
    free = torch.cuda.mem_get_info(lab.device)[0] if cuda else int(psutil.virtual_memory().available * SHARE)
    found = Memory(_fixed_bytes(lab), free)
    began, rows, too_many = time.monotonic(), lab.rows, None
    probe = _peak_on_cuda if cuda else _peak_on_cpu
    while rows <= LARGEST and time.monotonic() - began < MEMORY_SECONDS:
        if found.peak and found.fixed + found.per_row_or_mean() * rows > found.limit and not cuda:
            break
        if not _try(lab, probe, rows, found):
            too_many = rows
            break
        rows *= 2
    if not found.peak:
        raise NotApplicable("not even the smallest batch fits into memory")
    good = max(found.peak)
    while too_many and too_many - good > max(good // 8, 1) and time.monotonic() - began < 2 * MEMORY_SECONDS:
        middle = (good + too_many) // 2
        good, too_many = (middle, too_many) if _try(lab, probe, middle, found) else (good, middle)
    found.measured = too_many is not None
    each = found.per_row_or_mean()
    found.fits = good if too_many or not each > 0 else max(good, int((found.limit - found.fixed) / each))
    return found


def _try(lab: Lab, probe: Callable, rows: int, found: Memory) -> bool:
    "Measures one batch size; False if it does not fit."
    lab.say(f"memory of a batch of {rows}")
    inputs, targets = (replaced(part, [_repeated(t, rows) for t in tensors(part)]) for part in (lab.xb, lab.yb))
    try:
        peak, seconds = probe(lab, inputs, targets)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return False
    except Exception as e:
        if rows == lab.rows:
            raise SubjectError("running the forward and backward pass", e) from e
        if len(found.peak) < 2:
            raise NotApplicable(f"a batch of {rows} raised {type(e).__name__}: {e}") from e
        return False
    found.peak[rows], found.seconds[rows] = peak + (0 if lab.device.type == "cuda" else found.fixed), seconds
    return True


def _repeated(t: Tensor, rows: int) -> Tensor:
    times = -(-rows // t.shape[0])
    return t.repeat(times, *[1] * (t.ndim - 1))[:rows]


def _peak_on_cpu(lab: Lab, inputs: tuple, targets: tuple) -> tuple[int, float]:
    copy = lab.twin()
    weights = {t.data_ptr() for t in (*copy.model.parameters(), *copy.model.buffers())}
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        if t.layout == torch.strided and t.data_ptr() not in weights:
            storage = t.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    for t in tensors((inputs, targets)):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
    began = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss = _loss(lab, copy, inputs, targets)
    if loss.requires_grad:
        loss.backward()
    return sum(kept.values()), time.perf_counter() - began


def _peak_on_cuda(lab: Lab, inputs: tuple, targets: tuple) -> tuple[int, float]:
    copy = lab.twin()
    if copy.opt is None:
        copy.create_opt()
    torch.cuda.reset_peak_memory_stats(lab.device)
    before, began = torch.cuda.memory_allocated(lab.device), synchronised(lab.device)
    loss = _loss(lab, copy, inputs, targets)
    if loss.requires_grad:
        loss.backward()
    copy.opt.step()
    seconds = synchronised(lab.device) - began
    sizes = sum(t.nbytes for t in (*copy.model.parameters(), *copy.model.buffers()))
    return torch.cuda.max_memory_allocated(lab.device) - before + sizes, seconds


def _loss(lab: Lab, copy: Learner, inputs: tuple, targets: tuple) -> Tensor:
    copy.model.train()
    copy.training = True
    seed_everything(lab.seed)
    with torch.enable_grad():
        output = predicted(copy, copy.model(*inputs), inputs, targets)
        return copy.loss_func(output, *targets).float().mean()


def _fixed_bytes(lab: Lab) -> int:
    "Weights, buffers, gradients and the optimizer's state, the latter after one step of a copy."
    student = run_trial(lab.learn, [lab.batch], scale=Scale(1.0, 0.0), steps=1, seed=lab.seed).learner
    weights = [*student.model.parameters(), *student.model.buffers()]
    grads = [p.grad for p in student.model.parameters() if p.grad is not None]
    inner = getattr(student.opt, "opt", student.opt)
    state = tensors([list(s.values()) for s in inner.state.values() if isinstance(s, dict)])
    return sum(t.nbytes for t in (*weights, *(g for g in grads if not g.is_sparse), *state))
