"""Rows of a pretext task as pictures: each image with its caption, green for a right prediction and red for a wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from matplotlib.figure import Figure

COLOURS = {None: "black", True: "#00796b", False: "#c62828"}  # teal and red: apart also for the colour-blind
CLIPPED = 0.005  # of the values of a picture at either end, by which it is not judged
SIGNS = {None: "", True: "✓ ", False: "✗ "}


@dataclass(frozen=True)
class Shown:
    """One row as a person looks at it.

    Args:
        images: (3, H, W) each, any range.
        captions: one an image.
        right: one an image: whether the prediction was right, None where nothing was predicted.
        title: of the row.
        together: how bright the images are beside each other is to be seen: all are stretched alike.
    """

    images: list[torch.Tensor]
    captions: list[str]
    right: list[bool | None] = field(default_factory=list)
    title: str = ""
    together: bool = False


def viewable(image: torch.Tensor, among: Sequence[torch.Tensor] = ()) -> torch.Tensor:
    """An image (3, H, W) of any range, stretched to [0, 1], as (H, W, 3).

    The darkest and the brightest `CLIPPED` of the values are cut off, so that a single bright pixel does not leave all
    else in the dark. If nothing but them differs, they are shown as they are; what is not finite is left out.

    Args:
        image: the image.
        among: images whose range, all together, becomes [0, 1]; by default that of the image.
    """
    values = torch.cat([x.flatten().cpu() for x in among or [image]]).float()
    values = values[values.isfinite()].sort().values
    if not len(values):
        values = torch.zeros(1)
    cut = int(CLIPPED * len(values))
    low, high = values[cut], values[len(values) - 1 - cut]
    if high <= low:
        low, high = values[0], values[-1]
    stretched = (image.cpu() - low) / (high - low).clamp_min(1e-6)
    return stretched.nan_to_num(0.0, 1.0, 0.0).clamp(0, 1).permute(1, 2, 0)


def rows_figure(rows: Sequence[Shown], figure: Figure | None = None) -> Figure:
    """One line of pictures a row, on a figure of its own or on the one given (made to fit)."""
    across = max(len(row.images) for row in rows)
    wide = max(len(line) for row in rows for caption in row.captions for line in caption.split("\n"))
    size = ((1.5 if wide <= 20 else 0.075 * wide) * across, (1.75 + 0.2 * any(r.title for r in rows)) * len(rows))
    figure = Figure(layout="constrained") if figure is None else figure
    figure.set_size_inches(*size)
    axes = figure.subplots(len(rows), across, squeeze=False)
    for line, row in zip(axes, rows):
        for place in line:
            place.set_axis_off()
        right = [*row.right, *[None] * (len(row.images) - len(row.right))]
        for place, image, caption, verdict in zip(line, row.images, row.captions, right):
            among = [x.detach().float() for x in row.images] if row.together else ()
            place.imshow(viewable(image.detach().float(), among))
            place.set_title(SIGNS[verdict] + caption, fontsize=9, color=COLOURS[verdict])
        if row.title:
            line[0].text(0, -0.06, row.title, transform=line[0].transAxes, fontsize=9, va="top", color="#444444")
    return figure
