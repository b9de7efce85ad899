"""The command `sslwang loaders`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diagnose.errors import DiagnoseError
from sslwang.commands._options import SetOption, named, whole_numbers

if TYPE_CHECKING:
    from rich.table import Table

    from sslwang.loader_trials import Measured

MIB = 2**20
LEGEND = (
    "first: seconds to the first batch; load: a batch where nothing trains; step and wait: a training step, and the "
    "wait for its batch; images/s: of training; MiB: most that the process and its workers held"
)


def loaders(
    task: Annotated[str, typer.Option(metavar="TASK", help="See `sslwang tasks`.")] = "unmix",
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Where its images come from, if not from photos.")
    ] = None,
    set_: SetOption = None,
    workers: Annotated[str, typer.Option(metavar="N,N", help="Numbers of worker processes to try.")] = "0,2,4",
    bs: Annotated[str | None, typer.Option(metavar="N,N", help="Batch sizes to try; the task's own.")] = None,
    pin: Annotated[
        bool | None, typer.Option("--pin/--no-pin", help="Pinned memory or not; both where there is a GPU.")
    ] = None,
    batches: Annotated[int, typer.Option(min=2, help="Batches that are timed in each round.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is tried, in turns.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    patience: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds without a batch after which workers hang; 20 times the slowest so far."),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what is best, for `sslwang pretrain --settings FILE`.")
    ] = None,
) -> None:
    """Time loading and training under several numbers of workers, batch sizes and pinning, and say what to take.

    Every combination runs in a process of its own: one that hangs is killed and reported.

    \b
    sslwang loaders --task unmix
    sslwang loaders --task unmix --data imagewang --set size=128 --workers 0,2,4,8 --bs 64,256
    sslwang loaders --task vicreg --data ~/photos --write loading.toml
    """
    from diagnose.subject import pick_device
    from sslwang.loader_trials import Trial, advice, measure, settings_text
    from sslwang.pretrain import task_of

    settings = named(set_) | ({"data.source": data} if data is not None else {})
    chosen = task_of(task, settings)
    where = pick_device(device)
    if pin and where.type != "cuda":
        raise DiagnoseError(f"--pin: pinned memory is for copies to a GPU, and {where} is none")
    pins = (pin,) if pin is not None else (False, True) if where.type == "cuda" else (False,)
    own = chosen.settings.bs
    trials = [
        Trial(w, b, p)
        for b in whole_numbers("--bs", bs or str(own), 1)
        for w in whole_numbers("--workers", workers, 0)
        for p in pins
    ]
    if write is not None and (write.is_dir() or not os.access(write.resolve().parent, os.W_OK)):
        raise DiagnoseError(f"{write}: cannot be written; name a file in a folder that is there")
    from rich.console import Console

    from sslwang.commands._progress import bars

    with bars() as progress:
        bar = progress.add_task("", total=rounds * len(trials))

        def tell(what: str, done: int, total: int) -> None:
            progress.update(bar, completed=done, description=what)

        found = measure(chosen, trials, rounds, batches, 0, str(where), patience, tell)
    console = Console()
    console.print(
        table(found, f"{task} on {chosen.settings.data.source}, {where}, {rounds} rounds of {batches} batches")
    )
    console.print(LEGEND, style="dim")
    best = advice(found, own, str(where))
    console.print(f"Take [bold]{best.trial}[/].", highlight=False)
    for reason in best.reasons:
        console.print(f"- {reason}", highlight=False, markup=False)
    if write is not None:
        try:
            write.write_text(settings_text(best.trial, [f"sslwang loaders --task {task}", *best.reasons]))
        except OSError as e:
            raise DiagnoseError(f"{write}: cannot be written ({e.strerror})") from e
        console.print(
            f"wrote {write}; sslwang pretrain --task {task} --settings {write}", highlight=False, markup=False
        )


def table(found: list[Measured], title: str) -> Table:
    """One line for each combination: medians over the rounds, and half of the range where there is a ±."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    pinned, gpu = any(m.trial.pin for m in found), any(s.gpu for m in found for s in m.samples)
    made = Table("workers", "bs", *["pin"] * pinned, title=escape(title), box=box.SIMPLE_HEAD)
    for name in ("first s", "load s", "step s", "wait s", "images/s", "MiB", *["GPU MiB"] * gpu):
        made.add_column(name, justify="right")
    for m in found:
        start = [str(m.trial.workers), str(m.trial.bs), *["yes" if m.trial.pin else "no"] * pinned]
        if m.failed:
            made.add_row(*start, "failed", style="red")
            continue
        loads, (least, most) = m.range("load"), m.range("train")
        numbers = [
            f"{m.middle('first'):.2f}",
            f"{m.middle('load'):.3f} ±{(loads[1] - loads[0]) / 2:.3f}",
            f"{m.middle('step'):.3f}",
            f"{m.middle('wait'):.3f}",
            f"{m.speed:.0f} ±{m.trial.bs * (1 / least - 1 / most) / 2:.0f}",
            f"{m.range('memory')[1] / MIB:.0f}",
            *[f"{m.range('gpu')[1] / MIB:.0f}"] * gpu,
        ]
        made.add_row(*start, *numbers)
    return made
