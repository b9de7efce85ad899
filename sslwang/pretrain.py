"""Pretraining: a pretext task behind the gate, watched, in a folder of its own, that goes on after whatever stops it.

    task = task_of("unmix", {"size": 64})
    run = pretrain(task, epochs=20)                           # asks the gate in `reports` first
    run = pretrain(task, steps=500, gate="skip")              # a baseline of that many batches; the record says so
    run = resume(run.path)                                    # from its newest complete checkpoint
    run.encoder("best")

An epoch is `items` of the task's settings (4,800 if nothing else is said).
"""

from __future__ import annotations

import functools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.callback.schedule import Learner  # patches the schedules in
from fastai.callback.training import GradientAccumulation

from diagnose.errors import DiagnoseError
from diagnose.examination import Progress
from diagnose.gate import GateRefused
from diagnose.identity import Identity, code_of, differences, identity, versions
from diagnose.isolate import random_streams, seed_everything
from diagnose.registry import entries, load
from diagnose.subject import pick_device
from diagnose.task import Task, flat_settings, settings_from
from diagnose.watch import Watch
from sslwang import runs
from sslwang.checkpoint import Checkpoint, Checkpoints, packed
from sslwang.circumstances import commit
from sslwang.curriculum import Curriculum, stages_of
from sslwang.gated import Gate
from sslwang.launch import ALONE, Launch
from sslwang.pretext import Pretext
from sslwang.runs import PretrainRun
from sslwang.state import GoOn, Position, bare, beginning_at, put_back, taken

CATALOGUE = "sslwang.tasks"
EPOCHS = 5  # where neither epochs nor steps are given
SAVED_EVERY = 60.0  # seconds between checkpoints, beside one after each epoch
_CODE: dict[tuple[type, str], Identity] = {}  # see `code_now`
LOWER = ("loss", "error", "mse", "rmse", "mae")  # words in the names of metrics of which less is better

Schedule = Literal["one-cycle", "flat-cosine"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]
Asked = Literal["verify", "examine", "skip"]


@dataclass(frozen=True)
class Options:
    """How a task is trained, beside its own settings. All of it is in the run's record, and resuming keeps it.

    Args:
        epochs: of `items` items each. steps: batches in all, in epochs of equal length; give one of the two.
        seed: of weights, data and every random stream.
        schedule: of the learning rate, over the whole training; fastai's `fit_one_cycle` or `fit_flat_cos`.
        accumulate: batches whose gradients are added up for a step of the optimizer.
        precision: `auto` is mixed precision where there is a GPU (bf16 if it knows it, else fp16), else fp32.
        patience: epochs without a better metric after which training ends; None trains to the end.
        metric: that says which epoch is best; the task's own if None. Of losses and errors less is better, of every
            other more.
        curriculum: begin with the task's easiest version, and go on to the next when the metric reaches this; see
            `stages_of`. The best epoch is one of the last stage that was reached.
        save_every: seconds between checkpoints, or batches; None for none but those after each epoch.
        save_steps: whether `save_every` counts batches.
        tensorboard: write event files beside the record. comet: log to Comet.
        watch: record gauges and raise alarms while it trains.
    """

    epochs: int | None = None
    steps: int | None = None
    seed: int = 0
    schedule: Schedule = "one-cycle"
    accumulate: int = 1
    precision: Precision = "auto"
    patience: int | None = None
    metric: str | None = None
    curriculum: float | None = None
    save_every: float | None = SAVED_EVERY
    save_steps: bool = False
    tensorboard: bool = False
    comet: bool = False
    watch: bool = True

    def __post_init__(self) -> None:
        if self.epochs is not None and self.steps is not None:
            raise DiagnoseError("give --epochs or --steps, not both")
        for name in ("epochs", "steps", "accumulate", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DiagnoseError(f"--{name} {value}: must be at least 1")
        for name, kind in (("schedule", Schedule), ("precision", Precision)):
            if getattr(self, name) not in get_args(kind):
                raise DiagnoseError(f"--{name} {getattr(self, name)}: one of {', '.join(get_args(kind))}")
        if self.save_every is not None and self.save_every <= 0:
            raise DiagnoseError("--save-every must be more than nothing; write none for no checkpoints within an epoch")


class Told:
    """Hears how a pretraining goes; everything may be left as it is."""

    def began(self, run: PretrainRun, done: int, total: int, epochs: int) -> None:
        """Training begins, after `done` of `total` batches, in `epochs` epochs."""

    def step(self, done: int, epoch: int, loss: float) -> None:
        """A batch was trained on: `done` in all; the loss is smoothed."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch has ended, with its metrics."""

    def say(self, line: str) -> None:
        """Something that a person should know."""


class Interrupted(DiagnoseError):
    """A signal ended the training. The message is the command that goes on; the exit code is 128 + the signal's."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number


# ---- the two ways in -------------------------------------------------------------------------------------------------


def pretrain(
    task: Pretext,
    out: Path | str = "pretrained",
    epochs: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    gate: Asked = "verify",
    gates: Gate | None = None,
    told: Told | None = None,
    progress: Progress | None = None,
    skipped: str = 'gate="skip"',
    **options: Any,
) -> PretrainRun:
    """Train a pretext task from new weights; the run, whose folder is `out`/<task>/<time>.

    The gate is asked once, before anything is written. The caller's random streams end as they began.

    Args:
        out: folder of runs.
        epochs, steps, seed, options: see `Options`.
        device: auto, cpu, cuda, ...
        gate: `verify` wants a pass of `diagnose run`, `examine` examines if there is none, `skip` goes on without.
        gates: where passes are and which hold.
        told: hears how it goes. progress: hears how an examination goes.
        skipped: who skipped the gate, for the record.

    Raises:
        GateRefused: no pass holds, or the examination gave none.
        DiagnoseError: options, settings or data that do not fit, or a folder that cannot be written.
        Interrupted: SIGINT or SIGTERM, after a checkpoint.
    """
    chosen, told = Options(epochs, steps, seed, **options), told or Told()
    task, epochs = in_epochs(task, chosen)
    place, launch = pick_device(device), Launch.of_environment()
    _refuse_unfit(chosen, task, place, launch)
    if chosen.curriculum is not None:
        if launch.processes > 1:
            raise DiagnoseError("--curriculum: in one process only")
        stages_of(task)
    out = Path(out)
    gates = gates or Gate()

    def allowed() -> dict[str, Any]:
        runs.writable(out)
        _ = task.sides  # images that are missing or damaged are told before anything else
        return _asked(gate, gates, task, chosen.seed, device, told, progress, skipped)

    with random_streams(), launch.group(place) as place:
        granted = launch.from_first(allowed)
        seed_everything(chosen.seed + launch.rank)
        learn = task.learner(chosen.seed, place)
        metric = _refuse_unknown(chosen, learn)
        run = launch.from_first(lambda: _new_run(out, task, chosen, epochs, granted, metric, launch, learn))
        return _train(learn, run, task, chosen, epochs, told, launch)


def resume(
    path: Path | str,
    device: str | None = None,
    changed_code: bool = False,
    told: Told | None = None,
) -> PretrainRun:
    """Go on with a run from its newest complete checkpoint.

    On the CPU, in one process, it ends with the bits that it would have had without interruption.

    Args:
        path: its folder.
        device: another than it began on; None for the same.
        changed_code: go on although the code or a version is another now; the record says so.

    Raises:
        DiagnoseError: no such run, it is finished, its code, settings, model or data are others now, or no checkpoint
            can be read.
        Interrupted: SIGINT or SIGTERM, after a checkpoint.
    """
    run, told, launch = _opened(path), told or Told(), Launch.of_environment()
    record = run.record
    chosen = Options(**record["options"])
    task = task_of(run.task, run.settings)
    place = pick_device(device or record["device"])
    if launch.processes != record["processes"]:
        raise DiagnoseError(f"{run.path}: began in {record['processes']} processes, not {launch.processes}")
    with random_streams(), launch.group(place) as place:
        seed_everything(run.seed)
        learn = task.learner(run.seed, place)
        changed = _refuse_changed(run, identity(learn, task), changed_code)
        found = Checkpoints(run.path / runs.STATE).newest()
        for line in found.passed_over if found else ():
            told.say(f"passed over a checkpoint: {line}")
        if launch.first:
            record["resumed"].append({"step": found.rest["train_iter"] if found else 0, "changed": changed})
            record["stopped"] = None
        return _train(learn, run, task, chosen, record["epochs"], told, launch, found)


def task_of(name: str, settings: dict[str, Any]) -> Pretext:
    """A task of the catalogue under settings by dotted name.

    Raises:
        DiagnoseError: no such task or setting.
    """
    known = {e.id: e for e in entries(CATALOGUE)}
    if name not in known:
        raise DiagnoseError(f"--task {name}: no such task; known: {', '.join(known)}")
    cls = load(known[name], Task)
    return cls(settings_from(cls.Settings, settings))


def metric_names(learn: Learner) -> list[str]:
    """What an epoch is judged by, as the record's history names it."""
    return ["train_loss", "valid_loss", *(m.name for m in learn.metrics)]


def lower_is_better(metric: str) -> bool:
    """Losses and errors are to be small; accuracy, R2 and every other score are to be large."""
    words = metric.lower().replace(" ", "_").split("_")
    return any(word in LOWER for word in words)


# ---- before anything is written --------------------------------------------------------------------------------------


def _asked(
    how: Asked, gates: Gate, task: Pretext, seed: int, device: str, told: Told, progress: Progress | None, skipped: str
) -> dict[str, Any]:
    if how == "skip":
        return {"skipped": skipped}
    try:
        granted = gates.verified(task, device)
    except GateRefused:
        if how == "verify":
            raise
        granted = gates.examined(task, seed, device, progress)
    told.say(f"the gate is open: {granted['pass']}, {granted['verdict']}, issued {granted['issued']}")
    return granted


def in_epochs(task: Pretext, options: Options) -> tuple[Pretext, int]:
    """The task with its items an epoch, and epochs; `steps` batches are split into equal epochs of about `items`."""
    s = task.settings
    if options.steps is None:
        return task, options.epochs or EPOCHS
    wanted = max(1.0, options.steps * s.bs / s.items)
    divisors = [d for d in range(1, math.isqrt(options.steps) + 1) if options.steps % d == 0]
    divisors += [options.steps // d for d in divisors]
    epochs = min(divisors, key=lambda d: (abs(math.log(d / wanted)), d))
    return task.under(items=options.steps // epochs * s.bs), epochs


def _refuse_unfit(options: Options, task: Pretext, device: torch.device, launch: Launch) -> None:
    if options.precision in ("fp16", "bf16") and device.type != "cuda":
        raise DiagnoseError(f"--{options.precision}: mixed precision needs a CUDA GPU, and this trains on {device}")
    if options.precision == "bf16" and not torch.cuda.is_bf16_supported():
        raise DiagnoseError("--bf16: this GPU does not know bfloat16; take --fp16")
    if options.comet:
        from diagnose.report.comet import installed

        installed()
    if options.tensorboard:
        from diagnose.report.tensorboard import installed

        installed()
    s = task.settings
    if s.items < s.bs * launch.processes:
        each = f" for each of {launch.processes} processes" if launch.processes > 1 else ""
        raise DiagnoseError(
            f"{s.items} training items are fewer than one batch of {s.bs}{each}; lower bs or raise items"
        )


def _refuse_unknown(options: Options, learn: Learner) -> str:
    known = metric_names(learn)
    if options.metric is None:
        return known[2] if len(known) > 2 else "valid_loss"
    metric = options.metric.replace(" ", "_")
    if metric not in known:
        raise DiagnoseError(f"--metric {options.metric}: no such metric; known: {', '.join(known)}")
    return metric


def _precision(options: Options, device: torch.device) -> str:
    if options.precision != "auto":
        return options.precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def _opened(path: Path | str) -> PretrainRun:
    path = Path(path)
    if not (path / runs.RECORD).is_file():
        raise DiagnoseError(f"--resume {path}: no run is there (a folder with {runs.RECORD})")
    run = runs.open_run(path)
    if run.finished:
        raise DiagnoseError(f"{path}: finished after {run.steps} batches; there is nothing to go on with")
    needed = {"options", "device", "processes", "identity", "epochs", "resumed", "alarms", "best", "metric"}
    missing = sorted(needed - run.record.keys())
    strange = sorted(run.record.get("options", {}).keys() - Options.__dataclass_fields__.keys())
    if missing or strange:
        what = f"it lacks {', '.join(missing)}" if missing else f"it knows options {', '.join(strange)}"
        raise DiagnoseError(f"{path}: the record of another version: {what}; start a new run")
    return run


def _counts(parts: Identity) -> Identity:
    return {name: value for name, value in parts.items() if name != "version diagnose"}


def code_now(task: Pretext) -> Identity:
    """The code that a task is made of, and the versions; it is read once a process, as it is loaded once."""
    key = type(task), task.settings.model_dump_json()
    if key not in _CODE:
        with random_streams():
            _CODE[key] = {**code_of(task.learner(0, torch.device("cpu")), task), **versions()}
    return _CODE[key]


def code_since(run: PretrainRun, task: Pretext) -> list[str]:
    """What of the code of its task, or of the versions, is another now than when a run began, a line each."""
    then = {n: v for n, v in run.record.get("identity", {}).items() if n.startswith(("code ", "version "))}
    return differences(_counts(then), _counts(code_now(task)))


def _refuse_changed(run: PretrainRun, now: Identity, changed_code: bool) -> list[str]:
    """What is another now than when the run began, if it was allowed to be."""
    code = ("code ", "version ", "device")
    then, now = _counts(run.record["identity"]), _counts(now)
    grave = differences(*({name: v for name, v in parts.items() if not name.startswith(code)} for parts in (then, now)))
    if grave:
        raise DiagnoseError(f"{run.path}: cannot go on: {'; '.join(grave[:3])} since it began; start a new run")
    changed = differences(then, now)
    if changed and not changed_code:
        raise DiagnoseError(
            f"{run.path}: {'; '.join(changed[:3])} since it began, and would end with other weights; put that back, "
            "or add --changed-code, which the record will say"
        )
    return changed


def _new_run(
    out: Path,
    task: Pretext,
    chosen: Options,
    epochs: int,
    granted: dict[str, Any],
    metric: str,
    launch: Launch,
    learn: Learner,
) -> PretrainRun:
    """The folder of a run with its record."""
    settings, place = task.settings, learn.dls.device
    run = PretrainRun(
        runs.new_folder(out, task.id),
        {
            "schema": runs.SCHEMA,
            "task": task.id,
            "settings": flat_settings(settings),
            "arch": settings.encoder.arch,
            "norm": settings.encoder.norm,
            "seed": chosen.seed,
            "size": settings.size,
            "epochs": epochs,
            "steps": 0,
            "source": settings.data.source,
            "with_val": bool(getattr(settings.data, "with_val", False)),
            "gate": granted,
            "options": asdict(chosen),
            "metric": metric,
            "precision": _precision(chosen, place),
            "processes": launch.processes,
            "versions": {name: version(name) for name in ("learner-diagnose", "torch", "fastai", "numpy")},
            "commit": commit(),
            "device": str(place),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": 0.0,
            "finished": False,
            "stopped": None,
            "history": [],
            "best": None,
            "alarms": [],
            "resumed": [],
            "identity": identity(learn, task),
        },
    )
    with _written(run):
        run.save()
    return run


# ---- training --------------------------------------------------------------------------------------------------------


def _train(
    learn: Learner,
    run: PretrainRun,
    task: Pretext,
    options: Options,
    epochs: int,
    told: Told,
    launch: Launch = ALONE,
    found: Checkpoint | None = None,
) -> PretrainRun:
    position, loader_epoch = Position(), None
    told = told if launch.first else Told()
    learn.remove_cbs([cb for cb in learn.cbs if cb.name == "progress"])
    learn.create_opt()
    keeper = Keeper(run, options, epochs, told, launch)
    callbacks: list[Callback] = [keeper]
    if options.curriculum is not None:
        keeper.curriculum = _curriculum(task, options, run.record["metric"], learn.dls.device)
        callbacks.append(keeper.curriculum)
        if found is not None:
            keeper.curriculum.put_back(found.rest["kept"]["curriculum"], learn)
    if found is not None:
        position = Position(**found.rest["position"])
        loader_epoch = found.rest["loader epoch"]
        put_back(learn, found.tensors, found.rest, f"{run.path / runs.STATE}, checkpoint {found.number},")
        keeper.go_on(found)
        callbacks.append(GoOn(position, found.tensors, found.rest, launch.first))
    if options.accumulate > 1:
        callbacks.append(GradientAccumulation(options.accumulate * task.settings.bs))
    precision = _precision(options, learn.dls.device)
    if precision != "fp32":
        callbacks.append(MixedPrecision(AMPMode.BF16 if precision == "bf16" else AMPMode.FP16))
    watch = _watching(run, options, keeper.steps) if options.watch and launch.first else None
    if watch is not None:
        callbacks.append(watch)
    if not launch.first and found is not None:
        seed_everything(options.seed + launch.rank + keeper.steps)
    done = found is not None and keeper.over
    alone = run.alone() if launch.first else nullcontext()
    with alone, learn.no_logging(), launch.prepared(learn), _signals(keeper):
        if not done:
            told.began(run, keeper.steps, epochs * len(learn.dls.train), epochs)
            fit = {"one-cycle": learn.fit_one_cycle, "flat-cosine": learn.fit_flat_cos}[options.schedule]
            try:
                with beginning_at(learn, position, loader_epoch):
                    fit(epochs, cbs=callbacks)
            finally:
                if watch is not None:
                    watch.close()
                    run.record["alarms"] += [f"{one.id} at step {one.step}: {one.message}" for one in watch.raised]
        if keeper.failure is not None:
            if launch.first:
                with suppress(OSError):  # the alarms; what matters is written, or cannot be
                    run.save()
            raise keeper.failure
        keeper.finish(learn)
    return run


def _curriculum(task: Pretext, options: Options, metric: str, device: torch.device) -> Curriculum:
    stages = {n: functools.partial(version.loaders, options.seed, device) for n, version in stages_of(task).items()}
    return Curriculum(stages, options.curriculum or 0.0, metric, lower_is_better(metric))


def _watching(run: PretrainRun, options: Options, steps: int) -> Watch:
    """A Watch in a folder of its own; one that goes on counts steps from where the run stood."""
    folders = (run.path / (runs.WATCH if k == 1 else f"{runs.WATCH}-{k}") for k in range(1, 1_000_000))
    folder = next(f for f in folders if not f.exists())
    board: Any = run.path / runs.TENSORBOARD if options.tensorboard else False
    try:
        watch = Watch(folder, tensorboard=board, comet=options.comet)
    except OSError as e:
        raise DiagnoseError(f"{folder}: cannot be written ({e.strerror}); {run.resuming} goes on") from e
    watch.recording.step = steps
    return watch


@contextmanager
def _signals(keeper: Keeper) -> Iterator[None]:
    """Inside, SIGTERM and the first SIGINT end the training after the batch under way; a second SIGINT ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what becomes of signals
        return

    def heard(number: int, frame: Any) -> None:
        if number == signal.SIGINT and keeper.signal is not None:
            raise KeyboardInterrupt
        keeper.signal = number

    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _written(run: PretrainRun) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise DiagnoseError(_lost(run, e, None)) from e


def _lost(run: PretrainRun, error: OSError, saved: int | None) -> str:
    why = error.strerror or str(error)
    if saved is None:
        return f"{run.path}: cannot be written ({why}); make room or choose another --out, and start again"
    return (
        f"{run.path}: cannot be written ({why}), so training has ended; nothing is lost up to batch {saved}, the last "
        f"complete checkpoint. Make room, then: {run.resuming}"
    )


class Keeper(Callback):
    """Keeps a run: checkpoints, its record, the best and the last encoder, and when training ends early.

    Args:
        run: whose record it writes.
        options: of the training. epochs: in all.
        told: hears of every batch and epoch.
        launch: of the processes; only the first writes.

    Attributes:
        signal: number of the signal that asked for an end.
        failure: why training ended before its time, to be raised when the fit is over: fastai rewrites the message of
            what is raised in a callback.
        steps: batches trained on. saved: batches at the last checkpoint.
    """

    order = 95  # after every other callback has done with the batch or the epoch

    def __init__(self, run: PretrainRun, options: Options, epochs: int, told: Told, launch: Launch):
        super().__init__()
        self.kept, self.chosen, self.epochs, self.told, self.launch = run, options, epochs, told, launch
        self.checkpoints = Checkpoints(run.path / runs.STATE)
        self.signal: int | None = None
        self.failure: DiagnoseError | None = None
        self.steps = self.waited = 0
        self.saved: int | None = None
        self.best: dict[str, Any] | None = None
        self.history: list[dict[str, Any]] = []
        self.over = False
        self.curriculum: Curriculum | None = None
        self.best_file: str | None = None
        self.seconds, self._began = 0.0, time.monotonic()
        self._last_save = time.monotonic()

    # ---- events --------------------------------------------------------------------------------------------------

    def after_batch(self) -> None:
        """Count, and at the end of a batch save where it is time, or end where a signal asked for it."""
        if not self.training:
            return
        self.steps = self.train_iter
        smooth = getattr(self.learn, "smooth_loss", None)
        self.told.step(self.steps, self.epoch, math.nan if smooth is None else float(smooth))
        asked = self.launch.any(self.signal is not None)
        if asked or self._due():
            self._save(Position(self.epoch, self.iter + 1))
        if asked:
            self._end_by_signal()

    def after_epoch(self) -> None:
        """Judge the epoch, write encoder and record, save, and end if it is enough."""
        names = [n for n in self.recorder.metric_names[1:] if n != "time"]
        values = [None if v is None else float(v) for v in self.learn.final_record]
        row = {"epoch": self.epoch, "steps": self.steps, **dict(zip(names, values))}
        self.history.append(row)
        better = self._judge(row)
        begun = self.curriculum.marks[-1] if self.curriculum is not None else None
        if begun is not None and begun.epoch == self.epoch + 1:
            self.waited = 0  # epochs of another stage are no measure of its own
        enough = self.launch.agreed(self.chosen.patience is not None and self.waited >= self.chosen.patience)
        self.over = enough or self.epoch + 1 == self.epochs
        self.told.epoch(row)
        if begun is not None and begun.epoch == self.epoch + 1:
            self.told.say(f"stage {begun.stage} begins with batch {begun.step}")
        if self.launch.first:
            self._attempt(lambda: self._write_encoder(better))
        self._save(Position(self.epoch + 1, 0))
        if self.launch.any(self.signal is not None) and not self.over:
            self._end_by_signal()
        if enough:
            raise CancelFitException

    # ---- what it decides -----------------------------------------------------------------------------------------

    def _due(self) -> bool:
        every = self.chosen.save_every
        if every is None or not self.launch.first:
            return False
        if self.chosen.save_steps:
            return self.steps % max(1, round(every)) == 0
        return time.monotonic() - self._last_save >= every

    def _judge(self, row: dict[str, Any]) -> bool:
        """Whether an epoch is the best so far; one without a finite number never is."""
        metric = self.kept.record.get("metric", "valid_loss")
        value = row.get(metric)
        if value is None or not math.isfinite(value):
            better = False
        else:
            held = None if self.best is None or self.best.get("stage") != self._stage() else self.best["value"]
            better = held is None or (value < held if lower_is_better(metric) else value > held)
        if better:
            self.best = {"epoch": self.epoch, "steps": self.steps, "metric": metric, "value": value}
            if self.curriculum is not None:
                self.best["stage"] = self._stage()
        self.waited = 0 if better else self.waited + 1
        return better

    def _stage(self) -> str | None:
        "That the epoch under way belongs to; at its end the next one may have begun already."
        marks = () if self.curriculum is None else self.curriculum.marks
        return next((mark.stage for mark in reversed(marks) if mark.epoch <= self.epoch), None)

    def _end_by_signal(self) -> None:
        number = self.signal or signal.SIGTERM  # another process heard it
        self.failure = Interrupted(
            f"interrupted after {self.steps} batches, all of them saved; go on with: {self.kept.resuming}", number
        )
        raise CancelFitException

    # ---- what it writes ------------------------------------------------------------------------------------------

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as e:
            self.failure = DiagnoseError(_lost(self.kept, e, self.saved))
            raise CancelFitException from e

    def _write_encoder(self, better: bool) -> None:
        data = packed(bare(self.learn.model).encoder.state_dict())
        self.kept.put(runs.ENCODER, data)
        if better:
            self.best_file = f"best-{self.steps}.safetensors"
            self.checkpoints.keep(self.best_file, data)
            self.kept.put(runs.BEST, data)

    def _save(self, position: Position) -> None:
        if self.launch.first:
            self._attempt(lambda: self._write_checkpoint(position))

    def _write_checkpoint(self, position: Position) -> None:
        tensors, rest = taken(self.learn, position)
        rest["kept"] = {
            "best": self.best,
            "best file": self.best_file,
            "waited": self.waited,
            "history": self.history,
            "over": self.over,
            "seconds": self._seconds(),
            "curriculum": None if self.curriculum is None else self.curriculum.state(),
        }
        self.checkpoints.write(tensors, rest, [self.best_file] if self.best_file else [])
        self.saved, self._last_save = self.steps, time.monotonic()
        self._write_record()

    def _write_record(self, **more: Any) -> None:
        history = [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
                   for row in self.history]  # fmt: skip
        if self.curriculum is not None:
            more["stages"] = self.curriculum.state()["marks"]
        self.kept.record.update(
            steps=self.steps, history=history, best=self.best, seconds=round(self._seconds(), 1), **more
        )
        self.kept.save()

    def _seconds(self) -> float:
        return self.seconds + time.monotonic() - self._began

    # ---- before and after the fit --------------------------------------------------------------------------------

    def go_on(self, found: Checkpoint) -> None:
        """Take over what a checkpoint says of the run, and the best encoder as it was then."""
        held = found.rest["kept"]
        self.best, self.best_file, self.waited = held["best"], held["best file"], held["waited"]
        self.history, self.over, self.seconds = held["history"], held["over"], held["seconds"]
        self.steps = self.saved = found.rest["train_iter"]
        if self.best_file and self.launch.first:
            with _written(self.kept):
                self.kept.put(runs.BEST, found.kept[self.best_file])

    def finish(self, learn: Learner) -> None:
        """Write the last weights and say in the record that it is finished."""
        if not self.launch.first:
            return
        early = self.history[-1]["epoch"] + 1 < self.epochs if self.history else False
        try:
            model = bare(learn.model)
            self.kept.put(runs.ENCODER, packed(model.encoder.state_dict()))
            self.kept.put(runs.MODEL, packed(model.state_dict()))
            self._write_record(finished=True, stopped="early" if early else None)
        except OSError as e:
            raise DiagnoseError(_lost(self.kept, e, self.saved)) from e
