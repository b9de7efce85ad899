"""Workers, batch size and pinned memory measured: seconds of loading and of training, memory, and what to take.

Every trial is a process of its own, forked from a server that has nothing but imported the libraries. So a loader
whose workers hang (a lock that another thread held when they were forked, a full /dev/shm) is killed after a while and
reported, its memory is its own, and no trial inherits threads or a CUDA context. Trials run in rounds, each round all
of them in another order, so that what else the machine does falls on all alike.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import psutil
import torch
from fastai.callback.core import Callback, CancelFitException

from diagnose.errors import DiagnoseError
from sslwang.pretext import Pretext

WARM, AHEAD = 2, 2  # batches that are not timed; those that a worker prepares in advance (torch's prefetch_factor)
LONGEST, SHORTEST, TIMES = 300.0, 60.0, 20  # a batch is given up after 20 times the slowest so far, but not before
# 60 s and after 300 s at the latest; so long too may imports and the very first batch take
POLL = 0.1  # seconds
LOOK_EVERY, LOOK_SHARE = 0.2, 0.05  # seconds between looks at memory, but no more of the time than this share
ALIKE = 0.05  # of images a second: differences below are none
QUIET_WARNINGS = "ignore:`torch.jit.script` is deprecated"  # of fastai's import in the server


@dataclass(frozen=True, order=True)
class Trial:
    """What is tried. Args: workers: processes that load. bs: batch size. pin: into locked memory."""

    workers: int
    bs: int
    pin: bool = False

    def __str__(self) -> str:
        return f"workers={self.workers} bs={self.bs} pin={'yes' if self.pin else 'no'}"


@dataclass(frozen=True)
class Sample:
    """One round of one trial.

    Args:
        first: seconds until the first batch.
        load: seconds a batch where nothing but loading happens.
        step: seconds of a training step without its loading. wait: seconds a step that training waits for its batch.
        memory: bytes, peak of the process and its workers; pages that they share count once where the system tells.
        gpu: bytes, peak of what torch holds on the GPU; 0 without one.
    """

    first: float
    load: float
    step: float
    wait: float
    memory: int
    gpu: int

    @property
    def train(self) -> float:
        """Seconds a batch of training, its loading included."""
        return self.step + self.wait


@dataclass
class Measured:
    """What is known of a trial: its rounds, or why there are none."""

    trial: Trial
    samples: list[Sample] = field(default_factory=list)
    failed: str = ""

    def middle(self, name: str) -> float:
        """Median over the rounds of an attribute of `Sample`."""
        return statistics.median(getattr(s, name) for s in self.samples)

    def range(self, name: str) -> tuple[float, float]:
        """Least and largest over the rounds."""
        values = [getattr(s, name) for s in self.samples]
        return min(values), max(values)

    @property
    def speed(self) -> float:
        """Images a second of training."""
        return self.trial.bs / self.middle("train")


# ---- in the process of a trial ---------------------------------------------------------------------------------------


class Clock(Callback):
    """Times the steps of a real training and ends it after so many.

    Args:
        warm, count: steps that are not timed, and that are.
        alive: called after each step.
    """

    order = 1000  # its `before_batch` ends the wait after all else, its `after_batch` the step

    def __init__(self, warm: int, count: int, alive: Callable[[], None]):
        self.warm, self.count, self.alive = warm, count, alive
        self.waits: list[float] = []
        self.steps: list[float] = []

    def before_train(self) -> None:
        """The wait for the first batch begins."""
        self.since = _now(self.dls.device)

    def before_batch(self) -> None:
        """The batch is there."""
        if self.training:
            self.waits.append(-self.since + self._turn())

    def after_batch(self) -> None:
        """The step is done."""
        if self.training:
            self.steps.append(-self.since + self._turn())
            self.alive()
            if len(self.steps) >= self.warm + self.count:
                raise CancelFitException("timed")

    def _turn(self) -> float:
        self.since = _now(self.dls.device)
        return self.since


def _now(device: Any) -> float:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _measure(task: Pretext, seed: int, device: str, count: int, alive: Callable[[], None]) -> dict[str, float]:
    "Times of one trial, whose settings the task has."
    s = task.settings
    warm = max(WARM, AHEAD * s.data.workers)  # what is prepared in advance is no measure of the pace
    items = (warm + count + AHEAD * s.data.workers) * s.bs  # and at the end all workers still have something to do
    task = task.under(items=items, valid_items=1)
    learn = task.learner(seed, device)
    learn.remove_cbs([cb for cb in learn.cbs if cb.name == "progress"])
    began, stamps = _now(device), []
    for k, _ in enumerate(learn.dls.train):
        stamps.append(_now(device))
        alive()
        if k + 1 == warm + count:
            break
    clock = Clock(warm, count, alive)
    with learn.no_logging():
        learn.fit(1, cbs=clock)
    return {
        "first": stamps[0] - began,
        "load": (stamps[-1] - stamps[warm - 1]) / count,
        "step": statistics.mean(clock.steps[warm:]),
        "wait": statistics.mean(clock.waits[warm:]),
        "gpu": torch.cuda.max_memory_allocated(device) if torch.device(device).type == "cuda" else 0,
    }


def _child(
    pipe: Connection, method: str, threads: int, cls: type[Pretext], settings: dict, seed: int, device: str, count: int
) -> None:
    multiprocessing.set_start_method(method, force=True)  # workers start as they do elsewhere, not as this process did
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked is told, and ends this process
    torch.set_num_threads(threads)
    pipe.send(("alive", None))
    try:
        task = cls(cls.Settings.model_validate(settings))
        found = _measure(task, seed, device, count, lambda: pipe.send(("alive", None)))
        pipe.send(("done", found))
    except DiagnoseError as e:
        pipe.send(("wrong", str(e)))
    except Exception as e:  # of the loader, the task or the device, whatever it is: it is this trial's result
        pipe.send(("failed", f"{type(e).__name__}: {str(e).strip().splitlines()[-1] if str(e).strip() else ''}"))


# ---- outside of it ---------------------------------------------------------------------------------------------------


class Server:
    """Starts trials. `patience` is seconds to the next sign of life, None for what the trials so far suggest."""

    def __init__(self, patience: float | None = None):
        kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        self.context = multiprocessing.get_context(kind)
        self.patience, self.slowest = patience, 0.0
        if kind == "forkserver":
            self.context.set_forkserver_preload([__name__])

    def sample(self, task: Pretext, trial: Trial, seed: int, device: str, count: int) -> Sample | str:
        """One round of a trial, or why it failed.

        Raises:
            DiagnoseError: what was tried cannot work under any settings of the loader: the data are missing, say.
        """
        data = task.settings.data.model_copy(update={"workers": trial.workers, "pin": trial.pin})
        settings = {**task.settings.model_dump(), "bs": trial.bs, "data": data.model_dump()}
        here, there = self.context.Pipe(duplex=False)
        how = multiprocessing.get_start_method(), torch.get_num_threads()
        arguments = (there, *how, type(task), settings, seed, device, count)
        process = self.context.Process(target=_child, args=arguments)
        before = os.environ.get("PYTHONWARNINGS")
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, QUIET_WARNINGS)))  # read where the server starts
        try:
            process.start()
        finally:
            os.environ.pop("PYTHONWARNINGS")
            if before is not None:
                os.environ["PYTHONWARNINGS"] = before
        there.close()
        try:
            return self._follow(process, here)
        finally:
            _end(process)
            here.close()

    def limit(self) -> float:
        """Seconds after which a trial that has begun and says nothing is given up."""
        if self.patience is not None:
            return self.patience
        return min(max(TIMES * self.slowest, SHORTEST), LONGEST) if self.slowest else LONGEST

    def _follow(self, process: Any, pipe: Connection) -> Sample | str:
        peak, look_at, heard, seen = 0, 0.0, False, time.monotonic()
        while True:
            now = time.monotonic()
            if now >= look_at:  # looking takes time from what is looked at
                peak = max(peak, memory_of_tree(process.pid))
                look_at = time.monotonic() + max(LOOK_EVERY, (time.monotonic() - now) / LOOK_SHARE)
            limit = self.limit() if heard else LONGEST
            if not pipe.poll(POLL):
                if time.monotonic() - seen > limit:
                    return f"hung: nothing came for {limit:.0f} s; killed"
                continue
            try:
                kind, found = pipe.recv()
            except EOFError:
                process.join()
                return f"its process died ({_ending(process.exitcode)})"
            if heard:
                self.slowest = max(self.slowest, time.monotonic() - seen)
            heard, seen = True, time.monotonic()
            if kind == "wrong":
                raise DiagnoseError(found)
            if kind == "failed":
                return found
            if kind == "done":
                return Sample(memory=peak, **found)


def _ending(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _end(process: Any) -> None:
    "Kill what is left of a trial, its workers too."
    with suppress(psutil.NoSuchProcess):
        for left in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                left.kill()
    if process.is_alive():
        process.kill()
    process.join()


def memory_of_tree(pid: int) -> int:
    """Bytes held by a process and all below it. With the parent that it was forked from, if that is no Python session
    of the user's, since what the two share would count by half; 0 once the process is gone.

    Linux tells the share of each page (PSS); elsewhere pages that several processes share count several times.
    """
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        tree = [process, *process.children(recursive=True)]
        parent = process.parent()
        if parent is not None and parent.pid != os.getpid():
            tree.append(parent)
        for part in tree:
            with suppress(psutil.Error):
                info = part.memory_full_info()
                total += getattr(info, "pss", info.rss)
    return total


def measure(
    task: Pretext,
    trials: Sequence[Trial],
    rounds: int = 3,
    count: int = 10,
    seed: int = 0,
    device: str = "cpu",
    patience: float | None = None,
    on_trial: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[Measured]:
    """Measure every trial in every round; one that failed is not tried again.

    Args:
        task: whose data, network and step.
        trials: what to try.
        rounds: how often, in turns.
        count: batches timed in each.
        seed: of the data, and of the order in a round.
        device: where it trains.
        patience: seconds to the next batch before a trial is given up; None sets it by the batches so far.
        on_trial: told (trial, done, total) before each.

    Raises:
        DiagnoseError: no trial can work: data that are missing or too few.
    """
    server, found = Server(patience), [Measured(trial) for trial in trials]
    total, done = rounds * len(found), 0
    for r in range(rounds):
        for k in np.random.default_rng([seed, r]).permutation(len(found)):
            one = found[k]
            if not one.failed:
                on_trial(str(one.trial), done, total)
                sample = server.sample(task, one.trial, seed, device, count)
                if isinstance(sample, str):
                    one.failed = sample
                else:
                    one.samples.append(sample)
            done += 1
    on_trial("", total, total)
    return found


# ---- what to take ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Advice:
    """Args: trial: what to take. reasons: sentences."""

    trial: Trial
    reasons: tuple[str, ...]


def advice(found: Sequence[Measured], own_bs: int, device: str) -> Advice:
    """The fastest trial, or the simplest that is about as fast: the task's own batch size, few workers, no pinning.

    About as fast is within 5 % of the best, or within the spread of the two over the rounds.

    Raises:
        DiagnoseError: every trial failed.
    """
    whole = [m for m in found if m.samples and not m.failed]
    if not whole:
        raise DiagnoseError(f"every trial failed; {found[0].trial}: {found[0].failed}")
    best = max(whole, key=lambda m: m.speed)
    alike = [m for m in whole if m.speed >= (1 - ALIKE) * best.speed or _overlap(m, best)]
    chosen = min(alike, key=lambda m: (m.trial.bs != own_bs, m.trial.workers, m.trial.pin, -m.speed))
    reasons = [_choice(chosen, best), _bound(chosen), _needed(chosen.trial, whole, device)]
    if chosen.trial.bs != own_bs:
        reasons.append(
            f"Another batch size than {own_bs} learns differently at the same learning rate; choose that anew."
        )
    reasons.append(_pinning(whole, device))
    reasons += [f"{m.trial} is no choice: {m.failed}." for m in found if m.failed]
    return Advice(chosen.trial, tuple(r for r in reasons if r))


def _overlap(one: Measured, other: Measured) -> bool:
    "Whether the images a second of two trials overlap over the rounds."
    if len(one.samples) < 2 or len(other.samples) < 2:
        return False
    slow, fast = one.trial.bs / one.range("train")[0], other.trial.bs / other.range("train")[1]
    return slow >= fast


def _choice(chosen: Measured, best: Measured) -> str:
    if chosen is best:
        return f"{chosen.trial} trains fastest, {chosen.speed:.0f} images/s."
    return (
        f"{chosen.trial} trains on {chosen.speed:.0f} images/s. {best.trial} reached {best.speed:.0f}, which is within "
        "5 % or within the spread of the rounds."
    )


def _bound(chosen: Measured) -> str:
    step, wait = chosen.middle("step"), chosen.middle("wait")
    share = wait / (step + wait)
    what = "loading bounds it" if wait > step else "the step bounds it"
    return f"There a step takes {step:.3f} s and waits {wait:.3f} s for its batch ({share:.0%} of the time): {what}."


def _needed(trial: Trial, whole: Sequence[Measured], device: str) -> str:
    "How many workers keep up with a step, for one batch size and pinning."
    same = sorted((m for m in whole if m.trial.bs == trial.bs and m.trial.pin == trial.pin), key=lambda m: m.trial)
    step = statistics.median(m.middle("step") for m in same)
    alone = next((m.middle("load") for m in same if m.trial.workers == 0), None)
    enough = next((m for m in same if m.trial.workers and m.middle("load") <= step), None)
    if enough is not None:
        workers = enough.trial.workers
        text = (
            f"{workers} worker{'s load' if workers > 1 else ' loads'} a batch of {trial.bs} in "
            f"{enough.middle('load'):.3f} s, within a step of {step:.3f} s: the step needs no more."
        )
    elif alone is not None:
        wanted = max(1, int(np.ceil(alone / step)))
        text = (
            f"One process loads a batch of {trial.bs} in {alone:.3f} s and a step takes {step:.3f} s: "
            f"about {wanted} worker{'s' * (wanted > 1)} would keep up, if that many cores are free."
        )
    else:
        fastest = min(same, key=lambda m: m.middle("load"))
        text = (
            f"No trial loads within a step of {step:.3f} s; {fastest.trial.workers} workers take "
            f"{fastest.middle('load'):.3f} s a batch of {trial.bs}."
        )
    if torch.device(device).type == "cpu":
        text += f" On a CPU workers take cores from the step itself ({os.cpu_count()} here)."
    return text


def _pinning(whole: Sequence[Measured], device: str) -> str:
    if torch.device(device).type != "cuda":
        return "Without a GPU pinned memory does nothing."
    by_trial = {m.trial: m for m in whole}
    pairs = [(m, by_trial.get(Trial(t.workers, t.bs, False))) for t, m in by_trial.items() if t.pin]
    gains = [pinned.speed / plain.speed - 1 for pinned, plain in pairs if plain is not None]
    return (
        f"Pinned memory changes the speed by {statistics.median(gains):+.1%} (median of {len(gains)})." if gains else ""
    )


def settings_text(trial: Trial, lines: Sequence[str] = ()) -> str:
    """The settings of a trial as a TOML file of flat names, with comment lines above."""
    values = {"bs": trial.bs, "data.workers": trial.workers, "data.pin": trial.pin}
    comments = [f"# {line}" for line in lines]
    return "\n".join([*comments, *(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in values.items())]) + "\n"
