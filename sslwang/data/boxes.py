"""Boxes cut out of images so that they fit nowhere by their edges, turned, marked and laid out with grey between them.

Cutting, turning and painting work on whole batches, on any device; what is random is drawn by `Cutter.jitter`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sslwang.data.pixels import composed, normalised

PLACES = {2: ("upper left", "upper right", "lower left", "lower right")}  # of a 2 x 2 grid, in raster order
CORNERS = 8  # of the cube of colours
LEAST_CELL = 4  # px: a smaller box shows nothing
FLAT = 0.03  # of [0, 1]: deviation below which a box is not blown up further
MARK = 3.0  # in standard deviations of a photograph, so that a mark is the strongest thing in its box


def place_names(g: int) -> tuple[str, ...]:
    """Words for the places of a g x g grid in raster order."""
    return PLACES.get(g) or tuple(f"row {i // g + 1}, column {i % g + 1}" for i in range(g * g))


@dataclass(frozen=True)
class Cutter:
    """How images are cut into boxes.

    A box is what is left of a cell of the grid after a margin of about a quarter of the cell, at a random offset, so
    that neighbours share no edge; its side is no multiple of 8, so that blocks of JPEG do not give its place away.
    Without hardening it is the whole cell.

    Args:
        size: side of the images in px.
        g: the images are split into g x g cells.
        hardened: see above; hardened boxes are also standardised one by one.

    Raises:
        ValueError: cells below 4 px.
    """

    size: int
    g: int
    hardened: bool = True

    def __post_init__(self) -> None:
        if self.cell < LEAST_CELL:
            raise ValueError(f"{self.g} x {self.g} boxes of an image of {self.size} px are below {LEAST_CELL} px")

    @property
    def cell(self) -> int:
        """Side of a cell in px."""
        return self.size // self.g

    @property
    def side(self) -> int:
        """Side of a box in px."""
        side = self.cell - max(1, self.cell // 4) if self.hardened else self.cell
        return side - 2 if self.hardened and side % 8 == 0 else side

    @property
    def margins(self) -> tuple[int, int]:
        """Grey px before and after a box in its cell."""
        before = (self.cell - self.side) // 2
        return before, self.cell - self.side - before

    def jitter(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Offsets (count, 2) of boxes in their cells, down and across."""
        return rng.integers(0, self.cell - self.side + 1, (count, 2))

    def cut(self, images: torch.Tensor, which: torch.Tensor, place: torch.Tensor, jitter: torch.Tensor) -> torch.Tensor:
        """Boxes (B, N, 3, side, side) of images (B, k, 3, S, S): image `which`, cell `place`, both (B, N)."""
        steps = torch.arange(self.side, device=images.device)
        y = (place // self.g * self.cell + jitter[..., 0])[..., None] + steps
        x = (place % self.g * self.cell + jitter[..., 1])[..., None] + steps
        rows = torch.arange(len(images), device=images.device)[:, None, None, None]
        found = images[rows, which[..., None, None], :, y[..., None], x[..., None, :]]
        return found.movedim(-1, -3)

    def finished(self, boxes: torch.Tensor) -> torch.Tensor:
        """Boxes each with mean 0 and deviation 1 in every channel, or in the raw task as bright as they were.

        Flat boxes stay flat, since a wall blown up would show the noise of its camera.
        """
        if not self.hardened:
            return normalised(boxes)
        centred = boxes - boxes.mean((-2, -1), keepdim=True)
        return centred / centred.square().mean((-2, -1), keepdim=True).sqrt().clamp_min(FLAT)

    def laid_out(self, boxes: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """Boxes (B, rows * columns, 3, side, side) in raster order on grey, (B, 3, rows * cell, columns * cell)."""
        before, after = self.margins
        return composed(torch.nn.functional.pad(boxes, (before, after, before, after)), rows, columns)

    def taken_up(self, picture: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """The boxes of `laid_out` again."""
        lead = picture.shape[:-2]
        cells = picture.reshape(*lead, rows, self.cell, columns, self.cell)
        before, _ = self.margins
        inner = cells[..., :, before : before + self.side, :, before : before + self.side]
        axes = len(lead)
        order = [*range(axes - 1), axes, axes + 2, axes - 1, axes + 1, axes + 3]
        return inner.permute(order).flatten(axes - 1, axes)


def turned(boxes: torch.Tensor, quarters: torch.Tensor) -> torch.Tensor:
    """Square boxes (..., 3, h, h), each turned counter-clockwise by `quarters` (...) times 90 degrees."""
    result = boxes
    for k in (1, 2, 3):
        result = torch.where((quarters % 4 == k)[..., None, None, None], boxes.rot90(k, (-2, -1)), result)
    return result


def palette(count: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Colours (count, 3) that are far apart: corners of the cube, then those of cubes half and a quarter as large."""
    codes = torch.arange(count, device=device)
    bits = torch.stack([codes >> 2 & 1, codes >> 1 & 1, codes & 1], 1)
    return MARK * (2.0 * bits - 1) / 2.0 ** (codes // CORNERS)[:, None]


def marked(boxes: torch.Tensor, codes: torch.Tensor, count: int, part: int = 0, parts: int = 1) -> torch.Tensor:
    """Boxes (..., 3, h, w) with a patch in the middle in the colour of their code (...) below `count`.

    With several parts the patch is one of as many vertical stripes.
    """
    height, width = boxes.shape[-2:]
    top, left = height // 4, width // 4
    wide = max(1, (width - 2 * left) // parts)
    result = boxes.clone()
    colour = palette(count, boxes.device)[codes][..., None, None]
    result[..., top : height - top, left + part * wide : left + (part + 1) * wide] = colour
    return result


def shaded(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes (..., 3, h, w) paled under a shade that grows from top to bottom: it tells how they are turned."""
    height = boxes.shape[-2]
    shade = torch.linspace(MARK, -MARK, height, device=boxes.device)[:, None]
    return 0.3 * boxes + shade
