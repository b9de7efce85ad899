"""What was recorded while a model trained, as the page shows it: tables of layers and parameters, figures, data.

The page's figures are drawn twice: here, as pictures that need no script, and by the script, from the data of `packed`,
with a readout, zoom, and layers to choose.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from diagnose.alarms import Raised
from diagnose.report import charts, words
from diagnose.report.curves import DRAWN, thinned
from diagnose.report.recorded import OUTPUTS, PARAMETERS, Grid, Heat, Histograms, Quantity, Recorded, evenly

ROWS = 1_000  # of a table that are shown at most
LEVELS = 8  # shades of a column
PACKED = 2_600_000  # characters of the data for the script, at most
FEWEST = 8  # steps that a figure keeps, however many layers there are
LINES = 6  # layers that a figure shows before anybody chooses
ABSENT = 255  # in a packed heat map: a step without a row
RELATIVE = ("ratio", "distance")  # to the weights, which may have been zero
SCALE = 62  # levels of the root of a share: a step from 1 % is as large as the noise of 4,096 samples

CURVES = (
    ("loss", "Training loss", "", "it should fall", False),
    ("gradient_norm", "Gradient norm", "loss / weight", "it should neither vanish nor grow without end", True),
    ("output_spread", "Spread of the outputs over the batch", "", "at zero every item gets the same answer", True),
    ("lr_0", "Learning rate", "", "as the schedule set it for the first group", True),
)
KINDS = (
    ("activations", "Activations", "outputs of the layer"),
    ("weights", "Weights", "elements of the parameter"),
    ("gradients", "Gradients", "elements of the parameter's gradient"),
)
SEE = {
    "activations": "a band that stays as wide as it began is healthy; one that sinks to zero has vanished, and one "
    "that climbs explodes",
    "weights": "a band that never changes has not been trained; one that jumps has been hit by too large a step",
    "gradients": "a band that sinks to zero while the loss is still high has vanished; one that climbs explodes",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One number of a table: the last recorded, the first, its shade (0 to `LEVELS`), and what it sorts by."""

    last: str = ""
    first: str = ""
    shade: int = 0
    sort: str = ""
    broken: bool = False


@dataclass(frozen=True)
class Table:
    """Statistics of all layers, or of all parameters."""

    id: str
    title: str
    place: str
    columns: list[Quantity]
    rows: list[tuple[str, list[Cell]]]
    left_out: int


@dataclass(frozen=True)
class Figure:
    """One figure without its data: `kind` is "curve", "lines" or "heat", `key` names the data for the script."""

    kind: str
    key: str
    title: str
    see: str
    picture: Markup
    legend: list[str]


@dataclass(frozen=True)
class Training:
    """Everything that the page shows of a record."""

    said: str
    thinned: str
    tables: list[Table]
    curves: list[Figure]
    lines: Figure | None
    heat: Figure | None
    packed: str
    alarms: list[Raised]
    notes: list[tuple[str, str]]


def training(found: Recorded) -> Training:
    """Lay out a record."""
    tables = [
        t
        for t in (
            _table("layers", "Layers: their outputs", "Layer", found.grids, OUTPUTS),
            _table("parameters", "Parameters: weights, gradients, updates", "Parameter", found.grids, PARAMETERS),
        )
        if t
    ]
    data, kept = packed(found)
    return Training(
        said=f"{found.steps:,} recorded steps, {found.first:,} to {found.last:,}",
        thinned=kept,
        tables=tables,
        curves=_curves(found),
        lines=_lines(found),
        heat=_heat(found),
        packed=data,
        alarms=found.alarms,
        notes=list(found.notes.items()),
    )


# ---- tables ----------------------------------------------------------------------------------------------------------


def _table(id: str, title: str, place: str, grids: dict[str, Grid], quantities: tuple[Quantity, ...]) -> Table | None:
    columns, ends = [], []
    for quantity in quantities:
        grid = grids.get(quantity.table)
        if grid is None:
            continue
        column = grid.ends(quantity.column)
        if any(not math.isnan(v) for pair in column.values() for v in pair):
            columns.append(quantity)
            ends.append(column)
    if not columns:
        return None
    first = max((grids[q.table] for q in columns), key=lambda g: len(g.places))
    names = first.places[:ROWS]
    shades = [_shades(column, quantity) for column, quantity in zip(ends, columns)]
    rows = [(n, [_cell(c, s, q, n) for c, s, q in zip(ends, shades, columns)]) for n in names]
    return Table(id, title, place, columns, rows, len(first.places) - len(names))


def _cell(column: dict[str, tuple[float, float]], shades: dict[str, int], quantity: Quantity, name: str) -> Cell:
    if name not in column:
        return Cell()
    first, last = column[name]
    if quantity.column == "saturated" and math.isnan(last):
        return Cell()  # the layer has no limits
    from_zero = quantity.column in RELATIVE and math.isinf(last)
    broken = (not math.isfinite(last) and not from_zero) or (quantity.column == "nonfinite" and last > 0)
    return Cell(_spelled(last, quantity), _spelled(first, quantity), shades.get(name, 0), f"{last:.4g}", broken)


def _spelled(value: float, quantity: Quantity) -> str:
    if quantity.column in RELATIVE and math.isinf(value):
        return "from zero"
    if quantity.unit == "share" and math.isfinite(value):
        return "0" if value == 0 else f"{value:.1%}" if value >= 0.001 else "<0.1%"
    return words.number(float(f"{value:.3g}"), 3)


def _shades(column: dict[str, tuple[float, float]], quantity: Quantity) -> dict[str, int]:
    "Shades by magnitude: a share on its own scale, else from the least to the largest of the column."
    size = {n: abs(last) for n, (_, last) in column.items() if math.isfinite(last)}
    if quantity.unit == "share":
        return {n: math.ceil(LEVELS * min(v, 1.0)) for n, v in size.items()}
    size = {n: math.log10(v) for n, v in size.items() if v > 0}
    if not size or max(size.values()) - min(size.values()) < 0.3:  # within a factor of two all look alike
        return {}
    low, high = min(size.values()), max(size.values())
    return {n: 1 + round((LEVELS - 1) * (v - low) / (high - low)) for n, v in size.items()}


# ---- figures ---------------------------------------------------------------------------------------------------------


def _curves(found: Recorded) -> list[Figure]:
    figures = []
    for key, title, unit, see, logarithmic in CURVES:
        curve = found.curves.get(key)
        if curve is None or (key == "lr_0" and len(set(curve.values.tolist())) < 2):
            continue
        picture = charts.lines(
            [(curve.steps, curve.values)], _titled(title, unit), logarithmic, f"{title} over {len(curve.steps)} steps"
        )
        figures.append(Figure("curve", key, title, see, picture, []))
    return figures


def _lines(found: Recorded) -> Figure | None:
    chosen = next((q for q in _quantities(found) if q.column == "ratio"), None) or next(_quantities(found), None)
    if chosen is None:
        return None
    grid = found.grids[chosen.table]
    places = evenly(len(grid.places), LINES)
    names = [grid.places[i] for i in places]
    series = [(grid.steps, grid.values[chosen.column][i]) for i in places]
    label = f"{chosen.title} over steps of {', '.join(n[:80] for n in names)}"
    picture = charts.lines(series, _titled(chosen.title, chosen.unit), chosen.logarithmic, label)
    return Figure("lines", f"{chosen.table}.{chosen.column}", chosen.title, chosen.means, picture, names)


def _heat(found: Recorded) -> Figure | None:
    kind = next((k for k in KINDS if k[0] in found.histograms and found.histograms[k[0]].places), None)
    if kind is None:
        return None
    histograms = found.histograms[kind[0]]
    place = len(histograms.places) // 2
    name = histograms.places[place]
    picture = charts.heat(histograms.heat(place), f"{kind[1]} of {name[:80]}: shares of values over steps")
    return Figure("heat", kind[0], f"{kind[1]} of {name}", SEE[kind[0]], picture, [name])


def _quantities(found: Recorded):
    "Those of which something was recorded, as the page offers them."
    for quantity in (*PARAMETERS, *OUTPUTS):
        grid = found.grids.get(quantity.table)
        if grid is not None and not np.isnan(grid.values[quantity.column]).all():
            yield quantity


def _titled(title: str, unit: str) -> str:
    return f"{title} ({unit})" if unit else title


# ---- data for the script ---------------------------------------------------------------------------------------------


def packed(found: Recorded, room: int = PACKED) -> tuple[str, str]:
    """The data of the figures for the page's script, in at most `room` characters, and in words what was thinned.

    Zlib in base64: the length of a JSON header (4 bytes, little end first), the header, then arrays at the offsets that
    it names. Numbers are bfloat16 (two digits and a half), shares are the byte round(62 √share), row by row.
    """
    most = max([len(part.steps) for part in (*found.grids.values(), *found.histograms.values())], default=0)
    maps = {key: [_levels(h.heat(i)) for i in range(len(h.places))] for key, h in found.histograms.items()}
    while True:
        header, body = _assembled(found, maps, most)
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        data = base64.b64encode(zlib.compress(len(text).to_bytes(4, "little") + text + body)).decode()
        if len(data) <= room or most <= FEWEST:
            break
        most = max(FEWEST, int(most * 0.95 * room / len(data)))
    thin = {
        name: (min(len(part.steps), most), part.of)
        for parts in (found.grids, found.histograms)
        for name, part in parts.items()
        if min(len(part.steps), most) < part.of
    }
    if not thin:
        return data, ""
    fewest = min(thin.values())
    return data, f"The figures of single layers show {fewest[0]} of {fewest[1]:,} recorded steps."


def _assembled(found: Recorded, maps: dict[str, list[tuple]], most: int) -> tuple[dict, bytes]:
    parts: list[bytes] = []
    at = 0

    def put(array: np.ndarray) -> int:
        nonlocal at
        data = array.tobytes()
        data += b"\0" * (-len(data) % 4)
        parts.append(data)
        at += len(data)
        return at - len(data)

    curves = []
    for key, title, unit, _, logarithmic in CURVES:
        if curve := found.curves.get(key):
            kept = np.array([i for i, _ in thinned(curve.values.tolist(), DRAWN)], dtype=int)
            steps, values = curve.steps[kept].tolist(), put(curve.values[kept].astype("<f4"))
            curves.append({"key": key, "title": title, "unit": unit, "log": logarithmic, "steps": steps, "at": values})
    grids, quantities = {}, []
    for quantity in _quantities(found):
        grid = found.grids[quantity.table]
        kept = evenly(len(grid.steps), most)
        grids[quantity.table] = {"places": _names(grid), "steps": grid.steps[kept].tolist(), "of": grid.of}
        quantities.append(
            {
                "key": f"{quantity.table}.{quantity.column}",
                "grid": quantity.table,
                "title": quantity.title,
                "unit": quantity.unit,
                "means": quantity.means,
                "log": quantity.logarithmic,
                "at": put(_bfloat16(grid.values[quantity.column][:, kept])),
            }
        )
    heats = []
    for key, title, of in KINDS:
        if histograms := found.histograms.get(key):
            kept = evenly(len(histograms.steps), most)
            placed = [(put(levels[:, kept]), bins, top) for levels, bins, top in maps[key]]
            named = {"key": key, "title": title, "elements": of, "see": SEE[key], "places": _names(histograms)}
            heats.append({**named, "steps": histograms.steps[kept].tolist(), "of": histograms.of, "maps": placed})
    palette = ["#" + bytes(c).hex() for c in charts.PALETTE]
    header = {"palette": palette, "curves": curves, "grids": grids, "quantities": quantities, "heats": heats}
    return header, b"".join(parts)


def _levels(heat: Heat) -> tuple[np.ndarray, int, int]:
    "Levels of shares, what is not finite last; bins of each sign above the smallest; half octave of the largest."
    shares = np.vstack([heat.shares, heat.nonfinite])
    known = np.isfinite(shares)
    levels = np.where(known, np.round(SCALE * np.sqrt(np.where(known, shares, 0))), ABSENT)
    return levels.astype(np.uint8), (len(heat.shares) - 3) // 2, heat.top


def _names(part: Grid | Histograms) -> list[str]:
    return [words.safe(p) for p in part.places]


def _bfloat16(values: np.ndarray) -> np.ndarray:
    "Rounded to the upper half of a float32; NaN and infinity stay what they are."
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    special = ~np.isfinite(values)
    rounded = np.where(special, (bits >> 16) | np.where(np.isnan(values), 0x40, 0), rounded)
    return rounded.astype("<u2")
