"""The command `sslwang`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from diagnose.errors import DiagnoseError
from diagnose.registry import entries
from sslwang.commands._options import SetOption, named, whole_numbers
from sslwang.commands.evaluate import evaluate
from sslwang.commands.loaders import loaders
from sslwang.commands.pretrain import pretrain
from sslwang.commands.study import study
from sslwang.commands.transfer import transfer

if TYPE_CHECKING:
    from diagnose.task import Task
    from sslwang.learn import Result

CATALOGUE = "sslwang.tasks"

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()


def make_task(name: str, pairs: list[str] | None) -> Task:
    """A task of the catalogue under `--set name=value` settings.

    Raises:
        DiagnoseError: unknown task or setting, or a value that does not fit.
    """
    known = [e.id for e in entries(CATALOGUE)]
    if name not in known:
        raise DiagnoseError(f"no task named {name}; known: {', '.join(known)}")
    settings = named(pairs)
    from sslwang.pretrain import task_of

    return task_of(name, settings)


@app.command()
def tasks(
    heads: Annotated[bool, typer.Option("--heads", help="Which heads go with which task.")] = False,
    losses: Annotated[bool, typer.Option("--losses", help="Which losses go with which task.")] = False,
    details: Annotated[str | None, typer.Option(metavar="TASK", help="All that is known of one task.")] = None,
    set_: SetOption = None,
) -> None:
    """List the pretext tasks, one a line."""
    if details is not None:
        _print_details(details, set_)
        return
    if heads or losses:
        if heads:
            _print_fits("heads")
        if losses:
            _print_fits("losses")
        return
    known = entries(CATALOGUE)
    wide = max(len(entry.id) for entry in known)
    seen = console.is_terminal  # what is piped on is whole, however long
    for entry in known:
        line = Text.assemble((entry.id.ljust(wide), "bold"), "  ", entry.title)
        console.print(line, no_wrap=True, overflow="ellipsis" if seen else "ignore", crop=seen)


def _print_details(name: str, pairs: list[str] | None) -> None:
    task = make_task(name, pairs)
    from sslwang.show import facts

    console.print(next(e.doc for e in entries(CATALOGUE) if e.id == name), highlight=False, markup=False)
    table = Table(show_header=False)
    for row in facts(task):
        table.add_row(*map(escape, row))
    console.print(table)


def _print_fits(kind: Literal["heads", "losses"]) -> None:
    from sslwang.fits import fit_rows, kind_rows

    table = Table("task", "under", "its own", f"other {kind} that fit", title=f"{kind} by task")
    for row in fit_rows(CATALOGUE, kind):
        table.add_row(*map(escape, row))
    console.print(table)
    what = Table(kind, "for", "what it is", title=f"all {kind}")
    for row in kind_rows(kind):
        what.add_row(*map(escape, row))
    console.print(what)


@app.command()
def show(
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="See `sslwang tasks`.")] = None,
    set_: SetOption = None,
    seed: int = 0,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows to draw: 6, or 3 with --all.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="A small picture of every task, and a page of them.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Picture to write, TASK.png if not given; a folder with --all.")
    ] = None,
) -> None:
    """Draw the first rows of a training batch with their targets."""
    if all_ == (task is not None):
        raise DiagnoseError("name one task, or --all without one")
    if task is None:
        made = [(entry.title, make_task(entry.id, set_)) for entry in entries(CATALOGUE)]
        from sslwang.show import save_page

        written = save_page(out or Path("tasks"), made, seed, rows or 3)
        console.print(f"wrote {len(written) - 1} pictures and {written[-1]}", highlight=False)
        return
    chosen = make_task(task, set_)
    from sslwang.show import batch_figure, save

    path = out or Path(f"{task}.png")
    save(batch_figure(chosen, seed, rows or 6), path)
    console.print(f"wrote {path}", highlight=False)


@app.command()
def learn(
    task: Annotated[str, typer.Option(metavar="TASK", help="See `sslwang tasks`.")],
    set_: SetOption = None,
    steps: Annotated[int, typer.Option(min=1, help="Batches to train on.")] = 600,
    seeds: Annotated[str, typer.Option(help="Comma-separated; one training each.")] = "0",
    device: str = "cpu",
    out: Annotated[Path | None, typer.Option(help="Markdown file that the results are appended to.")] = None,
) -> None:
    """Train a task under the one-cycle schedule and judge it on what it never saw."""
    chosen = make_task(task, set_)
    numbers = whole_numbers("--seeds", seeds)
    circumstances = _circumstances()  # of the code that is loaded, whatever is committed while it trains
    from sslwang.commands._progress import bars
    from sslwang.learn import train

    results = []
    with bars() as progress:
        for seed in numbers:
            bar = progress.add_task(f"seed {seed}", total=steps)

            def on_step(step: int, loss: float, bar=bar, seed=seed) -> None:
                progress.update(bar, completed=step, description=f"seed {seed}  loss {loss:.3f}")

            results.append(train(chosen, steps, seed, on_step, device))
    names, body = _rows(results)
    table = Table(*names)
    for row in body:
        table.add_row(*row)
    console.print(table)
    console.print(_constant(chosen), highlight=False)
    if out is not None:
        _append(out, chosen, names, body, circumstances)


def _rows(results: list[Result]) -> tuple[list[str], list[list[str]]]:
    metrics = list(next(iter(results[0].scores.values())))
    body = [
        [str(r.seed), split, *(f"{scores[m]:.4f}" for m in metrics), f"{r.seconds:.0f}"]
        for r in results
        for split, scores in r.scores.items()
    ]
    return ["seed", "held out", *(m.replace("_", " ") for m in metrics), "seconds"], body


def _constant(task: Task) -> str:
    return f"best constant: loss {task.best_constant():.4f}, {task.metric} {task.chance:.4f}"


def _append(path: Path, task: Task, names: list[str], body: list[list[str]], circumstances: str) -> None:
    from sslwang.circumstances import command
    from sslwang.telling import markdown_table

    lines = [
        f"    {command()}\n",
        *markdown_table(names, body),
        f"\n{_constant(task)}. {circumstances}\n",
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    except OSError as e:
        raise DiagnoseError(f"{path}: cannot be written ({e.strerror})") from e


def _circumstances() -> str:
    from sslwang.circumstances import circumstances

    about = circumstances("cpu")
    by = about.get("commit", about["code"])
    return f"{about['date']}, {by}, torch {about['versions']['torch']}, {about['machine']}"


app.command()(evaluate)
app.command()(loaders)
app.command()(pretrain)
app.command()(study)
app.command()(transfer)


def main() -> None:
    """Run the command; a `DiagnoseError` becomes one line on stderr and its exit code."""
    warnings.filterwarnings("ignore", ".torch.jit.script. is deprecated")  # of fastai's import, no news to the user
    try:
        app()
    except DiagnoseError as e:
        Console(stderr=True).print(f"sslwang: {e}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(e.exit_code)
