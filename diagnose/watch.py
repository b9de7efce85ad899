"""`Watch`: the callback that carries gauges through a real training run, at a price nobody notices.

    watch = Watch()                            # or Watch("runs/monday"): a folder, to be read while the run goes on
    learn.fit(5, cbs=watch)                    # records, raises alarms
    watch.frame("gradients")                   # a tidy pandas frame

Training with it gives the same bits as training without: it draws no random number, changes no tensor, and no hook
stands on the model outside a recorded forward pass.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.fp16 import MixedPrecision

from diagnose import registry
from diagnose.alarms import Alarm, Raised
from diagnose.errors import DiagnoseError
from diagnose.gauges import Block, Columns, Gauge, Moment
from diagnose.sources import ActivationSource, ParameterSource, Wrapped
from diagnose.stats import compiled, plain
from diagnose.store import Store

log = logging.getLogger("diagnose")

BLOCK = 8  # recorded steps reduced together, at least: dispatch costs more than arithmetic
LARGEST = 256  # at most; between the two as many as MEMORY holds
MEMORY = 32_000_000  # bytes of samples that wait to be reduced, where BLOCK steps do not need more
LONGEST = 10.0  # seconds that a recorded step may wait for the others of its block
WRITTEN = 10.0, 30.0  # least and most seconds between writes: a killed run loses these and what waits for its block
WRITING = 0.001  # share of the time that writing may take, within these bounds
_CALLS = frozenset({"activations", "calls"})
EVENTS = ("after_pred", "after_loss", "before_step", "after_step", "after_batch")


class Schedule:
    """Which steps are recorded: every one of the first `first`, then every `every`-th; the first step always is."""

    def __init__(self, first: int = 100, every: int = 10):
        if first < 0 or every < 1:
            raise DiagnoseError(f"a schedule needs first >= 0 and every >= 1, not first={first}, every={every}")
        self.first, self.every = first, every

    def due(self, step: int) -> bool:
        """Whether this step (from 0) is recorded."""
        return step < self.first or step % self.every == 0


class Listener:
    """Told of everything that a Watch records. One that raises is told no more, and the training goes on.

    `columns` are those of one block of recorded steps, "step" among them, and must be left as they are.
    """

    def on_start(self, learn: Any) -> None:
        """A fit begins: before its first batch."""

    def on_rows(self, table: str, columns: Columns) -> None:
        """A block of recorded steps was reduced; "steps" is the first of its tables."""

    def on_alarm(self, raised: Raised) -> None:
        """An alarm was raised."""

    def on_mark(self, step: int, name: str) -> None:
        """Something of that name begins with this step; see `Watch.mark`."""

    def on_end(self, store: Store) -> None:
        """A fit has ended, however it ended, and all of its rows were told."""

    def close(self) -> None:
        """Nothing follows."""


class Watch(Callback):
    """Records gauges and raises alarms while a Learner trains.

    Args:
        folder: where the recorded data go; None keeps them in memory, within the same bound.
        every: record every so many steps after the first 100; 1 records every step. Or, by gauge id, which of the
            recorded steps a gauge takes: {"activations": 5} every fifth.
        without: ids of gauges to turn off (`diagnose list gauges`).
        exact: read every element of every tensor instead of samples of 4,096, for 1.2 to 1.4 times the time of a step
            (reports/gauges.md).
        features: name of the submodule whose outputs are the features for `representations`.
        alarms: True for all, False for none, or ids (`diagnose list alarms`).
        stop_on: ids of alarms that end the fit, or True for any.
        listeners: objects with methods of `Listener`, told of everything recorded.
        first: how many steps are recorded one by one at the start.
        tensorboard: write event files while the fit goes on: True for a folder `tensorboard` in `folder` (without one
            in runs/<time>), or the folder for them. See `diagnose.report.tensorboard`.
        comet: log to Comet while the fit goes on: True for an experiment of its own, online if there is an API key,
            else an archive for `comet upload`; or an experiment, which is left open. See `diagnose.report.comet`.

    Raises:
        DiagnoseError: an unknown gauge, a schedule that makes no sense, a folder that holds another run, or TensorBoard
            or Comet is wanted and not installed.
    """

    order = MixedPrecision.order + 0.5  # gradients are unscaled by then, and GradientClip has not clipped them yet
    _default = "learn"

    def __init__(
        self,
        folder: Path | str | None = None,
        every: int | Mapping[str, int] = 10,
        without: Iterable[str] = (),
        exact: bool = False,
        features: str | None = None,
        alarms: bool | Iterable[str] = True,
        stop_on: bool | Iterable[str] = (),
        listeners: Iterable[Any] = (),
        first: int = 100,
        tensorboard: bool | Path | str = False,
        comet: Any = False,
    ):
        super().__init__()
        told = [*listeners, *_writers(folder, tensorboard=tensorboard, comet=comet)]
        self._settings = {
            "folder": folder,
            "every": every,
            "without": tuple(without),
            "exact": exact,
            "features": features,
            "alarms": alarms if isinstance(alarms, bool) else tuple(alarms),
            "stop_on": stop_on if isinstance(stop_on, bool) else tuple(stop_on),
            "first": first,
        }
        self.recording = Recording(**self._settings, listeners=told)

    # A Learner that carries a Watch may be copied, pickled and exported: the copy starts afresh, in memory, and tells
    # nobody.

    def __getstate__(self) -> dict:
        return {"_settings": {**self._settings, "folder": None}, "learn": self.learn}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state["_settings"])
        self.learn = state["learn"]

    def __deepcopy__(self, memo: dict) -> Watch:
        twin = type(self)(**{**self._settings, "folder": None})
        memo[id(self)] = twin
        twin.learn = copy.deepcopy(self.learn, memo)
        return twin

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "learn" and value is None and getattr(self, "recording", None) is not None:
            self.recording.close_fit()  # taken off the Learner, also after an exception: no after_fit comes then
        object.__setattr__(self, name, value)

    def __call__(self, event_name: str) -> None:
        handler = self.recording.handlers.get(event_name)
        if handler is not None and self.run:
            handler(self.learn)
        if event_name == "after_fit":
            self.run = True

    @property
    def store(self) -> Store:
        """What was recorded."""
        return self.recording.store

    @property
    def raised(self) -> list[Raised]:
        """Every alarm so far, over all fits."""
        return list(self.recording.history)

    def mark(self, name: str) -> None:
        """Note where something begins, such as a stage of a curriculum: with the next training step.

        It becomes a row of the table `marks`, a line in figures of the loss, and a text in TensorBoard and Comet. Call
        it while a fit is under way: listeners hear of nothing before its first batch.
        """
        self.recording.mark(name)

    def close(self) -> None:
        """End what listeners hold open, such as an experiment of Comet; the end of the process does it too."""
        self.recording.tell("close")

    def frame(self, table: str, columns: Iterable[str] | None = None):
        """A table as a tidy pandas frame: activations, weights, gradients, updates, outputs, steps, ..."""
        self.recording.flush(self.learn)
        return self.store.frame(table, columns)


class Recording:
    """The state of a Watch: gauges, sources, the block being filled, and the store."""

    def __init__(self, folder, every, without, exact, features, alarms, stop_on, first, listeners=()):
        self.gauges = _gauges(every, without, features)
        self.alarms, self.stop_on = _alarms(alarms, stop_on)
        self._raised: set[tuple[str, str]] = set()
        self.history: list[Raised] = []
        self._newly_raised = False
        self.stopped: Raised | None = None
        self.schedule = Schedule(first, every if isinstance(every, int) else 10)
        self.exact = exact
        self.listeners = {
            f"{type(one).__name__} {i}" if i else type(one).__name__: one for i, one in enumerate(listeners)
        }
        self.store = Store(folder, block_records=1024)
        self.block = BLOCK
        self._written, self._pause = time.monotonic(), WRITTEN[0]
        wanted = {part for g in self.gauges.values() for part in g.reads}
        self.wanted = wanted
        self.activations = ActivationSource(BLOCK, exact) if wanted & _CALLS else None
        self.parameters = ParameterSource(BLOCK, exact) if wanted - _CALLS else None
        self.step = self.recorded = self._newest_alarm = 0
        self.fit = -1
        self.moments: list[Moment] = []
        self.moment: Moment | None = None
        self._period = math.lcm(*(g.every for g in self.gauges.values())) if self.gauges else 1
        self._due_of: dict[int, _Due] = {}
        self._block_began = self._last_end = 0.0
        self._guard: _Guard | None = None
        self._clip_follows = self._ask_later = False
        self._fitting = False
        self._on_device = False
        self._on_host: bool | None = None  # whether the loss can be read without waiting
        always = ("before_fit", "before_train", "before_batch", "after_fit")
        recorded = (
            *("after_pred", "after_loss", "after_backward", "before_step", "after_cancel_step", "after_step"),
            *("after_cancel_batch", "after_batch"),
        )
        self._recorded = {name: getattr(self, f"on_{name}") for name in (*always, *recorded)}
        self._passed = {name: getattr(self, f"on_{name}") for name in always}
        self._passed |= {"after_loss": self.ask_at_loss, "after_batch": self.pass_batch}
        self._before_recorded = {**self._passed, "before_step": self.take_previous}
        self.handlers: dict[str, Callable] = self._recorded  # of the present step: most steps are not recorded
        self._unrecorded: set[str] = set()
        self._told_of_unrecorded = False
        self.failed: dict[str, str] = {}
        self._find_observers()

    # ---- the run -----------------------------------------------------------------------------------------------------

    def on_before_fit(self, learn) -> None:
        self._fitting = False  # validate and get_preds fire this too: a fit begins with its first training batch

    def on_before_train(self, learn) -> None:
        """The model is read anew: callbacks may have converted or replaced parts of it before the fit."""
        if not self._fitting:
            self._fitting = True
            self.fit += 1
            self._raised, self.stopped, self._told_of_unrecorded = set(), None, False
            for alarm in self.alarms.values():
                alarm.start(learn)
            self._find_observers()
            self.tell("on_start", learn)
        self._on_host = None
        first = next(learn.model.parameters(), None)
        if first is None or first.device.type == "cpu":
            compiled().enabled()  # nothing is compiled in the middle of a step
        self._last_end = time.perf_counter()  # what an epoch's first batch waits for is the loader, not the validation
        model = learn.model
        for gauge in self.gauges.values():
            gauge.start(learn)
        if self.activations:
            self.activations.start(model)
        if self.parameters:
            self.parameters.start(model)
        self._clip_follows = any(
            cb.order > Watch.order and type(cb).__name__ not in _READERS and _overrides(cb, "before_step")
            for cb in learn.cbs
        )

    def _due_gauges(self, number: int) -> _Due:
        "What records the step of that number."
        found = self._due_of.get(number)
        if found is None:
            due = [g for g in self.gauges.values() if number % g.every == 0]
            observers = {event: [(g.id, getattr(g, event)) for g in due if hasattr(g, event)] for event in EVENTS}
            found = _Due(frozenset(g.id for g in due), frozenset(part for g in due for part in g.reads), observers)
            if len(self._due_of) < 10_000:
                self._due_of[number] = found
        return found

    def on_before_batch(self, learn) -> None:
        if not learn.training:
            return
        if self._guard is not None or self.moment is not None:
            self._release_guard()  # another callback may have raised before the last forward pass
            self._abandon()
        if not self.schedule.due(self.step):
            follows = self._wants_previous and self.schedule.due(self.step + 1)
            self.handlers = self._before_recorded if follows else self._passed
            return
        self.handlers, self._on_device = self._recorded, torch.cuda.is_initialized()
        due, self.reads, self._observers = self._due_gauges(self.recorded % self._period)
        self.moment = m = Moment(self.step, max(self.fit, 0), getattr(learn, "epoch", 0), due)
        if not self.moments:
            self._block_began = time.perf_counter()
        if self._last_end:
            m.marks["waiting"] = self._last_end
        if self.activations and self.reads & _CALLS:
            self.activations.prepare(m.step, "activations" in self.reads, "calls" in self.reads)
            self._guard = _Guard(learn.model, self.activations)
        self._mark(m, "start")

    def on_after_pred(self, learn) -> None:
        m = self.moment
        if m is None or not learn.training:
            return
        self._mark(m, "pred")
        if self._guard is not None:
            self._release_guard()
            m.calls = self.activations.take(len(self.moments), m.step, "activations" in self.reads)
        self._observe("after_pred", m, learn)
        m.calls = []

    def ask_at_loss(self, learn) -> None:
        """After the loss of a step that is not recorded."""
        if learn.training and len(learn.yb):
            self._ask_about(learn, learn.loss)

    def _ask_about(self, learn, loss: Any) -> Any:
        """Ask the alarms about the loss, on a device at the end of the batch: fastai waits for the device there anyway.

        Returns the loss as a number, where it is one and nothing waits for it, else as a tensor.
        """
        if self._on_host is None:  # asked once a fit: every kind of question to PyTorch costs 30 µs between two layers
            self._on_host = plain(loss).device.type == "cpu"
        if not self._on_host:
            self._ask_later = True
            return loss
        try:
            value = plain(loss).item()
        except RuntimeError:  # several numbers
            value = None
        if self._at_loss or (self._at_bad_loss and (value is None or not math.isfinite(value))):
            self._ask_at_loss(learn)
        return loss if value is None else value

    def on_after_loss(self, learn) -> None:
        if not learn.training:
            return
        loss = self._ask_about(learn, learn.loss) if len(learn.yb) else None
        m = self.moment
        if m is None:
            return
        self._mark(m, "loss")
        m.pred, m.targets = learn.pred, learn.yb
        m.loss = plain(loss).detach() if isinstance(loss, torch.Tensor) else loss
        self._observe("after_loss", m, learn)
        m.pred, m.targets = None, ()
        m.outcome = "no targets" if loss is None else "cancelled"  # until a step is made

    def on_after_backward(self, learn) -> None:
        if self.moment is not None and learn.training:
            self._mark(self.moment, "backward")

    def on_before_step(self, learn) -> None:
        m = self.moment
        if m is None or not learn.training:
            return
        if self.parameters:
            weights = bool(self.reads & {"weights", "updates"})
            self.parameters.take_before(len(self.moments), m.step, weights, "gradients" in self.reads)
        self._observe("before_step", m, learn)

    def take_previous(self, learn) -> None:
        """Before the step that comes before a recorded one."""
        if learn.training:
            self.parameters.take_previous(len(self.moments), self.step)

    def on_after_cancel_step(self, learn) -> None:
        if self.moment is not None and learn.training:
            self.moment.kept["cancelled"] = True

    def on_after_step(self, learn) -> None:
        m = self.moment
        if m is None or not learn.training:
            return
        self._mark(m, "step")
        if m.kept.pop("cancelled", False):
            return  # this event comes after a cancelled step too
        m.outcome = ""
        if self.parameters:
            applied = self._clip_follows and "applied" in self.reads
            self.parameters.take_after(len(self.moments), applied, "updates" in self.reads)
        self._observe("after_step", m, learn)

    def on_after_cancel_batch(self, learn) -> None:
        if self.moment is not None and learn.training and self.moment.outcome == "cancelled":
            self.moment.outcome = "accumulating" if hasattr(learn, "gradient_accumulation") else "cancelled"

    def pass_batch(self, learn) -> None:
        """After a batch that is not recorded."""
        if not learn.training:
            return
        if self._ask_later:
            self._ask_later = False
            self._ask_at_loss(learn)
        self.step += 1
        self._last_end = time.perf_counter()
        if self.stopped is not None:
            self._stop_if_asked()

    def on_after_batch(self, learn) -> None:
        if not learn.training:
            return
        if self.moment is None:  # another callback cancelled the batch before it began for us
            self.pass_batch(learn)
            return
        if self._ask_later:
            self._ask_later = False
            self._ask_at_loss(learn)
        m, self.moment = self.moment, None
        self.step += 1
        self._release_guard()
        self._observe("after_batch", m, learn)
        m.marks["end"] = time.perf_counter()
        self.moments.append(m)
        self.recorded += 1
        if len(self.moments) == self.block or m.marks["end"] - self._block_began > LONGEST:
            self.reduce(learn)
        self._last_end = time.perf_counter()
        self._stop_if_asked()

    def on_after_fit(self, learn) -> None:
        if self._fitting:
            self.close_fit(learn)

    def close_fit(self, learn: Any = None) -> None:
        """Reduce and write what is pending; leave nothing on the model."""
        self._release_guard()
        self._abandon()
        fitted, self._fitting = self._fitting, False
        self._last_end = 0.0
        self.reduce(learn)
        self._write()
        if fitted:
            self.tell("on_end", self.store)

    def mark(self, name: str) -> None:
        """See `Watch.mark`."""
        self.store.append("marks", {"step": [self.step], "name": [name]})
        self.tell("on_mark", self.step, name)

    def flush(self, learn: Any = None) -> None:
        """Reduce and write what is pending."""
        self.reduce(learn)
        self._write()

    def _write(self) -> None:
        began = time.monotonic()
        self.store.flush()
        self._newly_raised = False
        self._written = time.monotonic()
        self._pause = min(max((self._written - began) / WRITING, WRITTEN[0]), WRITTEN[1])

    def _abandon(self) -> None:
        "A step that an exception, Ctrl-C or the end of the fit cut short is kept as far as it came."
        if self.moment is not None:
            self.moment.outcome = "interrupted"
            self.moment.pred, self.moment.targets, self.moment.calls = None, (), []
            self.moments.append(self.moment)
            self.moment = None
            self.step += 1
            self.recorded += 1
            if len(self.moments) == self.block:
                self.reduce()

    def _release_guard(self) -> None:
        if self._guard is not None:
            self._guard.release()
            self._guard = None

    def _mark(self, m: Moment, name: str) -> None:
        m.marks[name] = time.perf_counter()
        if self._on_device:
            m.device_marks[name] = event = torch.cuda.Event(enable_timing=True)
            event.record()

    def _observe(self, event: str, m: Moment, learn) -> None:
        if observers := self._observers[event]:
            with torch.no_grad():
                for id, method in observers:
                    if id in self.gauges:
                        try:
                            method(m, learn)
                        except Exception as e:
                            self._turn_off("gauge", id, e)

    @contextmanager
    def _kept_out_of_training(self, kind: str, id: str) -> Iterator[None]:
        "An error of ours must not end a training: whatever raises is turned off, and told once."
        try:
            yield
        except Exception as e:
            self._turn_off(kind, id, e)

    def _turn_off(self, kind: str, id: str, error: Exception) -> None:
        self.failed[id] = f"{type(error).__name__}: {error}"
        log.warning("the %s %s is off from here on: it raised %s", kind, id, self.failed[id])
        {"gauge": self.gauges, "alarm": self.alarms, "listener": self.listeners}[kind].pop(id, None)
        self._find_observers()

    def _find_observers(self) -> None:
        asking = [a for a in self.alarms.values() if type(a).after_loss is not Alarm.after_loss]
        self._at_loss = [a for a in asking if not a.of_bad_losses and a.waits]
        self._at_bad_loss = [a for a in asking if a.of_bad_losses]
        self._wants_previous = self.parameters is not None and any("gradients" in g.reads for g in self.gauges.values())
        self._due_of.clear()

    def tell(self, event: str, *news: Any) -> None:
        """Tell the listeners that have a method for this event."""
        for id, listener in list(self.listeners.items()):
            if method := getattr(listener, event, None):
                with self._kept_out_of_training("listener", id):
                    method(*news)

    # ---- blocks ------------------------------------------------------------------------------------------------------

    def _ask_at_loss(self, learn) -> None:
        for alarm in self._asked([*self._at_loss, *self._at_bad_loss]):
            try:
                for raised in alarm.after_loss(self.step, learn):
                    self._ring(raised)
            except Exception as e:
                self._turn_off("alarm", alarm.id, e)
        self._at_loss = [a for a in self._at_loss if a.waits]
        self._stop_if_asked()

    def _asked(self, alarms: Iterable[Alarm]) -> list[Alarm]:
        "Those that may still be raised in this fit."
        return [a for a in alarms if not (a.once and (a.id, "") in self._raised)]

    def _ring(self, raised: Raised) -> None:
        key = (raised.id, "" if self.alarms[raised.id].once else raised.where)
        if key in self._raised:
            return
        self._raised.add(key)
        self.history.append(raised)
        self._newly_raised = True  # a run that is killed after an alarm leaves it on disk
        log.warning("step %d: %s: %s", raised.step, raised.id, raised.message)
        row = {"step": [max(raised.step, self._newest_alarm)], "id": [raised.id], "where": [raised.where]}
        self._newest_alarm = row["step"][0]
        self.store.append("alarms", {**row, "message": [raised.message]})
        self.tell("on_alarm", raised)
        if self.stopped is None and raised.id in self.stop_on:
            self.stopped = raised

    def _stop_if_asked(self) -> None:
        if self.stopped is not None:
            log.error("the fit is stopped by stop_on: %s: %s", self.stopped.id, self.stopped.message)
            raise CancelFitException

    @torch.no_grad()
    def reduce(self, learn: Any = None) -> None:
        """Turn the pending recorded steps into rows of the store, and ask the alarms about them."""
        if not self.moments:
            return
        moments, self.moments = self.moments, []
        block = Block(moments)
        if self.activations:
            block.activations = self.activations.reduce(moments)
        if self.parameters:
            block.parameters = self.parameters.reduce(moments, "weights" in self.wanted, "gradients" in self.wanted)
        tables: dict[str, dict[str, Any]] = {"steps": {"step": block.steps()}}
        for gauge in list(self.gauges.values()):
            columns = None
            with self._kept_out_of_training("gauge", gauge.id):
                columns = gauge.rows(block)
            if columns is not None and gauge.table != "steps":
                columns = _of_due_steps(columns, [m.step for m in moments if gauge.id in m.due], len(moments))
            if columns is not None:
                tables.setdefault(gauge.table, {}).update(columns)
        for table, columns in tables.items():
            self.store.append(table, columns)
            self.tell("on_rows", table, columns)
        for alarm in self._asked(self.alarms.values()) if learn is not None else ():
            if any(t in tables for t in alarm.tables):
                with self._kept_out_of_training("alarm", alarm.id):
                    for raised in alarm.look(tables, moments, learn):
                        self._ring(raised)
        self._tell_unrecorded(moments[-1].step)
        self._fit_blocks()
        if time.monotonic() - self._written > self._pause or self._newly_raised:
            self._write()

    def _tell_unrecorded(self, step: int) -> None:
        "Once a fit in the log, and once in the store."
        found = {k: v for s in (self.activations, self.parameters) if s for k, v in s.refused.items()}
        if not found or (self._told_of_unrecorded and found.keys() <= self._unrecorded):
            return
        if new := [name for name in found if name not in self._unrecorded]:
            rows = {"step": [max(step, 0)] * len(new), "where": new, "reason": [found[n] for n in new]}
            self.store.append("unrecorded", rows)
            self._unrecorded.update(new)
        if not self._told_of_unrecorded:
            self._told_of_unrecorded = True
            told = "; ".join(f"{name or 'the model'} ({reason})" for name, reason in list(found.items())[:8])
            more = f"; and {len(found) - 8} more" if len(found) > 8 else ""
            log.warning("not recorded: %s%s", told, more)

    def _fit_blocks(self) -> None:
        "As many steps a block as the memory allows, once it is known what a step takes."
        sources = [s for s in (self.activations, self.parameters) if s]
        taken = sum(s.bytes_a_step for s in sources)
        largest = BLOCK if self.stop_on else LARGEST  # a fit is stopped at the end of a block
        block = min(max(MEMORY // max(taken, 1), BLOCK), largest)
        if block != self.block:
            self.block = block
            for source in sources:
                source.resize(block)


def _of_due_steps(columns: Columns, due: list[int], moments: int) -> Columns | None:
    "Rows of the steps at which a gauge was due: what it reads may have been taken for another one as well."
    if len(due) == moments:
        return columns
    mine = np.isin(columns["step"], due)
    if not mine.any():
        return None
    return {k: [x for x, keep in zip(v, mine) if keep] if isinstance(v, list) else v[mine] for k, v in columns.items()}


class _Due(NamedTuple):
    "Ids of the gauges that record a step, what they read, and their methods by event."

    ids: frozenset[str]
    reads: frozenset[str]
    observers: dict[str, list[tuple[str, Callable]]]


_READERS = ("Recorder", "ProgressCallback", "ParamScheduler", "TensorBoardCallback")


def _overrides(cb: Callback, event: str) -> bool:
    return callable(getattr(type(cb), event, None)) or event in vars(cb)


class _Watched(Wrapped):
    """A model's forward pass, all of whose modules are listened to until it ends, however it ends: after an exception
    or Ctrl-C fastai fires no event."""

    __slots__ = ("source",)

    def __init__(self, model: torch.nn.Module, source: ActivationSource):
        super().__init__(model, model.forward, source.root)
        self.source = source

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.source.attach()
        try:
            return super().__call__(*args, **kwargs)
        finally:
            self.source.detach()


class _Guard:
    """Has the next forward pass of a model watched, and that one alone."""

    def __init__(self, model: torch.nn.Module, source: ActivationSource):
        self.model = model
        self.mine = "forward" not in vars(model) and not isinstance(model, torch.jit.ScriptModule)
        if self.mine:
            vars(model)["forward"] = _Watched(model, source)

    def release(self) -> None:
        """Give the model its own forward pass back."""
        if self.mine:
            self.model.__dict__.pop("forward", None)


def _writers(folder: Path | str | None, **wanted: Any) -> Iterator[Listener]:
    "Reports that are written while a model trains, found by name: they stand on a floor above this one."
    for name, where in wanted.items():
        if where is not False and where is not None:
            writer = registry.load(registry.Entry(name, f"diagnose.report.{name}", ""), Listener)
            yield writer(where, None if folder is None else Path(folder))


def _gauges(every: int | Mapping[str, int], without: Iterable[str], features: str | None) -> dict[str, Gauge]:
    gauges = registry.load_all("diagnose.gauges", Gauge)
    slowed = dict(every) if isinstance(every, Mapping) else {}
    for id in [*without, *slowed]:
        if id not in gauges:
            raise DiagnoseError(f"no gauge {id}; there are {', '.join(gauges)}")
    for id, times in slowed.items():
        if times < 1:
            raise DiagnoseError(f"gauge {id} cannot record every {times} steps; give 1 or more")
        gauges[id].every = gauges[id].every * times
    for id in without:
        gauges.pop(id, None)
    if features is not None and "representations" in gauges:
        gauges["representations"].features = features
    return gauges


def _alarms(chosen: bool | Iterable[str], stop_on: bool | Iterable[str]) -> tuple[dict[str, Alarm], frozenset[str]]:
    alarms = registry.load_all("diagnose.alarms", Alarm)
    wanted = list(alarms) if chosen is True else [] if chosen is False else list(chosen)
    stopping = wanted if stop_on is True else [] if stop_on is False else list(stop_on)
    for id in [*wanted, *stopping]:
        if id not in alarms:
            raise DiagnoseError(f"no alarm {id}; there are {', '.join(alarms)}")
    if missing := [id for id in stopping if id not in wanted]:
        raise DiagnoseError(f"stop_on names {', '.join(missing)}, which alarms= leaves out")
    return {id: a for id, a in alarms.items() if id in wanted}, frozenset(stopping)
