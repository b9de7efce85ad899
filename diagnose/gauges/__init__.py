"""Gauges: quantities recorded while a model trains, one a file. `Watch` carries them through a run.

A gauge names the table of the store that it fills. Those of `steps` give one number a step and share its rows; those
that read a source (activations, parameters) give one row a layer or parameter and step. Sources are sampled once for
all gauges, and reduced for several steps at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from diagnose.stats import BINS, Summary

Columns = Mapping[str, Any]  # by name: an array or a list with one entry a row, or [rows, 64] for histograms


class Call(NamedTuple):
    """One output of one call of a module in a step: the shared encoder of a siamese net has several."""

    layer: str
    kind: str
    call: int
    part: int

    @property
    def text(self) -> str:
        """As people read it: "encoder.3 (ReLU)", with the call and the part where there are several."""
        name = f"{self.layer or 'the model'} ({self.kind})"
        return name + (f", call {self.call}" if self.call else "") + (f", output {self.part}" if self.part else "")


@dataclass
class Moment:
    """One training step while it happens.

    Attributes:
        step: steps seen by this Watch before, over all fits.
        fit, epoch: which fit, and which epoch of it.
        due: ids of the gauges that record this step.
        marks: `time.perf_counter()` at "waiting" (end of the step before), "start", "pred", "loss", "backward", "step",
            "end"; `device_marks` CUDA events at the same places.
        outcome: "" for a step that was made; "cancelled" (an overflow, a callback), "accumulating" (no step was due).
        loss: a number where it can be read at once, else detached, on its device; None if there was none.
        pred, targets: what the model gave and what the loss compared it with, until the end of the step.
        calls: outputs of this step's calls, until the end of the forward pass, for gauges that read whole tensors.
        kept: what gauges keep of the step until the block is reduced, by gauge id.
    """

    step: int
    fit: int = 0
    epoch: int = 0
    due: frozenset[str] = frozenset()
    marks: dict[str, float] = field(default_factory=dict)
    device_marks: dict[str, Any] = field(default_factory=dict)
    outcome: str = ""
    loss: Tensor | float | None = None
    pred: Any = None
    targets: tuple = ()
    calls: list[tuple[Call, Tensor]] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)


class Rows:
    """Statistics of many tensors over the moments of a block, one row a tensor and moment, in the order of time.

    Args:
        places: [rows] index of the moment, ascending. names: [rows]. packed: [rows, fields] as `stats.summarise` gives
            it.
    """

    def __init__(self, moments: list[Moment], places: np.ndarray, names: list, packed: np.ndarray):
        self.place, self.names, self.summary = places, names, Summary(packed)
        self.step = np.array([m.step for m in moments], dtype=np.int64)[self.place]

    def __len__(self) -> int:
        return len(self.names)

    def column(self, values: Mapping[tuple[int, Any], float]) -> np.ndarray:
        """[rows] values by (place, name); NaN where there is none."""
        if not values:
            return np.full(len(self), np.nan)
        return np.array([values.get(key, np.nan) for key in zip(self.place.tolist(), self.names)], dtype=float)


@dataclass
class Activations:
    """Outputs of all modules in a block; `rows.names` are Calls.

    Attributes:
        sizes: elements of every call's output, at the last step.
        saturated: [rows] share of values at the limits of a bounded activation, NaN for others.
    """

    rows: Rows
    sizes: dict[Call, int]
    saturated: np.ndarray


@dataclass
class Parameters:
    """Parameters in a block, by name; each is computed when a gauge asks for it.

    Attributes:
        sizes: elements of every parameter. trainable: whether it requires a gradient.
        weights: before the step. gradients: unscaled, before clipping. applied: as the optimizer used them, if a
            callback stands between; else None.
        change: ‖Δw‖/‖w‖ for each row of `weights`, infinite if a zero weight moved. made: whether a step was made.
        distance: ‖w − w₀‖/‖w₀‖ from the first recorded step, for each row of `weights`.
        cosine: of the gradient with that of the step before, for each row of `gradients`; NaN where there is none.
        missing: (place, name) of trainable parameters without a gradient.
        sparse: {(place, name): elements that a sparse gradient holds}; all others are zero.
        norms, peaks: {(place, name): exact L2 of the gradient, exact largest magnitude of the weight} where taken.
    """

    sizes: dict[str, int]
    trainable: dict[str, bool]
    weights: Rows | None = None
    gradients: Rows | None = None
    applied: Rows | None = None
    change: np.ndarray = field(default_factory=lambda: np.zeros(0))
    made: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    distance: np.ndarray = field(default_factory=lambda: np.zeros(0))
    cosine: np.ndarray = field(default_factory=lambda: np.zeros(0))
    missing: list[tuple[int, str]] = field(default_factory=list)
    sparse: dict[tuple[int, str], int] = field(default_factory=dict)
    norms: dict[tuple[int, str], float] = field(default_factory=dict)
    peaks: dict[tuple[int, str], float] = field(default_factory=dict)

    def held(self, rows: Rows) -> np.ndarray:
        """[rows] elements that a gradient holds: all of its parameter's, or those that a sparse one does."""
        sizes = self.sizes
        if not self.sparse:
            return np.array([sizes[n] for n in rows.names], dtype=np.int64)
        keys = zip(rows.place.tolist(), rows.names)
        return np.array([self.sparse.get(k, sizes[k[1]]) for k in keys], dtype=np.int64)


@dataclass
class Block:
    """A few recorded steps, reduced together."""

    moments: list[Moment]
    activations: Activations | None = None
    parameters: Parameters | None = None

    def steps(self) -> np.ndarray:
        """[k] steps of its moments."""
        return np.array([m.step for m in self.moments], dtype=np.int64)

    def kept(self, id: str) -> list[tuple[int, Any]]:
        """(place, what a gauge kept) of the moments where it kept something."""
        return [(k, m.kept[id]) for k, m in enumerate(self.moments) if id in m.kept]

    def column(self, values: Mapping[int, float] | list[tuple[int, float]]) -> np.ndarray:
        """[k] values by place, NaN elsewhere."""
        result = np.full(len(self.moments), np.nan)
        for place, value in dict(values).items():
            result[place] = value
        return result


class Gauge:
    """One recorded quantity.

    Attributes:
        table: where its rows go. Gauges of "steps" give one value a moment and share its rows.
        reads: what it is made of: samples of "activations", "weights", "gradients", "applied", "updates"; or "calls",
            the whole outputs, which `after_pred` finds in `moment.calls`.
        every: records only every so many of the recorded steps.

    A subclass may have methods for events, called with (moment, learn) on steps that record it: `after_pred` (with
    `moment.calls`), `after_loss`, `before_step`, `after_step`, `after_batch`. They never wait for the device: what they
    find goes to `moment.kept[self.id]` as small tensors.
    """

    id: ClassVar[str]
    doc: ClassVar[str]
    table: ClassVar[str] = "steps"
    reads: ClassVar[tuple[str, ...]] = ()
    every: int = 1

    def start(self, learn: Any) -> None:
        """A fit begins."""

    def rows(self, block: Block) -> Columns | None:
        """Columns for its table; None if the block holds nothing for it."""
        raise NotImplementedError


def own_name(model: nn.Module, name: str) -> str:
    """The name of a module or parameter of the model itself, without the prefix of a distributed wrapper."""
    return name.removeprefix("module.") if isinstance(model, nn.parallel.DistributedDataParallel) else name


def to_host(tensors: list[Tensor]) -> list[np.ndarray]:
    """Small tensors moved to the host together: one transfer a device, whatever their number."""
    flat: dict[torch.device, list[int]] = {}
    for i, t in enumerate(tensors):
        flat.setdefault(t.device, []).append(i)
    result: list[Any] = [None] * len(tensors)
    for places in flat.values():
        flat_ones = [tensors[i].detach().reshape(-1) for i in places]
        joined = torch.cat([t if t.is_floating_point() else t.double() for t in flat_ones]).double().cpu().numpy()
        at = 0
        for i in places:
            n = tensors[i].numel()
            result[i] = joined[at : at + n].reshape(tensors[i].shape)
            at += n
    return result


def histogram_columns(summary: Summary) -> dict[str, np.ndarray]:
    """A summary's histogram as the store keeps it: [rows, 64] uint16, scaled down where it would not fit, and `top`."""
    counts, total = summary.histogram, summary.count[:, None]
    limit = np.iinfo(np.uint16).max
    scaled = np.where(total > limit, np.ceil(counts * (limit - BINS) / np.maximum(total, 1)), counts)
    return {"histogram": scaled.astype(np.uint16), "top": summary.top.astype(np.int16)}
