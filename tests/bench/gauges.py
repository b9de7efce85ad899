"""What recording costs: step time with gauges over plain step time, beside what people use today.

    python -m tests.bench.gauges                          all models, prints the table
    python -m tests.bench.gauges --models small --rounds 3
    python -m tests.bench.gauges --out reports/gauges.md
    python -m tests.bench.gauges --self                   CPU time inside our own handlers, by event: on a busy machine

Plain steps and each of our variants take turns of half a second in one fit, in an order drawn anew, so that what
disturbs the machine meets all alike. A round is twenty turns of each: ten seconds, by whose own clock it reduces blocks
and writes files as in a run. A variant's mean step is compared with the mean plain step of its own round; the
table gives the median over rounds and their spread. What people use takes turns with plain steps in fits of its own.
CPU time counts all threads of the process, wall time what a user waits for; both are printed, since another process on
the machine disturbs the second. The default schedule is timed as it is past a run's first 100 steps, of which every one
is recorded: one step of ten. One alarm is off: it computes a best constant once a fit, if the loss does not fall, as it
does not on the random labels that are timed here. What imports made is left out of garbage collections: the first full
one of a process takes 0.3 s, whoever's turn it is. The C library keeps what is freed: where it gives memory back to the
system and asks for it again, as it does by default, plain steps of the same process differ by 20 %.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gc
import itertools
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch
from fastai.callback.core import Callback
from fastai.callback.hook import ActivationStats
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.optimizer import Adam
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from torchvision.models import resnet18

from diagnose import registry
from diagnose import watch as watched
from diagnose.watch import Watch
from sslwang.circumstances import commit

SKIP = 8  # steps at the start of a turn: buffers are made, caches are cold
TURNS = 20  # of every variant in a round
KEEPS = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**33)}


def small() -> tuple[nn.Module, tuple, int]:
    """Conv net with batch norm of 0.5 M parameters, 64 px."""
    widths = (3, 32, 64, 128, 256)
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
    return nn.Sequential(*layers, *head), (3, 64, 64), 10


def resnet() -> tuple[nn.Module, tuple, int]:
    """torchvision's resnet18, 64 px: ReLU overwrites what batch norm puts out."""
    return resnet18(num_classes=10), (3, 64, 64), 10


class Transformer(nn.Module):
    """Four encoder blocks of width 128 over 64 places."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(32, 128)
        block = nn.TransformerEncoderLayer(128, 4, 256, dropout=0.1, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, 4, enable_nested_tensor=False)
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.blocks(self.embed(x)).mean(1))


def transformer() -> tuple[nn.Module, tuple, int]:
    """Four encoder blocks."""
    return Transformer(), (64, 32), 10


def mlp() -> tuple[nn.Module, tuple, int]:
    """Three linear layers: steps of about 1 ms."""
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), (20,), 10


# steps of a round: for us and for plain ones ten seconds, as long as a run's rows wait to be written; and for others
MODELS = {
    "small": (small, 400, 64),
    "resnet18": (resnet, 80, 24),
    "transformer": (transformer, 104, 64),
    "mlp": (mlp, 12_000, 400),
}


class AddHistograms(Callback):
    """The naive way: SummaryWriter.add_histogram of every weight and gradient."""

    order = 11

    def __init__(self, folder: Path):
        self.writer, self.at = SummaryWriter(folder), 0

    def before_step(self):
        for name, p in self.model.named_parameters():
            self.writer.add_histogram(f"weights/{name}", p, self.at)
            self.writer.add_histogram(f"gradients/{name}", p.grad, self.at)
        self.at += 1

    def after_fit(self):
        self.writer.flush()


class Clock(Callback):
    """Wall and CPU seconds of every step, from before everything to after everything."""

    order = 1000

    def __init__(self):
        self.steps: list[tuple[float, float]] = []
        self.began = (0.0, 0.0)
        self.ended = (0.0, 0.0)

    def now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def before_train(self):
        self.began = self.now()

    def after_batch(self):
        if self.training:
            now = self.now()
            self.steps.append((now[0] - self.began[0], now[1] - self.began[1]))
            self.began = now


@dataclass
class Variant:
    """One way to record."""

    name: str
    make: Callable[[Path], Callback | None]
    ratios: dict[str, list[float]] = field(default_factory=lambda: {"cpu": [], "wall": []})
    disk: float = 0.0


def watch(folder: Path, **settings) -> Watch:
    """A Watch with all alarms but one."""
    alarms = [e.id for e in registry.entries("diagnose.alarms") if e.id != "loss-at-best-constant"]
    return Watch(folder, alarms=alarms, **settings)


def variants() -> list[Variant]:
    """Plain steps, and ours."""
    return [
        Variant("plain", lambda f: None),
        Variant("ours, every step, sampled", lambda f: watch(f, every=1)),
        Variant("ours, default schedule", lambda f: watch(f, first=0, every=10)),
        Variant("ours, every step, exact", lambda f: watch(f, every=1, exact=True)),
    ]


def others_of_today() -> list[Variant]:
    """What people use."""
    return [
        Variant("fastai ActivationStats(with_hist=True)", lambda f: ActivationStats(with_hist=True)),
        Variant("SummaryWriter.add_histogram, weights and gradients", AddHistograms),
    ]


def learner(name: str, steps: int, seed: int = 0) -> Learner:
    """A Learner on fixed random batches: what is timed is the step."""
    torch.manual_seed(seed)
    model, shape, classes = MODELS[name][0]()
    batches = [(torch.randn(32, *shape), torch.randint(0, classes, (32,))) for _ in range(4)]
    dls = DataLoaders([batches[i % 4] for i in range(steps)], batches[:1])
    return Learner(dls, model, loss_func=CrossEntropyLossFlat(), opt_func=Adam, lr=1e-4)


def turn(learn: Learner, callback: Callback | None, steps: int) -> tuple[float, float]:
    """(wall, CPU) seconds of a step in a fit of its own: the mean of those after the first few."""
    clock, batches = Clock(), learn.dls.loaders[0]
    with learn.no_bar(), learn.no_logging(), contextlib.redirect_stdout(None):
        try:
            learn.dls.loaders[:] = [batches[: steps + SKIP], []]
            learn.fit(1, cbs=[clock] + ([callback] if callback else []))
        finally:
            learn.dls.loaders[0] = batches
    wall, cpu = np.mean(clock.steps[SKIP:], axis=0)
    return wall, cpu


class Turns(Callback):
    """Passes the events of a fit on to one of several callbacks at a time, and keeps the time that each has had.

    Args:
        told: by name, what takes turns; None for steps that nobody records.
        steps: steps of a turn.
        clock: what a Watch of `told` reads instead of `time`.
        after: called with the number of every round that is over, from 1.
    """

    order = Watch.order

    def __init__(self, told: dict[str, Callback | None], steps: int, clock: OwnTime, after: Callable[[int], None]):
        self.told, self.steps, self.clock, self.after = told, steps, clock, after
        self.draw, self.queue, self.turn, self.left, self.turns = random.Random(0), [], "", 0, 0
        self.seconds = {name: np.zeros(2) for name in told}

    def __call__(self, event_name: str) -> None:
        if event_name == "before_train":
            self._next()
        one = self.told.get(self.turn)
        if event_name in ("before_fit", "before_train", "after_train", "after_epoch", "after_fit"):
            for each in filter(None, self.told.values()):
                each.learn = self.learn
                each(event_name)
        elif one is not None:
            one(event_name)
        if event_name == "after_batch":
            self.left -= 1
            if not self.left:
                self.seconds[self.turn] += np.array(self.now()) - self.began
                self.clock.stop()
                self.turns += 1
                if self.turns % (len(self.told) * TURNS) == 0:
                    self.after(self.turns // (len(self.told) * TURNS))
                self._next()

    def now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def _next(self) -> None:
        self.queue = self.queue or self.draw.sample(list(self.told), len(self.told))
        self.turn, self.left = self.queue.pop(), self.steps
        self.clock.go_on(self.turn)
        self.began = np.array(self.now())


class OwnTime:
    """Stands for the module `time` in a Watch: the clock of each runs while it has its turn."""

    def __init__(self):
        self.name, self.began, self.had = "", 0.0, {}

    def go_on(self, name: str) -> None:
        self.name, self.began = name, time.perf_counter()

    def stop(self) -> None:
        self.had[self.name] = self.perf_counter()

    def perf_counter(self) -> float:
        return self.had.get(self.name, 0.0) + time.perf_counter() - self.began

    monotonic = perf_counter


def measure_ours(name: str, found: list[Variant], rounds: int, folder: Path, say: Callable[[str], None]) -> float:
    """Ratios of what is ours to plain steps, all taking turns of half a second; and the plain step's seconds."""
    _, steps, _ = MODELS[name]
    pace, clock, plain = max(steps // TURNS, 4), OwnTime(), []
    told = {v.name: v.make(folder / str(i)) for i, v in enumerate(found)}

    def after(number: int) -> None:
        seconds, turns.seconds = turns.seconds, {n: np.zeros(2) for n in told}
        if number == 1:
            say(f"{name}: warm")
            gc.collect()
            gc.freeze()
            return  # buffers are made, and blocks find their size
        plain.append(seconds["plain"][0] / TURNS / pace)
        for variant in found:
            wall, cpu = seconds[variant.name] / seconds["plain"]
            variant.ratios["wall"].append(wall)
            variant.ratios["cpu"].append(cpu)
        text = "; ".join(f"{v.name} {v.ratios['wall'][-1]:.3f}" for v in found[1:])
        say(f"{name}: round {number - 1} of {rounds}: plain {1000 * plain[-1]:.1f} ms; {text}")

    turns = Turns(told, pace, clock, after)
    learn = learner(name, len(found) * (rounds + 1) * TURNS * pace)
    try:
        watched.time = clock
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, cbs=turns)
    finally:
        watched.time = time
    for variant, one in zip(found, told.values()):
        if isinstance(one, Watch):
            size = sum(f.stat().st_size for f in Path(one.store.folder).rglob("*.parquet"))
            variant.disk = size / max(one.recording.recorded, 1)
    return statistics.median(plain)


def measure_others(name: str, found: list[Variant], rounds: int, folder: Path, say: Callable[[str], None]) -> None:
    """Ratios of what people use to plain steps, in fits of their own: hooks stand on the model all the time."""
    order, (_, _, steps) = random.Random(0), MODELS[name]
    learn, plain = learner(name, steps + SKIP), Variant("plain", lambda f: None)
    turn(learn, None, steps)
    for number in range(rounds):
        say(f"{name}, others: round {number + 1} of {rounds}")
        seconds: dict[str, tuple[float, float]] = {}
        for variant in order.sample([plain, *found], len(found) + 1):
            where = folder / f"others-{number}"
            seconds[variant.name] = turn(learn, variant.make(where), steps)
            shutil.rmtree(where, ignore_errors=True)
        for variant in found:
            variant.ratios["wall"].append(seconds[variant.name][0] / seconds["plain"][0])
            variant.ratios["cpu"].append(seconds[variant.name][1] / seconds["plain"][1])


def measure(name: str, rounds: int, slow: bool, say: Callable[[str], None]) -> tuple[list[Variant], float]:
    """Every variant's ratios to the plain steps of its round; and the plain step's wall seconds."""
    folder, ours, others = Path(tempfile.mkdtemp()), variants(), others_of_today() if slow else []
    try:
        plain = measure_ours(name, ours, rounds, folder, say)
        if others:
            measure_others(name, others, min(rounds, 3), folder, say)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [*ours, *others], plain


class SelfTimed(Watch):
    """A Watch that notes the CPU nanoseconds of its thread at every event; and of putting the hooks on, and in them."""

    LABELS = {"attach": "hooks on", "_read_safely": "in hooks"}

    def __init__(self, **settings):
        alarms = [e.id for e in registry.entries("diagnose.alarms") if e.id != "loss-at-best-constant"]
        super().__init__(alarms=alarms, **settings)
        self.spent: list[tuple[int, str, int]] = []
        self.blocks: list[tuple[int, int]] = []
        owners = {**dict.fromkeys(self.LABELS, self.recording.activations), "reduce": self.recording}
        for name, owner in owners.items():
            setattr(owner, name, self._timed(name, getattr(owner, name)))

    def _timed(self, name: str, function: Callable) -> Callable:
        def timed(*args):
            steps, step, began = len(self.recording.moments), self.recording.step, time.thread_time_ns()
            result = function(*args)
            taken = time.thread_time_ns() - began
            if name in self.LABELS:
                self.spent.append((step, self.LABELS[name], taken))
            elif steps:
                self.blocks.append((steps, taken))
            return result

        return timed

    def __call__(self, event_name):
        step, blocks, began = self.recording.step, len(self.blocks), time.thread_time_ns()
        try:
            super().__call__(event_name)
        finally:
            taken = time.thread_time_ns() - began - sum(t for _, t in self.blocks[blocks:])
            self.spent.append((step, event_name, taken))


def self_times(name: str, steps: int, every: int, exact: bool) -> dict[str, float]:
    """Microseconds a step by event, and of reductions: means, since some of it is done every 8th, 10th, 16th and 20th
    recorded step only. `block` is how many steps the largest had."""
    learn, callback = learner(name, steps + SKIP), SelfTimed(first=0, every=every, exact=exact)
    turn(learn, callback, steps)
    found: dict[str, float] = {}
    for step, event, taken in callback.spent:
        if SKIP <= step < steps + SKIP:
            found[event] = found.get(event, 0.0) + taken / 1000 / steps
    blocks = callback.blocks[1:] or callback.blocks  # the first makes buffers
    found["reduce"] = sum(t for _, t in blocks) / sum(n for n, _ in blocks) / 1000 / every
    return {**found, "block": max(n for n, _ in callback.blocks)}


def self_table(names: list[str], steps_of: Callable[[str], int]) -> list[str]:
    """Lines of a table of `self_times`, with their sum over the CPU time of a plain step."""
    shown = ["hooks on", "in hooks", "after_pred", "after_loss", "before_step", "after_step", "after_batch", "reduce"]
    lines = [f"| | plain step | {' | '.join(shown)} | others | sum | of a step | block |", "|---" * 13 + "|"]
    for name, (label, every, exact) in itertools.product(
        names, [("every step", 1, False), ("default schedule", 10, False), ("every step, exact", 1, True)]
    ):
        plain = 1e6 * turn(learner(name, steps_of(name) + SKIP), None, steps_of(name))[1]
        found = self_times(name, steps_of(name), every, exact)
        block, total = found.pop("block"), sum(found.values())
        cells = [f"{found.pop(k, 0.0):.0f}" for k in shown]
        others = sum(found.values())
        share = f"{100 * total / plain:.1f} %"
        lines.append(
            f"| {name}, {label} | {plain:.0f} | {' | '.join(cells)} | {others:.0f} | {total:.0f} | {share} | {block} |"
        )
    return lines


def sampling_error(name: str, steps: int = 4) -> list[str]:
    """Lines of a table: how far sampled standard deviations and histograms are from those of all elements, over the
    tensors that are sampled, in the median and at the 95th percentile."""
    frames = []
    for exact in (False, True):
        watch = Watch(every=1, exact=exact, alarms=False)
        learn = learner(name, steps)
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, cbs=watch)
        frames.append(watch)
    lines = []
    for table, key in (
        ("activations", ["layer", "call", "part"]),
        ("weights", ["parameter"]),
        ("gradients", ["parameter"]),
    ):
        keys = ["step", *key]
        both = [w.frame(table).astype(dict.fromkeys(key, str)) for w in frames]
        joined = both[0].merge(both[1], on=keys, suffixes=("", "_whole"))
        joined = joined[(joined["count"] < joined["size"]) & (joined["std_whole"] > 0)]
        error = (joined["std"] / joined["std_whole"] - 1).abs()
        zeros = (joined["zeros"] - joined["zeros_whole"]).abs() if "zeros" in joined else error * 0
        cells = [f"{100 * error.quantile(q):.2g} %" for q in (0.5, 0.95)] + [
            f"{zeros.quantile(q):.2g}" for q in (0.5, 0.95)
        ]
        lines.append(f"| {name}, {table} ({len(joined)} rows) | {' | '.join(cells)} |")
    return lines


def row(variant: Variant) -> str:
    """One line of the table."""
    cells = [variant.name]
    for kind in ("wall", "cpu"):
        ratios = sorted(variant.ratios[kind])
        cells.append(f"{statistics.median(ratios):.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}]")
    cells.append(f"{variant.disk / 1000:.1f}" if variant.disk else "")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated: " + ", ".join(MODELS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--ours-only", action="store_true", help="leave the slow rivals out")
    parser.add_argument("--self", action="store_true", dest="own", help="CPU time inside our own handlers, by event")
    parser.add_argument("--out", type=Path, help="write the page here as well")
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in KEEPS.items()):
        os.execve(sys.executable, [sys.executable, "-m", __spec__.name, *sys.argv[1:]], {**os.environ, **KEEPS})
    torch.set_num_threads(1 if options.own else options.threads)
    if options.own:
        print("Microseconds of CPU a step in our own handlers and of reading in the pass; telling is not in it.\n")
        print("\n".join(self_table(options.models.split(","), lambda name: 2 * MODELS[name][2])))
        return
    lines = [
        "# What recording costs",
        "",
        f"{datetime.date.today()}, commit {commit() or 'unknown'}, {platform.processor() or platform.machine()}, "
        f"{os.cpu_count()} cores, {options.threads} threads, torch {torch.__version__}; "
        f"load before: {os.getloadavg()[0]:.1f}.",
        "",
        f"`python -m tests.bench.gauges --models {options.models} --rounds {options.rounds} "
        f"--threads {options.threads}`",
        "",
        "Step time over plain step time: median over rounds, [least, largest]. Writing the record to disk is included, "
        "as often as a run does it: every ten to thirty seconds, and when 8 MB wait.",
    ]
    for name in options.models.split(","):
        found, plain = measure(name, options.rounds, not options.ours_only, lambda t: print(t, flush=True))
        table = [
            "",
            f"## {name}: {MODELS[name][0].__doc__} Plain step {1000 * plain:.1f} ms",
            "",
            "| | wall | CPU | KB a recorded step |",
            "|---|---|---|---|",
            *map(row, found),
        ]
        print("\n".join(table), flush=True)
        lines += table
    lines += [
        "",
        "## What sampling costs in accuracy",
        "",
        "Samples of 4,096 elements beside all elements, of tensors that have more.",
        "",
        "| | std off by, median | 95th percentile | share of zeros off by, median | 95th percentile |",
        "|---|---|---|---|---|",
    ]
    for name in options.models.split(","):
        lines += sampling_error(name) if name != "mlp" else []
    lines += ["", f"Memory of the process at the end: {psutil.Process().memory_info().rss / 1e6:.0f} MB."]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
