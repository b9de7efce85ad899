"""Pictures of what tasks show their networks, and what is known of a task in words."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from diagnose.errors import DiagnoseError
from sslwang.data.pictures import rows_figure
from sslwang.pretext import Pretext

DPI, SMALL_DPI = 110, 64
COLOURS, SMALL_BYTES = (256, 128, 64, 32), 60_000  # small pictures are for pages: as many colours as fit
PROBED = 512  # rows on which solvers without vision are judged


def batch_figure(task: Pretext, seed: int = 0, rows: int = 6) -> Figure:
    """The first rows of a training batch, each image with its label."""
    loader = task.loaders(seed).train
    return rows_figure(loader.dataset.shown(loader.one_batch())[:rows])


def save(figure: Figure, path: Path, small: bool = False) -> None:
    """Write a figure as the kind of file its name says; `small` writes a PNG of few pixels and colours.

    Raises:
        DiagnoseError: the folder cannot be made or written, or the name says no kind of picture.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not small:
            figure.savefig(path, dpi=DPI)
            return
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=SMALL_DPI, format="png")
        with Image.open(drawn) as picture:
            for colours in COLOURS:
                picture.convert("RGB").quantize(colours).save(path, optimize=True)
                if path.stat().st_size < SMALL_BYTES:
                    break
    except (OSError, ValueError) as e:
        raise DiagnoseError(f"{path}: cannot be written ({e})") from e


def save_page(folder: Path, tasks: Iterable[tuple[str, Pretext]], seed: int = 0, rows: int = 3) -> list[Path]:
    """A picture of each (title, task) and README.md with all of them; what was written.

    Raises:
        DiagnoseError: something cannot be written.
    """
    lines, written = ["# The pretext tasks", "", "`sslwang show --all --out FOLDER` draws this page anew."], []
    for title, task in tasks:
        path = folder / f"{task.id}.png"
        save(batch_figure(task, seed, rows), path, small=True)
        written.append(path)
        constant = task.best_constant()
        loss = "" if constant is None else f", loss of the best constant {constant:.4f}"
        lines += ["", f"## {task.id}", "", title, "", f"{task.metric}: chance {task.chance:.3f}{loss}.", ""]
        lines += [f"![{task.id}]({path.name})"]
    page = folder / "README.md"
    try:
        page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as e:
        raise DiagnoseError(f"{page}: cannot be written ({e.strerror})") from e
    return [*written, page]


def facts(task: Pretext, seed: int = 0) -> list[tuple[str, str]]:
    """What is known of a task under its settings, as (name, words); oracle and solvers without vision are tried."""
    loader = task.loaders(seed).train
    batch = loader.one_batch()
    inputs, targets = batch[: loader.dataset.inputs], batch[loader.dataset.inputs :]
    names = task.titles() or [f"input {k + 1}" for k in range(len(inputs))]
    with torch.no_grad():
        model: nn.Module = task.learner(seed).model.eval()
        output = model(*inputs)
    constant, oracle, easier = task.best_constant(), task.oracle(seed=seed), task.easier()
    found = [
        *((name, _shape(x)) for name, x in zip(names, inputs)),
        *((f"target {k + 1}" if len(targets) > 1 else "target", _shape(x)) for k, x in enumerate(targets)),
        ("output", ", ".join(_shape(x) for x in (output if isinstance(output, tuple) else (output,)))),
        ("loss", f"{task.loss_kind}; others that fit: {', '.join(task.losses()[1:]) or 'none'}"),
        ("head", f"{task.head_kind}; others that fit: {', '.join(task.heads()[1:]) or 'none'}"),
        ("metric", f"{task.metric}, chance {task.chance:.4f}"),
        ("best constant", "no closed form" if constant is None else f"loss {constant:.4f}"),
        ("oracle", "none" if oracle is None else f"{task.metric} {oracle:.4f} without training, on the raw task"),
        ("shortcuts", task.SHORTCUTS),
        ("easier versions", ", ".join(easier) or "none"),
        *((f"baseline: {name}", f"{score:.2f}") for name, score in task.baselines(seed=seed).items()),
        ("learned in minutes", "yes" if task.GENERALISES else "not by a small encoder; it must overfit a batch"),
    ]
    probes = {hardened: _probed(task, hardened, seed) for hardened in (True, False)}
    for name, score in probes[True].items():
        found.append((f"solver: {name}", f"{score:.3f} hardened, {probes[False][name]:.3f} raw"))
    return found


def _probed(task: Pretext, hardened: bool, seed: int) -> dict[str, float]:
    if not task.probes():
        return {}
    made = task.under(hardened=hardened, items=PROBED, bs=PROBED)
    batch = made.loaders(seed).train.one_batch()
    return {name: probe(batch) for name, probe in made.probes().items()}


def _shape(x: torch.Tensor) -> str:
    return f"{' x '.join(map(str, x.shape))} {str(x.dtype).removeprefix('torch.')}"
