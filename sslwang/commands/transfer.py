"""`sslwang transfer`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from diagnose.errors import DiagnoseError
from sslwang.commands._options import whole_numbers


class Which(StrEnum):
    """Encoders that a run keeps."""

    last = "last"
    best = "best"


class Unfreeze(StrEnum):
    """How the encoder is trained."""

    gradual = "gradual"
    all = "all"
    none = "none"


class Protocol(StrEnum):
    """Leaderboards whose cells are known."""

    imagewang = "imagewang"


def transfer(
    from_: Annotated[Path, typer.Option("--from", metavar="RUN", help="A pretraining run, or a folder of runs.")],
    data: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Labelled images: photos, imagewang, fashion-mnist, digits, faces, or a folder with train/ and val/.",
        ),
    ] = "photos",
    which: Annotated[Which, typer.Option(help="The encoder after the last or the best epoch.")] = Which.last,
    size: Annotated[str | None, typer.Option(metavar="PX,PX", help="Sides of the images; the data's own.")] = None,
    epochs: Annotated[str | None, typer.Option(metavar="N,N", help="Passes over the labelled images. [5]")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N,N", help="One training for each. [0,1,2]")] = None,
    protocol: Annotated[
        Protocol | None,
        typer.Option(help="Sizes, epochs and seeds of a leaderboard; --size, --epochs, --seeds choose some of it."),
    ] = None,
    fraction: Annotated[float, typer.Option(help="Share of the labels of each class, above 0, at most 1.")] = 1.0,
    unfreeze: Annotated[
        Unfreeze, typer.Option(help="gradual: the head first, then part by part; none: the head alone.")
    ] = Unfreeze.gradual,
    balanced: Annotated[
        bool, typer.Option("--balanced/--as-is", help="Show every class equally often, or images as they are.")
    ] = True,
    bs: Annotated[int | None, typer.Option(min=2, help="Images a batch. [64]")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate of the head. [0.003]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    out: Annotated[Path, typer.Option(help="Where trainings and results go; finished ones are not done again.")] = Path(
        "transferred"
    ),
    examine: Annotated[
        bool, typer.Option("--examine", help="Examine the Learner first if no pass holds; go on if it passes.")
    ] = False,
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Ask no gate; the result says so.")] = False,
    reports: Annotated[Path, typer.Option(help="Where examined runs are.")] = Path("reports"),
    changed_code: Annotated[
        bool, typer.Option("--changed-code", help="Keep trainings of other code; the result says so.")
    ] = False,
) -> None:
    """Fine-tune the encoder of a run on labelled images, beside the same training from random weights.

    Prints a table with means, deviations and 95 % intervals over the seeds, and writes result.md and result.json.

    \b
    sslwang transfer --from pretrained/unmix --data photos --examine
    sslwang transfer --from pretrained/unmix --data imagewang --size 128 --epochs 5,20 --seeds 0,1,2
    sslwang transfer --from pretrained/unmix --data imagewang --protocol imagewang

    Exit codes: 0 done, 2 usage or input error, 3 the examined code raised, 4 the gate refuses, 130 interrupted.
    """
    if examine and no_gate:
        raise DiagnoseError("--examine and --no-gate exclude each other")
    asked = [
        tuple(whole_numbers(option, text, least)) if text else None
        for option, text, least in (("--size", size, 16), ("--epochs", epochs, 1), ("--seeds", seeds, 0))
    ]
    if not 0 < fraction <= 1:
        raise DiagnoseError(f"--fraction {fraction:g}: it must be above 0 and at most 1")
    if lr is not None and not lr > 0:
        raise DiagnoseError(f"--lr {lr:g}: it must be above 0")

    from rich.console import Console

    from diagnose.examination import Progress as Told
    from sslwang.circumstances import command
    from sslwang.commands._progress import bars
    from sslwang.transfer import PAGE, PROTOCOLS, Settings
    from sslwang.transfer import transfer as measure

    usual = (*PROTOCOLS[protocol], None) if protocol else ((), (5,), (0, 1, 2))
    sizes, counts, chosen = (own or other for own, other in zip(asked, usual))
    given = {k: v for k, v in {"bs": bs, "lr": lr}.items() if v is not None}
    settings = Settings(which.value, fraction, unfreeze.value, balanced, **given)
    err = Console(stderr=True)
    with bars(err, shares=True) as progress:
        bar = progress.add_task("reading the data", total=None)

        def on_step(text: str, done: float, total: float) -> None:
            progress.update(bar, description=text, completed=done, total=total)

        class Examining(Told):
            def doing(self, text: str) -> None:
                progress.update(bar, description=f"examining: {text}", total=None)

        try:
            result = measure(
                from_,
                data,
                out,
                sizes=sizes,
                epochs=counts,
                seeds=chosen,
                settings=settings,
                device=device,
                gate="skip" if no_gate else "examine" if examine else "verify",
                reports=reports,
                progress=Examining(),
                on_step=on_step,
                command=command(),
                changed_code=changed_code,
            )
        except KeyboardInterrupt:
            progress.stop()
            err.print("interrupted; finished trainings are kept, and the same command goes on", highlight=False)
            raise typer.Exit(130) from None
    _print(result)
    Console().print(
        f"{result.trained} trainings done, {result.kept} found finished; wrote {result.folder / PAGE}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _print(result) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from sslwang.transfer import columns, table

    head, body = table(result)
    names = columns(result)
    heads = [*head[: -len(names)], *names]
    title = escape(f"{result.run['task']} to {result.data['source']}, percent")
    shown = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name, cells in zip(heads, zip(*body)):
        words = " ".join([name, *cells]).split()
        shown.add_column(escape(name), min_width=max(map(len, words)))
    for i, row in enumerate(body):
        shown.add_row(*map(escape, row), end_section=i + 1 < len(body) and body[i + 1][:2] != row[:2])
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(shown)
    if "accuracy masked" in names:
        console.print(f"masked: {names['accuracy masked']}", style="dim", highlight=False, markup=False)
    for note in result.notes:
        console.print(f"· {note}", highlight=False, markup=False)
