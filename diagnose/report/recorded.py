"""What gauges recorded, laid out for figures: curves, statistics of every layer, histograms over time, alarms.

    with opened(diagnosis) as store:              # of a diagnosis; `Store.read(folder)` for a run of its own
        found = recorded(store)
    found.curves["loss"].values                   # a number a recorded step
    found.grids["gradients"].values["l2"]         # [parameters, steps]
    found.histograms["weights"].heat(0)           # shares by value and step, on one axis of values

Every reader of a record goes through here, so that all reports show the same numbers under the same names. Long records
are thinned to evenly spaced recorded steps, the first and the last among them; `of` says how many there were.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from diagnose.alarms import Raised
from diagnose.diagnosis import Diagnosis
from diagnose.gauges import Call
from diagnose.stats import BINS
from diagnose.store import Store

CELLS = 60_000  # places times steps of one table that are kept at most, but never fewer than FEWEST steps
FEWEST, MOST = 24, 240  # steps
HISTOGRAMS = 48_000  # the same for histograms
FLATTEST, DEEPEST = 8, 60  # half octaves of each sign that a heat map shows
ZERO = BINS // 2 - 1  # the bin of exact zeros

_TEXTS = np.dtype(object)
KEYS = {"activations": ["layer", "kind", "call", "part"], "units": ["layer", "kind", "call"]}
UNITS = {"loss": "loss", "gradient_norm": "loss / weight", "gradient_norm_applied": "loss / weight"}


@dataclass(frozen=True)
class Quantity:
    """One statistic of a layer or parameter.

    Attributes:
        table, column: where the store keeps it. title: as a reader reads it. unit: empty for a plain number or ratio.
        means: what the number says, in a sentence.
        logarithmic: it is positive and spans orders of magnitude.
    """

    table: str
    column: str
    title: str
    unit: str
    means: str
    logarithmic: bool = False


OUTPUTS = (
    Quantity("activations", "mean", "mean", "", "mean of the outputs"),
    Quantity("activations", "std", "spread", "", "standard deviation of the outputs; it should neither grow nor vanish "
             "from layer to layer", True),
    Quantity("activations", "zeros", "zeros", "share", "outputs that are exactly zero"),
    Quantity("activations", "saturated", "saturated", "share", "outputs within 0.01 of the limits of sigmoid or tanh"),
    Quantity("units", "dead", "dead units", "share", "units that gave zero for every item of the last batches"),
    Quantity("activations", "nonfinite", "not finite", "share", "outputs that are NaN or infinite"),
)  # fmt: skip
PARAMETERS = (
    Quantity("weights", "std", "weight spread", "", "standard deviation of the weights", True),
    Quantity("weights", "l2", "weight norm", "", "L2 norm of the weights", True),
    Quantity("gradients", "l2", "gradient norm", "loss / weight", "L2 norm of the gradient, before clipping", True),
    Quantity("updates", "ratio", "update / weight", "", "size of one step against the weights; about 1e-3 is usual",
             True),
    Quantity("weights", "distance", "moved", "", "distance from the first recorded step, against the weights then",
             True),
    Quantity("gradients", "zeros", "zero gradient", "share", "elements whose gradient is exactly zero"),
    Quantity("gradients", "nonfinite", "not finite", "share", "elements whose gradient is NaN or infinite"),
)  # fmt: skip
COLUMNS = {
    table: [q.column for q in (*OUTPUTS, *PARAMETERS) if q.table == table]
    for table in dict.fromkeys(q.table for q in (*OUTPUTS, *PARAMETERS))
}
"""Columns of each table that reports show."""


@dataclass(frozen=True)
class Curve:
    """One number a recorded step, all of them. NaN also where a step has no number.

    Attributes:
        steps, values: [k].
    """

    steps: np.ndarray
    values: np.ndarray
    unit: str = ""


@dataclass(frozen=True)
class Grid:
    """Statistics of many places over a few recorded steps.

    Attributes:
        places: layers ("encoder.3 (ReLU)") or parameters ("encoder.3.weight"), in the order of the model.
        steps: [k] those kept. of: how many were recorded.
        present: [places, k] whether a row was recorded; where none was, values are NaN.
        values: [places, k] by column.
    """

    places: list[str]
    steps: np.ndarray
    of: int
    present: np.ndarray
    values: dict[str, np.ndarray]

    def ends(self, column: str) -> dict[str, tuple[float, float]]:
        """First and last recorded value of every place."""
        found = {}
        for i, place in enumerate(self.places):
            at = np.flatnonzero(self.present[i])
            if len(at):
                found[place] = (float(self.values[column][i, at[0]]), float(self.values[column][i, at[-1]]))
        return found


@dataclass(frozen=True)
class Heat:
    """A histogram over time on one axis of values.

    Attributes:
        edges: [bins + 1] ascending; the bin from 0 to 0 holds exact zeros, those beside it all that is smaller than the
            axis shows.
        shares: [bins, k] of all elements; NaN at a step without a row. nonfinite: [k] share of NaN and infinity.
        steps: [k]. top: the largest magnitude is below the end of this half octave: 2 ** (top // 2), once and a half
            that where it is odd.
    """

    edges: np.ndarray
    shares: np.ndarray
    nonfinite: np.ndarray
    steps: np.ndarray
    top: int


@dataclass(frozen=True)
class Histograms:
    """Histograms of many places over a few recorded steps.

    Attributes:
        places, steps, of, present: as in `Grid`.
        counts: [places, k, 64] as `diagnose.stats` gives them. tops: [places, k], see `stats.histogram_edges`.
    """

    places: list[str]
    steps: np.ndarray
    of: int
    present: np.ndarray
    counts: np.ndarray
    tops: np.ndarray

    def heat(self, place: int) -> Heat:
        """The histograms of one place, two bins an octave, on one axis from the largest magnitude of all steps down.

        The axis ends where less than a hundredth of what is not zero lies below. What lies more than 15 octaves below
        the largest of its own step counts as near zero: its histogram has no finer bins.
        """
        counts, tops = self.counts[place].astype(np.float64), self.tops[place]
        total = np.where(self.present[place] & counts.any(1), counts.sum(1), np.nan)
        known = np.flatnonzero(self.present[place] & (counts[:, :-1].sum(1) > counts[:, ZERO]))
        top = int(tops[known].max()) if len(known) else 0
        bins = min(ZERO - 1 + top - int(tops[known].min()), DEEPEST) if len(known) else FLATTEST
        # of each sign `bins` magnitudes, the largest first, and one for what is smaller
        negative, positive = np.zeros((len(counts), bins + 1)), np.zeros((len(counts), bins + 1))
        for k in known:
            to = np.minimum(np.arange(ZERO) + top - int(tops[k]), bins)
            to[-1] = bins
            np.add.at(negative[k], to, counts[k, :ZERO])
            np.add.at(positive[k], to, counts[k, ZERO + 1 : -1][::-1])
        kept = _kept((negative + positive).sum(0))
        for side in (negative, positive):
            side[:, kept] = side[:, kept:].sum(1)
        zero = counts[:, ZERO : ZERO + 1]
        shares = np.hstack([negative[:, : kept + 1], zero, positive[:, kept::-1]]) / total[:, None]
        halves = np.arange(top - kept + 1, top + 2)
        magnitude = np.where(halves % 2, 1.5, 1.0) * np.exp2(np.floor_divide(halves, 2).astype(float))
        edges = np.concatenate([-magnitude[::-1], [-0.0, 0.0], magnitude])
        return Heat(edges, shares.T, counts[:, -1] / total, self.steps, top)


def _kept(weight: np.ndarray) -> int:
    "How many magnitudes an axis shows: those above the last hundredth of all that is not zero."
    below = np.cumsum(weight) / max(weight.sum(), 1)
    return int(np.clip(np.searchsorted(below, 0.99) + 1, min(FLATTEST, len(weight) - 1), len(weight) - 1))


@dataclass(frozen=True)
class Recorded:
    """Everything that reports show of a record.

    Attributes:
        steps: recorded steps. first, last: their numbers.
        curves: by column of the table `steps`; only those that hold a number.
        grids: by table: activations, units, weights, gradients, updates. histograms: by table.
        alarms: in the order they were raised.
        notes: what could not be recorded, and why, by place.
        marks: (step, name) of what began with a step, such as the stages of a curriculum.
    """

    steps: int
    first: int
    last: int
    curves: dict[str, Curve]
    grids: dict[str, Grid]
    histograms: dict[str, Histograms]
    alarms: list[Raised] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    marks: list[tuple[int, str]] = field(default_factory=list)


@contextlib.contextmanager
def opened(diagnosis: Diagnosis, run: Path | None = None) -> Iterator[Store | None]:
    """The record of a diagnosis: of its run folder, or of the files that it still carries; None if there is none."""
    if not diagnosis.gauges:
        yield None
        return
    if run is not None and (run / diagnosis.gauges).is_dir():
        yield Store.read(run / diagnosis.gauges)
        return
    prefix = f"{diagnosis.gauges}/"
    files = {n.removeprefix(prefix): data for n, data in diagnosis.files.items() if n.startswith(prefix)}
    if not files:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="diagnose-") as folder:
        for name, data in files.items():
            path = Path(folder, name)
            if not path.resolve().is_relative_to(Path(folder).resolve()):
                continue  # `report.write` refuses such a diagnosis
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        yield Store.read(folder)


def recorded_of(diagnosis: Diagnosis, run: Path | None = None) -> Recorded | None:
    """The record of a diagnosis laid out; None if there is none, or it holds no step.

    Raises:
        DiagnoseError: a file of the record is damaged.
    """
    with opened(diagnosis, run) as store:
        return None if store is None else recorded(store)


def recorded(store: Store, most: int = MOST) -> Recorded | None:
    """Lay out a record; None if it holds no step. `most`: steps of the statistics and histograms that are kept.

    Raises:
        DiagnoseError: a file of the record is damaged.
    """
    tables = set(store.tables)
    curves = _curves(store) if "steps" in tables else {}
    grids, histograms = {}, {}
    for table in (t for t in COLUMNS if t in tables):
        grids[table] = _grid(store, table, COLUMNS[table], most)
    for table in (t for t in ("activations", "weights", "gradients") if t in tables):
        histograms[table] = _histograms(store, table, len(grids[table].places), most)
    _in_model_order(grids, histograms)
    steps = [c.steps for c in curves.values()] or [g.steps for g in grids.values()]
    if not steps:
        return None
    every = steps[0]
    return Recorded(
        len(every), int(every[0]), int(every[-1]), curves, grids, histograms, _alarms(store, tables),
        _notes(store, tables), _marks(store, tables),
    )  # fmt: skip


def evenly(count: int, most: int) -> np.ndarray:
    """Indices of at most `most` of `count` things, evenly spaced, the first and the last among them."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.round(np.linspace(0, count - 1, most)).astype(int))


def is_curve(name: str, values: Any) -> bool:
    """Whether a column of the table `steps` holds a number a step: no text, and not what only counts."""
    return name not in ("step", "fit", "epoch") and getattr(values, "dtype", _TEXTS).kind in "fiub"


def place_name(layer: str, kind: str, call: int, part: int = 0) -> str:
    """A layer as every report names it."""
    return Call(layer, kind, call, part).text


def _curves(store: Store) -> dict[str, Curve]:
    frame = store.frame("steps")
    steps = frame["step"].to_numpy()
    found = {}
    for name in frame.columns:
        if not is_curve(name, frame[name]):
            continue
        values = frame[name].to_numpy(np.float64, na_value=np.nan)
        if name == "loss" or not np.isnan(values).all():
            found[name] = Curve(steps, values, UNITS.get(name, "s" if name.startswith("seconds_") else ""))
    return found


def _grid(store: Store, table: str, columns: list[str], most: int) -> Grid:
    steps, of = _steps(store, table, most)
    keys = KEYS.get(table, ["parameter"])
    rows = _some(store, table, keys + columns, steps)
    places, at = _places(rows, keys)
    most = int(min(most, max(FEWEST, CELLS // max(len(places), 1))))
    steps = steps[evenly(len(steps), most)]
    step = rows["step"].to_numpy()
    kept = np.isin(step, steps)
    column = np.searchsorted(steps, step[kept])
    present = np.zeros((len(places), len(steps)), bool)
    present[at[kept], column] = True
    values = {}
    for name in columns:
        values[name] = np.full(present.shape, np.nan, np.float32)
        values[name][at[kept], column] = rows[name].to_numpy()[kept]
    return Grid(places, steps, of, present, values)


def _histograms(store: Store, table: str, places: int, most: int) -> Histograms:
    steps, of = _steps(store, table, int(min(most, max(FEWEST, HISTOGRAMS // max(places, 1)))))
    keys = KEYS.get(table, ["parameter"])
    rows = _some(store, table, [*keys, "histogram", "top"], steps)
    names, at = _places(rows, keys)
    column = np.searchsorted(steps, rows["step"].to_numpy())
    shape = (len(names), len(steps))
    present = np.zeros(shape, bool)
    counts, tops = np.zeros((*shape, BINS), np.uint16), np.zeros(shape, np.int32)
    cells = pa.concat_arrays(rows["histogram"].chunks)
    full = ~cells.is_null().to_numpy(zero_copy_only=False)
    flat = cells.flatten().to_numpy().reshape(-1, BINS)
    present[at[full], column[full]] = flat.any(1)
    counts[at[full], column[full]] = flat
    tops[at[full], column[full]] = rows["top"].to_numpy()[full]
    return Histograms(names, steps, of, present, counts, tops)


def _in_model_order(grids: dict[str, Grid], histograms: dict[str, Histograms]) -> None:
    "Updates come in the order in which they were reduced: all parameters stand in the order of the weights."
    known = next((grids[t].places for t in ("weights", "gradients") if t in grids), [])
    rank = {name: i for i, name in enumerate(known)}
    for parts in (grids, histograms):
        for table, part in parts.items():
            if table in KEYS:
                continue
            order = sorted(range(len(part.places)), key=lambda i: rank.get(part.places[i], len(rank)))
            kept: dict = {"places": [part.places[i] for i in order], "present": part.present[order]}
            if isinstance(part, Grid):
                kept["values"] = {name: v[order] for name, v in part.values.items()}
            else:
                kept |= {"counts": part.counts[order], "tops": part.tops[order]}
            parts[table] = replace(part, **kept)


def _steps(store: Store, table: str, most: int) -> tuple[np.ndarray, int]:
    "Which recorded steps are kept, and how many there were."
    steps = np.unique(store.arrow(table, ["step"])["step"].to_numpy())
    return steps[evenly(len(steps), most)], len(steps)


def _some(store: Store, table: str, columns: list[str], steps: np.ndarray) -> pa.Table:
    return store.arrow(table, ["step", *columns], steps.tolist()).combine_chunks()


def _places(rows: pa.Table, keys: list[str]) -> tuple[list[str], np.ndarray]:
    "Names of the places in order of first appearance, and of each row which one it is of."
    columns, words = [], {}
    for key in keys:
        column = pa.concat_arrays(rows[key].chunks)
        if pa.types.is_dictionary(column.type):
            words[key] = column.dictionary.to_pylist()
            columns.append((key, column.indices.fill_null(-1).to_numpy(zero_copy_only=False)))
        else:
            columns.append((key, column.to_numpy(zero_copy_only=False)))
    codes = np.stack([c.astype(np.int64) for _, c in columns], axis=1)
    found, first, at = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    names = []
    for row in found[order]:
        by_key = {k: words[k][v] if k in words and v >= 0 else int(v) for (k, _), v in zip(columns, row)}
        if "parameter" in by_key:
            names.append(str(by_key["parameter"]))
        else:
            names.append(place_name(str(by_key["layer"]), str(by_key["kind"]), by_key["call"], by_key.get("part", 0)))
    return names, rank[at.reshape(-1)]


def _notes(store: Store, tables: set[str]) -> dict[str, str]:
    rows = store.arrow("unrecorded").to_pylist() if "unrecorded" in tables else []
    return {r["where"] or "the model": r["reason"] or "" for r in rows}


def _marks(store: Store, tables: set[str]) -> list[tuple[int, str]]:
    rows = store.arrow("marks").to_pylist() if "marks" in tables else []
    return [(r["step"], r["name"] or "") for r in rows]


def _alarms(store: Store, tables: set[str]) -> list[Raised]:
    if "alarms" not in tables:
        return []
    rows = store.arrow("alarms").to_pylist()
    return [Raised(r["id"] or "", r["step"], r["message"] or "", r["where"] or "") for r in rows]
