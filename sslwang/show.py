"""Pictures of what a task shows its network."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from diagnose.errors import DiagnoseError
from sslwang.data.pictures import rows_figure
from sslwang.pretext import Pretext


def batch_figure(task: Pretext, seed: int = 0, rows: int = 6) -> Figure:
    """The first rows of a training batch, each image with its label."""
    loader = task.loaders(seed).train
    return rows_figure(loader.dataset.shown(loader.one_batch())[:rows])


def save(figure: Figure, path: Path) -> None:
    """Write a figure as the kind of file its name says.

    Raises:
        DiagnoseError: the folder cannot be made or written, or the name says no kind of picture.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as e:
        raise DiagnoseError(f"{path}: cannot be written ({e})") from e
