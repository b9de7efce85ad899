"""The command. Nothing here imports torch before a subject is built: `--help` and `list` answer at once."""

from __future__ import annotations

import importlib
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from diagnose.errors import DiagnoseError, SubjectError

app = typer.Typer(
    name="diagnose",
    help="Examines a fastai Learner before you spend GPU days on it: can it learn and, if not, why, with proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

EXIT_CODES = (
    "Exit codes: 0 pass or warn · 1 fail, or warn with --strict · 2 usage or input error · "
    "3 the subject's own code raised · 130 interrupted (the partial report is kept)."
)


class Format(StrEnum):
    """What `diagnose run` prints on standard output."""

    table = "table"
    json = "json"
    markdown = "markdown"
    junit = "junit"
    sarif = "sarif"


class Compared(StrEnum):
    """What `diagnose compare` prints on standard output."""

    table = "table"
    json = "json"
    markdown = "markdown"


class Results(StrEnum):
    """What `diagnose bench` prints on standard output."""

    table = "table"
    json = "json"


class Listing(StrEnum):
    """What `diagnose list` can show."""

    tasks = "tasks"
    checks = "checks"
    causes = "causes"
    gauges = "gauges"
    alarms = "alarms"
    faults = "faults"
    runs = "runs"


@app.command(
    epilog=f"Examples:  diagnose run --task unmix  ·  diagnose run --task unmix --set lr=30  ·  "
    f"diagnose run --learner train.py:build --budget 120s  ·  diagnose run --task unmix --format markdown > comment.md"
    f"  ·  {EXIT_CODES}"
)
def run(
    task: Annotated[str | None, typer.Option(help="A registered task: `diagnose list tasks`.")] = None,
    learner: Annotated[
        str | None,
        typer.Option(help="A function that returns a Learner: path/file.py:function or package.module:function."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the task, dotted names allowed."),
    ] = None,
    budget: Annotated[str, typer.Option(help="Time allowed for the examination: 60s, 5m, none.")] = "60s",
    weights: Annotated[
        Path | None, typer.Option(help="A checkpoint that it is meant to have loaded: are its tensors there?")
    ] = None,
    seed: Annotated[int, typer.Option(help="Starts every random stream; same seed, same report.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    out: Annotated[Path, typer.Option(help="Where run folders go.")] = Path("reports"),
    only: Annotated[str | None, typer.Option(metavar="ID,ID", help="Run only these checks.")] = None,
    skip: Annotated[str | None, typer.Option(metavar="ID,ID", help="Leave out these checks and causes.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Run the extra checks too; give them a budget.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 on a warning too.")] = False,
    format: Annotated[Format, typer.Option(help="What to print on standard output.")] = Format.table,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's event files into the run folder too.")
    ] = False,
    comet: Annotated[
        bool,
        typer.Option(
            "--comet", help="Log the run to Comet: online with an API key, else an archive in the run folder."
        ),
    ] = False,
) -> None:
    """Examine a task or a Learner of your own; writes a run folder, and says where.

    The folder holds report.html for people, report.json for programs, report.md for pull requests, junit.xml for CI
    servers and report.sarif for code scanning, whatever is printed.
    """
    if (task is None) == (learner is None):
        raise DiagnoseError("name one subject: --task NAME, or --learner path/file.py:function")
    if set_ and learner:
        raise DiagnoseError("--set belongs to --task; a Learner of your own is set up in its function")
    pairs, seconds = _pairs(set_ or []), _seconds(budget)
    writable_folder(out)
    with _display(format, seconds) as (console, progress, say):
        say("importing torch and fastai")
        trackers = _trackers(tensorboard=tensorboard, comet=comet)
        from diagnose import gate as gate_
        from diagnose import subject as subjects
        from diagnose.examination import examine
        from diagnose.report import write_run

        say("building the Learner")
        if task:
            subject = subjects.from_task(task, pairs, seed, device)
        else:
            subject = subjects.from_spec(learner, seed, device)
        if weights:
            subject.should_hold(weights)
        identity = subject.identity()  # of the code that is loaded, whatever is edited while it is examined
        progress.start()
        error = None
        try:
            diagnosis = examine(subject, seed, seconds, _ids(only), _ids(skip), all_, progress)
        except SubjectError as e:
            if not (e.diagnosis and any(c.status == "fail" for c in e.diagnosis.checks)):
                raise  # nothing explains it: the traceback says all there is
            error, diagnosis = e, e.diagnosis
        say("writing the report")
        signed = gate_.issue(diagnosis, identity, complete=not (only or skip or error))
        if signed is not None:
            diagnosis.files[gate_.PASS] = signed
        folder = write_run(diagnosis, out)
        told = [line for name, write in trackers.items() if (line := _told(name, write, folder, say))]
    if format is Format.table:
        from diagnose.report import terminal

        terminal.render(diagnosis, console, folder)
    else:
        _print(_rendered(diagnosis, format))
    for line in told:
        print(line, file=sys.stdout if format is Format.table else sys.stderr)
    if error:
        raise error
    raise typer.Exit(exit_code(diagnosis, strict))


def _trackers(**wanted: bool) -> dict[str, Callable[[Path], object]]:
    """What writes a finished run, by name of the tracker. Raises DiagnoseError if one is wanted and not installed."""
    found = {}
    for name in (n for n, asked in wanted.items() if asked):
        module = importlib.import_module(f"diagnose.report.{name}")
        module.installed()
        found[name] = module.write
    return found


def _told(name: str, write: Callable[[Path], object], folder: Path, say: Callable[[str], None]) -> str:
    """Where a tracker has the run. The verdict stands whatever becomes of it."""
    say(f"telling {name}")
    try:
        where = write(folder)
    except DiagnoseError as e:
        print(f"diagnose: {e}", file=sys.stderr)
        return ""
    return f"{name}: {where}" if where else ""


@app.command(
    epilog="Examples:  diagnose gate unmix --max-age 7d  ·  diagnose gate --learner train.py:build && python train.py"
    "  ·  diagnose gate reports/unmix/2026-11-24T09-30-00  ·  Exit codes: 0 the pass holds · 4 it does not · "
    "2 usage error · 3 the subject's own code raised"
)
def gate(
    what: Annotated[
        str | None, typer.Argument(metavar="RUN|TASK", help="A run (name, path), or a registered task.")
    ] = None,
    learner: Annotated[
        str | None, typer.Option(help="A function that returns a Learner: path/file.py:function.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the task.")
    ] = None,
    max_age: Annotated[str | None, typer.Option(help="Refuse an older pass: 7d, 12h, 30m.")] = None,
    allow_warnings: Annotated[bool, typer.Option("--allow-warnings", help="Accept a verdict of warn.")] = False,
    seed: Annotated[int, typer.Option(help="Of the examination.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    out: Annotated[Path, typer.Option(help="Where run folders are.")] = Path("reports"),
) -> None:
    """Ask whether a signed pass holds for the code, data and settings of now; for scripts and CI.

    `diagnose run` leaves a pass in the run folder if the verdict is pass. It is signed with DIAGNOSE_KEY, or with a key
    of yours that is made at first use.
    """
    if (what is None) == (learner is None):
        raise DiagnoseError("name one thing: a run, a task, or --learner path/file.py:function")
    from diagnose import gate as gate_
    from diagnose import subject as subjects
    from diagnose.diagnosis import folder_name
    from diagnose.registry import task_entries
    from diagnose.report import runs

    bound = None if max_age is None else gate_.age(max_age)
    pairs = _pairs(set_ or [])
    folders = None
    if learner:
        subject = subjects.from_spec(learner, seed, device)
    elif what in {e.id for e in task_entries()}:
        subject = subjects.from_task(what, pairs, seed, device)
    else:
        folders = [runs.find(out, what).path]
        subject = subjects.of_report(folders[0], device)
    folders = runs.finished(out / folder_name(subject.name)) if folders is None else folders
    if not folders:
        named = f"--learner {learner}" if learner else f"--task {what}"
        again = " ".join(["diagnose run", named, *(f"--set {p}" for p in set_ or [])])
        raise gate_.GateRefused(f"{subject.name} was not examined yet below {out}: run `{again}`")
    folder, held = gate_.find(folders, subject.identity(), bound, allow_warnings)
    said = f"{folder}: {held.verdict}, issued {held.date}; code, data and settings are as examined."
    print(said)


@app.command(
    "list",
    epilog="Examples:  diagnose list tasks  ·  diagnose list checks  ·  diagnose list runs  ·  "
    "diagnose list runs --out elsewhere",
)
def list_(
    what: Annotated[Listing, typer.Argument(help="What to list.")],
    out: Annotated[Path, typer.Option(help="Where run folders are.")] = Path("reports"),
) -> None:
    """List tasks, checks, causes, gauges, alarms, faults or past runs, a line each."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 160)
    if what is Listing.runs:
        from diagnose.report import runs, terminal

        found = runs.past(out)
        if not found:
            raise DiagnoseError(f"no runs in {out}: `diagnose run` makes one")
        terminal.history(found, console if sys.stdout.isatty() else Console(width=1000))
        return
    rows = [(e.id, e.title) for e in _entries(what)]
    if not rows:
        raise DiagnoseError(f"no {what.value}")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for id, title in rows:
        table.add_row(Text(id), Text(title))
    console.print(table)


@app.command(
    epilog="Examples:  diagnose explain lr-too-high  ·  diagnose explain overfit-one-batch  ·  diagnose explain unmix"
)
def explain(id: Annotated[str, typer.Argument(help="Id of a check, cause, gauge, alarm, fault or task.")]) -> None:
    """Tell what a check, cause, gauge, alarm, fault or task is, where its threshold comes from, and what to do."""
    import difflib

    from rich.console import Console
    from rich.markdown import Markdown

    known: dict[str, list] = {}  # a check and a gauge may have one name
    for what in Listing:
        for entry in _entries(what) if what is not Listing.runs else ():
            known.setdefault(entry.id, []).append((what, entry))
    if id not in known:
        near = difflib.get_close_matches(id, known, n=3)
        hint = (
            f"did you mean {', '.join(near)}?"
            if near
            else "`diagnose list checks` and `diagnose list causes` show them"
        )
        raise DiagnoseError(f"nothing is called {id}; {hint}")
    console = Console(width=min(Console().width, 110))
    for what, entry in known[id]:
        kind = f" ({what.value.removesuffix('s')})" if len(known[id]) > 1 else ""
        console.print(Markdown(f"# {id}{kind}\n\n{entry.doc}"))


@app.command(
    epilog="Examples:  diagnose view  ·  diagnose view unmix  ·  diagnose view unmix/2026-11-24T09-30-00  ·  "
    "diagnose view reports/unmix/2026-11-24T09-30-00/report.html  ·  diagnose view --serve --port 8080  ·  "
    "diagnose view --tensorboard  ·  diagnose view runs/monday --tensorboard"
)
def view(
    run: Annotated[
        str | None,
        typer.Argument(
            help="A run as `diagnose list runs` names it, the beginning of its name, its subject or its path; "
            "the newest that fits. The newest of all if left out."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where run folders are.")] = Path("reports"),
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve it on 127.0.0.1 until Ctrl-C, as is done where there is no display.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port to serve on, 0 for a free one.", min=0, max=65535)] = 0,
    idle: Annotated[str, typer.Option(help="Stop serving when nobody has looked for so long: 30m, 2h, none.")] = "30m",
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard",
            help="Open TensorBoard on the run instead, until Ctrl-C. The run may also be a folder of `Watch`.",
        ),
    ] = False,
) -> None:
    """Open the report of a run in the browser, or serve it on this machine where there is no display."""
    if tensorboard:
        _view_tensorboard(out, run, port, not serve and _has_display())
        return
    from diagnose import report
    from diagnose.report import runs
    from diagnose.report import serve as server

    patience = _seconds(idle, "--idle")
    folder = runs.find(out, run).path
    page = (folder / report.HTML).resolve()
    if not page.is_file():
        raise DiagnoseError(f"{folder}: no {report.HTML}")
    if not serve and _has_display():
        print(page)
        if typer.launch(page.as_uri()) == 0:
            return
        print("diagnose: no browser opened", file=sys.stderr)
    say = "Ctrl-C ends it" if patience is None else f"Ctrl-C ends it, or {idle} without a look"

    def ready(address: str) -> None:
        print(address, flush=True)
        print(f"diagnose: serving {folder}; {say}", file=sys.stderr, flush=True)

    try:
        server.serve(folder, ready, port, float("inf") if patience is None else patience)
    except KeyboardInterrupt:
        return  # the way it is meant to end


def _view_tensorboard(out: Path, run: str | None, port: int, browser: bool) -> None:
    """Write the event files of a run if there are none, and serve them until Ctrl-C."""
    from diagnose.report import JSON, runs
    from diagnose.report import tensorboard as board

    folder = Path(run) if run and Path(run).is_dir() and not (Path(run) / JSON).exists() else None
    if folder is None or not board.watched(folder):
        folder = runs.find(out, run).path
    address = board.serve(board.write(folder), port)
    print(address, flush=True)
    print(f"diagnose: TensorBoard shows {folder}; Ctrl-C ends it", file=sys.stderr, flush=True)
    if browser:
        typer.launch(address)
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def _has_display() -> bool:
    """Whether a browser can open a window here."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY"))


@app.command(
    epilog="Examples:  diagnose compare unmix/2026-11-23T18-00-00 unmix/2026-11-24T09-30-00  ·  "
    "diagnose compare main/reports/unmix branch/reports/unmix --format markdown  ·  "
    "Exit codes: 0 compared · 1 it got worse, with --strict · 2 usage or input error."
)
def compare(
    old: Annotated[str, typer.Argument(help="A run as for `diagnose view`.")],
    new: Annotated[str, typer.Argument(help="The run to compare it with.")],
    out: Annotated[Path, typer.Option(help="Where run folders are.")] = Path("reports"),
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit 1 if it got worse: a graver verdict, a newly proven cause, or a check judged graver."
        ),
    ] = False,
    format: Annotated[Compared, typer.Option(help="What to print on standard output.")] = Compared.table,
) -> None:
    """Tell what changed between two runs: settings, verdict, causes and the numbers that were measured."""
    from diagnose.report import compare as comparing
    from diagnose.report import runs

    found = comparing.compare(*(runs.load(runs.find(out, name)) for name in (old, new)))
    if format is Compared.json:
        _print(found.to_json())
    elif format is Compared.markdown:
        from diagnose.report import markdown

        _print(markdown.comparison(found))
    else:
        from rich.console import Console

        from diagnose.report import terminal

        terminal.comparison(found, Console(width=None if sys.stdout.isatty() else 160))
    raise typer.Exit(int(strict and found.worse))


@app.command(
    epilog="Examples:  diagnose bench --smoke --jobs 2  ·  diagnose bench --faults lr-too-high,healthy --subjects all"
    "  ·  diagnose bench --learner train.py:build  ·  Exit codes: 0 done · 1 --min-recall or --max-false was missed · "
    "2 usage or input error · 130 interrupted (what was done is kept, and goes on next time)."
)
def bench(
    faults: Annotated[
        str, typer.Option(metavar="all|ID,ID", help="Faults to put in; `healthy` is the subject as it is.")
    ] = "all",
    subjects: Annotated[
        str,
        typer.Option(
            metavar="all|NAME,NAME", help="Subjects of the catalogue; odd-but-right ones get faults only when named."
        ),
    ] = "all",
    catalogue: Annotated[
        Path | None, typer.Option(help="Folder of subjects, one a file; tests/bench/subjects if there is one.")
    ] = None,
    learner: Annotated[
        str | None,
        typer.Option(
            help="Your own subject in place of the catalogue: path/file.py:function. Says what is caught on it."
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="N,N", help="Seeds, each a run of its own.")] = "0,1",
    budget: Annotated[
        str, typer.Option(help="Time for each examination; twice as much ends it. 60s, 5m, none.")
    ] = "60s",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    jobs: Annotated[int | None, typer.Option(help="Examinations at a time; all cores if left out.", min=1)] = None,
    out: Annotated[Path, typer.Option(help="Folder for rows.jsonl and results.json.")] = Path("reports/bench"),
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Keep the rows that are there, or start anew.")
    ] = True,
    each: Annotated[
        int | None, typer.Option(min=1, help="Of each fault only so many pairs, spread over subjects and seeds.")
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A fixed small part, for CI.")] = False,
    min_recall: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit 1 if a smaller share of faulty pairs is detected.")
    ] = None,
    max_false: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit 1 if a larger share of healthy pairs is failed.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write the results as a Markdown page too.")] = None,
    format: Annotated[Results, typer.Option(help="What to print on standard output.")] = Results.table,
) -> None:
    """Put every fault into every healthy subject and say what is caught, what is named, and what is failed wrongly."""
    from diagnose import bench as benches

    known = [benches.HEALTHY, *(e.id for e in _entries(Listing.faults))]
    if smoke and (learner or faults != "all" or subjects != "all" or each):
        raise DiagnoseError("--smoke is a fixed part: leave out --faults, --subjects, --learner and --each")
    if learner and (catalogue or subjects != "all"):
        raise DiagnoseError("name the subjects by --learner, or by --catalogue and --subjects")
    if learner:
        cases = [benches.own_case(learner)]
    else:
        cases = benches.catalogue(catalogue or benches.CATALOGUE)
        names = benches.chosen(subjects, (c.name for c in cases), "--subjects")
        cases = [c for c in cases if c.name in names]
    seconds = _seconds(budget)
    wanted = benches.chosen(faults, known, "--faults")
    into_odd = subjects.strip() != "all"
    pairs = benches.pairs_of(cases, wanted, _seeds(seeds, smoke), smoke, into_odd)
    if not pairs:
        raise DiagnoseError("no pair is left of these options")
    writable_folder(out)
    if page:
        writable_folder(page.parent)
    rows = out / "rows.jsonl"
    if not resume:
        rows.unlink(missing_ok=True)
    runner = benches.Bench(rows, seconds, device, jobs or benches.cores(), each)
    interrupted = _run_bench(runner, pairs)
    done = runner.done(pairs)
    summary, about = benches.summarise(done), benches.about(benches.command_line(sys.argv[1:]), runner)
    (out / "results.json").write_text(benches.to_json(summary, about) + "\n", encoding="utf-8")
    if page and not interrupted:
        page.write_text(benches.page(summary, about), encoding="utf-8")
    if format is Results.json:
        print(benches.to_json(summary, about))
    else:
        _print_bench(benches.tables(summary, whole=bool(learner)), runner.state(pairs), out, learner, done)
    if interrupted:
        count, total = runner.state(pairs)
        print(f"diagnose: interrupted after {count} of {total}; the same command goes on", file=sys.stderr)
        raise typer.Exit(130)
    numbers = summary["parts"]["all"]
    recall, false = numbers["faulty pairs detected"], numbers["healthy failed"]
    missed = [
        *(
            [f"detected {recall}, wanted {min_recall:.1%}"]
            if min_recall is not None and not recall.share >= min_recall
            else []
        ),
        *(
            [f"failed wrongly {false}, allowed {max_false:.1%}"]
            if max_false is not None and not false.share <= max_false
            else []
        ),
    ]
    for line in missed:
        print(f"diagnose: {line}", file=sys.stderr)
    raise typer.Exit(int(bool(missed)))


def _seeds(text: str, smoke: bool) -> list[int]:
    try:
        seeds = [int(s) for s in text.split(",") if s.strip()]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise DiagnoseError(f"--seeds {text}: write whole numbers from 0 on, as 0,1,2")
    return seeds[:1] if smoke else list(dict.fromkeys(seeds))


def _run_bench(runner, pairs) -> bool:
    """Run with a bar on standard error; True if interrupted."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from diagnose.bench import Told

    console = Console(stderr=True)
    left = TimeRemainingColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), left)
    before, total = runner.state(pairs)

    class Display(Told):
        ended_at = time.monotonic()

        def began(self, pair):
            bar.update(task, description=pair.name[-48:])

        def ended(self, row):
            done, total = runner.state(pairs)
            bar.update(task, completed=done, total=total)
            if not console.is_terminal and (done == total or time.monotonic() - self.ended_at > 30):
                self.ended_at = time.monotonic()
                console.print(f"{done} of {total} done")

    with Progress(*columns, console=console, transient=True, speed_estimate_period=600) as bar:
        task = bar.add_task("starting", total=total, completed=before)
        try:
            runner.run(pairs, Display())
        except KeyboardInterrupt:
            return True
    return False


def _print_bench(tables, state: tuple[int, int], out: Path, learner: str | None, rows) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 160)
    if learner:
        _print_own(console, learner, rows)
    for table in tables:
        console.print(Text(table.title, style="bold"))
        if table.note:
            console.print(Text(table.note, style="dim"))
        shown = Table(pad_edge=False)
        for i, column in enumerate(table.columns):
            shown.add_column(Text(column), overflow="fold", ratio=None if i < len(table.columns) - 1 else 1)
        for row in table.rows:
            shown.add_row(*map(Text, row))
        console.print(shown)
        console.print()
    console.print(Text(f"{state[0]} of {state[1]} pairs; {out / 'results.json'}"))


def _print_own(console, learner: str, rows) -> None:
    """What a user wants to know first of their own subject."""
    from rich.text import Text

    sick = [r for r in rows if r.healthy and r.false_fail]
    faulty = [r for r in rows if r.counts and not r.healthy]
    caught = {r.fault for r in faulty} - {r.fault for r in faulty if not r.detected}
    if sick:
        reason = sick[0].summary or sick[0].reason
        console.print(Text(f"{learner} fails as it is, so that what follows says little: {reason}", style="bold red"))
    tried = len({r.fault for r in faulty})
    console.print(
        Text(f"On {learner} the gate would catch {len(caught)} of the {tried} faults that apply to it.", style="bold")
    )
    if missing := sorted({r.fault for r in faulty} - caught):
        console.print(Text(f"It would miss, under one seed at least: {', '.join(missing)}"))
    console.print()


# ---- runs on disk ------------------------------------------------------------------------------------------------


def writable_folder(out: Path) -> None:
    """Make sure that a folder can be written before any time is spent.

    Raises:
        DiagnoseError: it cannot.
    """
    existing = out
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise DiagnoseError(f"--out {out}: {existing} is a file, not a folder")
    probe = existing / f".diagnose-{os.getpid()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as e:
        raise DiagnoseError(f"--out {out}: cannot write there ({e.strerror}); choose another folder") from e


def _rendered(diagnosis, format: Format) -> str:
    """The report in a format other than a table."""
    from diagnose.report import junit, markdown, sarif

    writers = {Format.markdown: markdown.render, Format.junit: junit.render, Format.sarif: sarif.render}
    return diagnosis.to_json() if format is Format.json else writers[format](diagnosis)


def _print(text: str) -> None:
    """Print what programs read: UTF-8, whatever the terminal's encoding is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(f"{text.rstrip()}\n".encode())
    sys.stdout.flush()


def exit_code(diagnosis, strict: bool) -> int:
    """The exit code of a verdict."""
    if diagnosis.partial:
        return 130
    return int(diagnosis.verdict == "fail" or (strict and diagnosis.verdict == "warn"))


# ---- reading the command line --------------------------------------------------------------------------------------


def _entries(what: Listing):
    from diagnose import registry

    return registry.task_entries() if what is Listing.tasks else registry.entries(f"diagnose.{what.value}")


def _pairs(items: list[str]) -> dict[str, str]:
    pairs = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise DiagnoseError(f"--set {item}: write it as NAME=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs


def _ids(text: str | None) -> list[str]:
    return [id.strip() for id in (text or "").split(",") if id.strip()]


def _seconds(text: str, option: str = "--budget") -> float | None:
    if text.strip().lower() == "none":
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h)?\s*", text)
    if not match or not float(match[1]):
        raise DiagnoseError(f"{option} {text}: write it as 60s, 5m, 1h or none")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2] or "s"]


# ---- live display ----------------------------------------------------------------------------------------------------


@contextmanager
def _display(format: Format, budget: float | None):
    """A console, a Progress for the examination, and a function that says what is being done."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    from diagnose.report import terminal

    console = Console(stderr=format is not Format.table)
    # the dots of the usual one are no ASCII
    spinner = Spinner("line" if console.options.ascii_only else "dots")
    state = {"doing": "", "done": [], "start": time.monotonic(), "examining": False}

    def view():
        used = time.monotonic() - state["start"]
        clock = f"{used:.0f} of {budget:.0f} s" if state["examining"] and budget else f"{used:.0f} s"
        spinner.update(text=Text(f" {state['doing']}  ({clock})", style="bold"))
        shown = state["done"][-max(console.height - 2, 1) :]  # what is cut off would be the newest
        return Group(*(terminal.line(result, console) for result in shown), spinner)

    class Display:
        def start(self):
            state.update(start=time.monotonic(), examining=True)

        def doing(self, text):
            state["doing"] = text
            if not console.is_terminal:
                return
            live.update(view())

        def done(self, result):
            state["done"].append(result)
            self.doing(state["doing"])

    progress = Display()
    with Live(
        get_renderable=view, console=console, transient=True, refresh_per_second=8, redirect_stdout=False
    ) as live:
        yield console, progress, progress.doing


def main() -> None:
    """Entry point: errors become one clear line and the right exit code; the user's own errors keep their traceback."""
    # torch deprecates what fastai and torchvision still use at import: nothing the user can act on
    warnings.filterwarnings("ignore", message=".torch.jit.script. is deprecated", category=FutureWarning)
    try:
        code = app(standalone_mode=False)  # an Exit comes back as its code
    except SubjectError as e:
        _complain_of_subject(e)
        sys.exit(e.exit_code)
    except DiagnoseError as e:
        print(f"diagnose: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("diagnose: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as e:
        if hasattr(e, "show") and hasattr(e, "exit_code"):  # click's usage errors
            e.show()
            sys.exit(e.exit_code)
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _complain_of_subject(error: SubjectError) -> None:
    import traceback

    cause = error.original
    frames = traceback.extract_tb(cause.__traceback__)
    own = os.path.dirname(os.path.abspath(__file__))
    first = next((i for i, f in enumerate(frames) if not os.path.abspath(f.filename).startswith(own)), 0)
    print("Traceback (most recent call last):", file=sys.stderr)
    for line in traceback.format_list(frames[first:]) + traceback.format_exception_only(cause):
        print(line, end="", file=sys.stderr)
    print(f"diagnose: the subject's own code raised while {error.doing}: {type(cause).__name__}", file=sys.stderr)


if __name__ == "__main__":
    main()
