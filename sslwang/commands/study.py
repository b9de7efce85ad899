"""The command `sslwang study`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslwang.commands import _options as options
from sslwang.commands._options import (
    BalancedOption,
    ChangedCodeOption,
    DrawsOption,
    FractionsOption,
    JobsOption,
    LabelledSizeOption,
    MethodsOption,
)

if TYPE_CHECKING:
    from sslwang.pretext import Pretext


def study(
    tasks: Annotated[
        str, typer.Option(help="Names with commas between them, each with its settings: unmix,unmix:target=regression.")
    ],
    data: Annotated[
        str, typer.Option(help="Images of the pretraining: photos, imagewang, fashion-mnist or a folder.")
    ] = "photos",
    steps: Annotated[int, typer.Option(min=1, help="Batches of every pretraining.")] = 600,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of all tasks and baselines.")
    ] = None,
    to: Annotated[
        str, typer.Option(help="Labelled sources that are transferred to; the data themselves if not given.")
    ] = "",
    methods: MethodsOption = "knn,probe,finetune",
    fractions: FractionsOption = "0.01,0.1,1",
    seeds: Annotated[str, typer.Option(help="Of pretraining and evaluation; at least 3.")] = "0,1,2",
    size: LabelledSizeOption = None,
    inputs: Annotated[str, typer.Option(help="standardised, normalised, or auto: as the tasks did.")] = "auto",
    finetune_steps: Annotated[int, typer.Option(min=1, help="Batches of every fine-tuning.")] = 200,
    unfreeze: Annotated[str, typer.Option(help="all, gradual or none.")] = "all",
    balanced: BalancedOption = False,
    draws: DrawsOption = 5,
    gate: Annotated[
        str, typer.Option(help="verify: a pass of every task is asked for; examine: made if missing; skip: noted.")
    ] = "skip",
    device: str = "auto",
    jobs: JobsOption = 1,
    changed_code: ChangedCodeOption = False,
    out: Annotated[
        Path, typer.Option(help="Folder of runs and cells; what this code has put there is not computed again.")
    ] = Path("evaluated"),
    report: Annotated[Path | None, typer.Option(help="Page to write; reports/transfer-DATA.md if not given.")] = None,
) -> None:
    """Pretrain several tasks and both baselines under every seed, evaluate them all, and write one results page.

    Interrupted, the same command goes on.

    \b
    sslwang study --data photos --tasks unmix,unmix:target=regression,scale --steps 600
    sslwang study --data photos --to photos,digits,faces --tasks unmix --seeds 0,1,2,3,4 --jobs 2
    sslwang study --data fashion-mnist --tasks unmix --set size=32 --fractions 0.001,0.01
    """
    from rich.console import Console

    from diagnose.errors import DiagnoseError
    from sslwang.commands._evaluation import listed, one_of, plan_of, progress, resuming

    plan = plan_of(
        methods, fractions, seeds, size, inputs, finetune_steps, unfreeze, balanced, draws, device, jobs, changed_code
    )
    one_of("--gate", gate, ("skip", "verify", "examine"))
    from sslwang import evaluate as evaluation
    from sslwang.circumstances import circumstances, command
    from sslwang.evaluation.comparison import sentences
    from sslwang.evaluation.pages import tables
    from sslwang.runs import writable

    chosen = made(listed("--tasks", tasks), data, set_ or [])
    page = report or Path("reports") / f"transfer-{evaluation.data_name(data)}.md"
    writable(out)
    told = circumstances(plan.device)
    targets = listed("--to", to) if to else ()
    try:
        with progress() as tell:
            found = evaluation.study(data, chosen, steps, out, plan, targets, gate, tell)
            for one in found:
                evaluation.write_evaluation(one, out, [command()], told)
            evaluation.write_study(found, data, page, [command()], told)
    except KeyboardInterrupt as e:
        resuming()
        raise typer.Exit(130) from e
    console = Console(width=None if sys.stdout.isatty() else 160)
    for one in found:
        for table in tables(one):
            console.print(table)
        for sentence in sentences(one):
            console.print(f"- {sentence}", highlight=False, markup=False)
    console.print(f"wrote {page}", highlight=False, markup=False)
    missing = [line for one in found for line in one.missing]
    if missing:
        raise DiagnoseError(f"{len(missing)} not computed, first {missing[0]}")


def made(names: tuple[str, ...], data: str, pairs: list[str]) -> list[Pretext]:
    """Tasks from `name:setting=value:setting=value`, under settings that all of them have.

    Raises:
        DiagnoseError: an unknown task or setting, a value that does not fit, one task twice, or tasks whose shared
            settings differ.
    """
    from diagnose.errors import DiagnoseError
    from diagnose.task import flat_settings
    from sslwang.evaluation.starts import named, shared
    from sslwang.pretrain import task_of

    tasks: dict[str, Any] = {}
    common = {"data.source": data, **options.named(pairs)}
    for text in names:
        name, *own = text.split(":")
        task = task_of(name, {**common, **options.named(own, "--tasks")})
        if named(task) in tasks:
            raise DiagnoseError(f"--tasks: {named(task)} is given twice")
        tasks[named(task)] = task
    budgets = {name: shared(flat_settings(task.settings)) for name, task in tasks.items()}
    first = next(iter(budgets.values()))
    for name, budget in budgets.items():
        differing = [n for n in budget if budget[n] != first[n]]
        if differing:
            raise DiagnoseError(f"--tasks {name}: its {differing[0]} differs from the others'; set it for all by --set")
    return list(tasks.values())
