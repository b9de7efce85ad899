"""Pictures of what a task shows its network."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure

from diagnose.errors import DiagnoseError
from diagnose.task import Task


def viewable(image: torch.Tensor) -> torch.Tensor:
    """An image (3, H, W) of any range, stretched to [0, 1], as (H, W, 3)."""
    low, high = image.min(), image.max()
    return ((image - low) / (high - low).clamp_min(1e-6)).permute(1, 2, 0)


def batch_figure(task: Task, seed: int = 0, rows: int = 6) -> Figure:
    """The first rows of a training batch: the image to compare with, then each source with its target above it."""
    first, *others, target = task.loaders(seed).train.one_batch()
    rows = min(rows, len(target))
    figure = Figure(figsize=(1.5 * (1 + len(others)), 1.7 * rows), layout="constrained")
    axes = figure.subplots(rows, 1 + len(others), squeeze=False)
    for r in range(rows):
        for c, image in enumerate([first, *others]):
            axes[r, c].imshow(viewable(image[r]))
            axes[r, c].set_axis_off()
            axes[r, c].set_title("mixture" if c == 0 else f"{target[r, c - 1]:.2f}", fontsize=9)
    return figure


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
