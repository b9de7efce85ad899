"""The command `sslwang evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sslwang.commands._options import (
    BalancedOption,
    ChangedCodeOption,
    DrawsOption,
    FractionsOption,
    JobsOption,
    LabelledSizeOption,
    MethodsOption,
)


def evaluate(
    runs: Annotated[list[Path], typer.Option("--from", metavar="RUN", help="A run of `pretrain`; give several.")],
    data: Annotated[
        str, typer.Option(help="photos, imagewang, fashion-mnist, digits, faces, or a folder with train/ and val/.")
    ] = "photos",
    methods: MethodsOption = "knn,probe,finetune",
    fractions: FractionsOption = "0.01,0.1,1",
    seeds: Annotated[str, typer.Option(help="At least 3, or nothing is concluded.")] = "0,1,2",
    which: Annotated[str, typer.Option(help="Weights of a run: last or best.")] = "last",
    size: LabelledSizeOption = None,
    inputs: Annotated[
        str, typer.Option(help="standardised (each image by itself), normalised, or auto: as the pretext task did.")
    ] = "auto",
    steps: Annotated[int, typer.Option("--finetune-steps", min=1, help="Batches of every fine-tuning.")] = 200,
    unfreeze: Annotated[str, typer.Option(help="all, gradual or none.")] = "all",
    balanced: BalancedOption = False,
    draws: DrawsOption = 5,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="For a quick look leave out autoencoder and SimCLR.")
    ] = True,
    device: str = "auto",
    jobs: JobsOption = 1,
    changed_code: ChangedCodeOption = False,
    out: Annotated[
        Path, typer.Option(help="Folder that is written; what this code has put there is not computed again.")
    ] = Path("evaluated"),
) -> None:
    """Judge pretrained encoders with few labels, beside random weights, an autoencoder and SimCLR.

    Each baseline is pretrained with the same steps, batch size, data, size and architecture as the runs, once for each
    of their seeds. Interrupted, the same command goes on.

    \b
    sslwang evaluate --from pretrained/unmix --data photos
    sslwang evaluate --from RUN0 --from RUN1 --from RUN2 --data digits --fractions 0.1
    sslwang evaluate --from pretrained/unmix --methods knn --no-baselines    a quick look
    """
    from rich.console import Console

    from diagnose.errors import DiagnoseError
    from sslwang.commands._evaluation import one_of, plan_of, progress, resuming

    plan = plan_of(
        methods, fractions, seeds, size, inputs, steps, unfreeze, balanced, draws, device, jobs, changed_code
    )
    one_of("--which", which, ("last", "best"))
    from sslwang import evaluate as evaluation
    from sslwang.circumstances import circumstances, command
    from sslwang.evaluation.comparison import sentences
    from sslwang.evaluation.pages import tables
    from sslwang.runs import open_run, writable

    writable(out)
    opened = [open_run(path) for path in runs]
    told = circumstances(plan.device)  # of the code that is loaded, whatever is committed meanwhile
    try:
        with progress() as tell:
            found = evaluation.evaluate(opened, data, out, plan, which, baselines, tell)
            folder = evaluation.write_evaluation(found, out, [command()], told)
    except KeyboardInterrupt as e:
        resuming()
        raise typer.Exit(130) from e
    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in tables(found):
        console.print(table)
    for sentence in sentences(found):
        console.print(f"- {sentence}", highlight=False, markup=False)
    wrote = f"wrote {folder}/transfer.md, result.json, plots/ and predictions/index.html"
    console.print(wrote, highlight=False, markup=False)
    if found.missing:
        raise DiagnoseError(f"{len(found.missing)} not computed, first {found.missing[0]}")
