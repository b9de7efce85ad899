"""The command `sslwang pretrain`."""

from __future__ import annotations

import math
import os
import re
import shlex
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diagnose.errors import DiagnoseError
from sslwang.commands._options import SetOption, named

if TYPE_CHECKING:
    from sslwang.pretext import Pretext
    from sslwang.pretrain import Told
    from sslwang.runs import PretrainRun

NEWEST = "last"  # --resume of the newest run that did not come to its end
QUIET = 30.0  # seconds between lines on an epoch that goes on, where standard error is no terminal


def pretrain(
    task: Annotated[str | None, typer.Option(metavar="TASK", help="See `sslwang tasks`.")] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="photos, imagewang, fashion-mnist, a folder, ... (data.source)."),
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side of the images in px.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of `items` of the task's settings each; 5.")] = None,
    steps: Annotated[int | None, typer.Option(help="Batches in all, in place of --epochs.")] = None,
    arch: Annotated[str | None, typer.Option(help="small, notes, or a net of torchvision (encoder.arch).")] = None,
    norm: Annotated[str | None, typer.Option(help="group or batch (encoder.norm).")] = None,
    bs: Annotated[int | None, typer.Option(help="Rows a batch.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    set_: SetOption = None,
    settings: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Settings of the task, as tables.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights, data and every random stream; 0.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, ...; auto.")] = None,
    schedule: Annotated[str | None, typer.Option(help="one-cycle or flat-cosine; one-cycle.")] = None,
    accumulate: Annotated[int | None, typer.Option(metavar="K", help="Batches a step of the optimizer; 1.")] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Mixed precision; on a GPU it is automatic.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="The same in bfloat16.")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="No mixed precision, on a GPU either.")] = False,
    patience: Annotated[
        int | None, typer.Option(metavar="N", help="End after N epochs without a better metric.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="What says which epoch is best; the task's own.")] = None,
    curriculum: Annotated[
        float | None,
        typer.Option(metavar="SCORE", help="Begin with easier versions; the next begins when the metric reaches this."),
    ] = None,
    save_every: Annotated[
        str | None, typer.Option(metavar="60s|500|none", help="Between checkpoints: seconds, or batches; 60s.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where run folders go.")] = Path("pretrained"),
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN|last", help="Go on with a run; `last` is the newest that did not come to its end."),
    ] = None,
    changed_code: Annotated[
        bool, typer.Option("--changed-code", help="Resume although the code is another now; the record says so.")
    ] = False,
    examine: Annotated[bool, typer.Option("--examine", help="Examine the task first if no pass holds.")] = False,
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Train without a pass; the run says so.")] = False,
    reports: Annotated[Path | None, typer.Option(help="Where the runs of `diagnose run` are; reports.")] = None,
    max_age: Annotated[str | None, typer.Option(help="Refuse an older pass: 7d, 12h, 30m.")] = None,
    allow_warnings: Annotated[bool, typer.Option("--allow-warnings", help="Accept a verdict of warn.")] = False,
    budget: Annotated[
        str | None, typer.Option(help="Of --examine: 60s, 5m, none; 10m. It ends when all is asked.")
    ] = None,
    tensorboard: Annotated[bool | None, typer.Option("--tensorboard", help="Write event files into the run.")] = None,
    comet: Annotated[bool | None, typer.Option("--comet", help="Log to Comet, or to an archive for it.")] = None,
) -> None:
    """Pretrain an encoder on a pretext task, if `diagnose run` has passed exactly this task, code and data.

    \b
    diagnose run --task unmix && sslwang pretrain --task unmix --epochs 100
    sslwang pretrain --task unmix --examine --epochs 2
    sslwang pretrain --task quadrant --data imagewang --size 128 --arch xresnet34 --norm batch --epochs 100
    sslwang pretrain --resume last
    accelerate launch -m sslwang pretrain --task unmix --epochs 100

    One epoch is `items` of the task's settings. The run folder OUT/TASK/TIME holds the encoder after the last and the
    best epoch, run.json, checkpoints, and what was recorded while it trained. Ctrl-C and SIGTERM save first.

    Exit codes: 0 trained, 2 usage or input error, 3 the task's own code raised, 4 the gate refuses, 130 or 143
    interrupted, with the command that goes on.
    """
    given = _settings(settings, set_, {
        "data.source": data, "size": size, "encoder.arch": arch, "encoder.norm": norm, "bs": bs, "lr": lr,
    })  # fmt: skip
    precisions = [name for name, asked in (("fp16", fp16), ("bf16", bf16), ("fp32", fp32)) if asked]
    if len(precisions) > 1:
        raise DiagnoseError(f"--{precisions[0]} --{precisions[1]}: give one of them")
    if examine and no_gate:
        raise DiagnoseError("--examine --no-gate: give one of them")
    options = {
        "epochs": epochs, "steps": steps, "seed": seed, "schedule": schedule, "accumulate": accumulate,
        "precision": precisions[0] if precisions else None, "patience": patience, "metric": metric,
        "curriculum": curriculum, "tensorboard": tensorboard, "comet": comet,
    }  # fmt: skip
    options = {name: value for name, value in options.items() if value is not None}
    if save_every is not None:
        options |= _saving(save_every)
    if resume is None and task is None:
        raise DiagnoseError("name a task: --task unmix (see `sslwang tasks`), or --resume RUN")
    from sslwang.launch import FirstEnded

    with _display() as (told, progress), _silent(FirstEnded):
        if resume is not None:
            of_gate = {
                "--examine": examine, "--no-gate": no_gate, "--reports": reports is not None,
                "--max-age": max_age is not None, "--allow-warnings": allow_warnings, "--budget": budget is not None,
            }  # fmt: skip
            if said := [name for name, asked in of_gate.items() if asked]:
                raise DiagnoseError(f"--resume: the gate was asked when the run began; leave out {', '.join(said)}")
            run = _resumed(resume, out, task, given, options, device, changed_code, told)
        else:
            from diagnose.gate import age
            from sslwang.gated import Gate
            from sslwang.pretrain import pretrain as train
            from sslwang.pretrain import task_of

            oldest = None if max_age is None else age(max_age)
            gates = Gate(reports or Path("reports"), oldest, allow_warnings, _seconds(budget or "10m"))
            run = train(
                task_of(task, given),
                out,
                device=device or "auto",
                gate="skip" if no_gate else "examine" if examine else "verify",
                gates=gates,
                told=told,
                progress=progress,
                skipped="--no-gate",
                **options,
            )
    if _first():
        typer.echo(_ended(run))


# ---- what is asked ---------------------------------------------------------------------------------------------------


def _settings(file: Path | None, pairs: list[str] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name: those of the file, over them those of options and of --set."""
    chosen = named(pairs)
    for name, value in options.items():
        if value is not None and str(value) != chosen.setdefault(name, str(value)):
            raise DiagnoseError(f"--set {name}={chosen[name]}: but an option says {value}; give one of them")
    return {**_of_file(file), **chosen}


def _of_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise DiagnoseError(f"--settings {file}: cannot be read ({e.strerror})") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise DiagnoseError(f"--settings {file}: not TOML ({e})") from e
    return dict(_flat(tables))


def _flat(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tables.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _saving(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    if text.strip().isdigit() and int(text):
        return {"save_every": float(text), "save_steps": True}
    return {"save_every": _seconds(text, "--save-every"), "save_steps": False}


def _seconds(text: str, option: str = "--budget") -> float | None:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh])\s*", text)
    if text.strip() == "none":
        return None
    if not match or not float(match[1]):
        batches = ", 500 (batches)" if option == "--save-every" else ""
        raise DiagnoseError(f"{option} {text}: write it as 60s, 5m, 1h{batches} or none")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _resumed(
    name: str,
    out: Path,
    task: str | None,
    given: dict[str, Any],
    options: dict[str, Any],
    device: str | None,
    changed_code: bool,
    told: Told,
) -> PretrainRun:
    """Go on with a run, if nothing that the command says is another than when it began."""
    from sslwang.pretrain import Options, in_epochs, resume, task_of
    from sslwang.runs import open_run, unfinished

    path = Path(name)
    if name == NEWEST:
        runs = (run for run in unfinished(out) if task in (None, run.task))
        run = next(runs, None)
        if run is None:
            of = f" of {task}" if task else ""
            raise DiagnoseError(f"--resume last: no run{of} in {out} was interrupted")
        path = run.path
    elif not (path / "run.json").is_file():
        raise DiagnoseError(f"--resume {name}: no run is there; give its folder, or `last`")
    run = open_run(path)
    asked = {}
    if given:
        began = Options(**run.record["options"])  # of --steps, which set the items of an epoch
        asked = _asked(in_epochs(task_of(run.task, {**run.settings, **given}), began)[0], given)
    had = {**run.settings, **run.record["options"], "task": run.task}
    now = {**asked, **options, **({} if task is None else {"task": task})}
    if other := [f"{n} was {had.get(n)}, not {v}" for n, v in now.items() if had.get(n) != v]:
        raise DiagnoseError(f"{path}: {'; '.join(other)}: leave that out to go on, or start a new run without --resume")
    return resume(path, device, changed_code, told)


def _asked(task: Pretext, given: Mapping[str, Any]) -> dict[str, Any]:
    from diagnose.task import flat_settings

    return {name: value for name, value in flat_settings(task.settings).items() if name in given}


# ---- what is said ----------------------------------------------------------------------------------------------------


def _ended(run: PretrainRun) -> str:
    record, best = run.record, run.record["best"]
    early = "; it ended early" if record["stopped"] == "early" else ""
    judged = "" if best is None else f"; best {best['metric']} {best['value']:.4f} after epoch {best['epoch'] + 1}"
    alarms = "".join(f"\nalarm: {line}" for line in record["alarms"])
    done = f"{len(record['history'])} epochs, {run.steps:,} batches in {record['seconds']:.0f} s{judged}{early}"
    return f"{run.path}: {done}{alarms}\nnext: {shlex.join(['sslwang', 'transfer', '--from', str(run.path)])}"


@contextmanager
def _silent(kind: type[DiagnoseError]) -> Iterator[None]:
    """What the first process has said, the others do not say again."""
    try:
        yield
    except kind as e:
        raise typer.Exit(e.exit_code) from e


def _first() -> bool:
    """Whether this is the one of several processes that speaks."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _display() -> Iterator[tuple[Told, Any]]:
    """A bar with the time left on standard error while it trains; where that is no terminal, a line an epoch."""
    from rich.console import Console

    from sslwang.commands._progress import bars

    console = Console(stderr=True, quiet=not _first())

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    with bars(console, transient=True) as bar:
        yield _told(bar, say, console.is_terminal), _Examining(bar, say, console.is_terminal)


class _Examining:
    """Shows what an examination does."""

    def __init__(self, bar: Any, say: Callable[[str], None], live: bool):
        self.bar, self.say, self.live, self.row = bar, say, live, None

    def doing(self, text: str) -> None:
        """The check or trial under way."""
        if self.row is None:
            self.say("no pass holds; examining the task first")
            self.row = self.bar.add_task("examining", total=None)
        if self.live:
            self.bar.update(self.row, description=f"examining: {text}"[:60])

    def done(self, result: Any) -> None:
        """A check is finished."""
        if result.status in ("warn", "fail"):
            self.say(f"{result.status}  {result.id}: {result.summary}")


def _told(bar: Any, say: Callable[[str], None], live: bool) -> Told:
    from sslwang.pretrain import Told

    class Shown(Told):
        row: Any = None
        epochs, said_at = 0, 0.0

        def began(self, run: PretrainRun, done: int, total: int, epochs: int) -> None:
            for other in bar.task_ids:  # the examination is over
                bar.remove_task(other)
            self.epochs, self.said_at, self.total = epochs, time.monotonic(), total
            bs, items = run.record["settings"]["bs"], run.record["settings"]["items"]
            begun = f", from batch {done}" if done else ""
            say(f"{run.path}: {epochs} epochs of {items:,} items, {total:,} batches of {bs}{begun}")
            self.row = bar.add_task("training", total=total, completed=done)

        def step(self, done: int, epoch: int, loss: float) -> None:
            if self.row is None:
                return
            text = f"epoch {epoch + 1} of {self.epochs}  loss {loss:.4f}"
            bar.update(self.row, completed=done, description=text)
            if not live and time.monotonic() - self.said_at > QUIET:
                self.said_at = time.monotonic()
                say(f"{text}, {done} of {self.total} batches")

        def epoch(self, row: dict[str, Any]) -> None:
            self.said_at = time.monotonic()
            numbers = ", ".join(f"{n.replace('_', ' ')} {_number(v)}" for n, v in row.items() if n not in _COUNTS)
            say(f"epoch {row['epoch'] + 1}: {numbers}")

        def say(self, line: str) -> None:
            say(line)

    return Shown()


_COUNTS = ("epoch", "steps")


def _number(value: float | None) -> str:
    return "none" if value is None or math.isnan(value) else f"{value:.4f}"
