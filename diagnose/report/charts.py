"""Figures as inline SVG, made here so that they read without JavaScript and print.

Colours come from the page's style sheet by class, so that one figure serves light, dark and paper.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from xml.etree import ElementTree as ET

import numpy as np
from markupsafe import Markup
from PIL import Image

from diagnose.report import words
from diagnose.report.curves import Curve, Frame, extent, strokes, thinned
from diagnose.report.recorded import Heat

WIDTH, HEIGHT = 420, 236
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 26, 38
PALETTE = [
    (0, 34, 78), (26, 56, 111), (67, 78, 108), (97, 101, 111), (125, 124, 120), (155, 148, 118), (188, 174, 108),
    (222, 201, 88), (254, 232, 56),
]  # fmt: skip
"""Matplotlib's cividis at nine even places: seen alike with and without red-green blindness, and in print."""
ROOM = 150  # for the names of rows
DECADES = 14  # of a logarithmic axis at most


def panel(curve: Curve, frame: Frame, kind: str, label: str) -> Markup:
    """One loss curve on the frame's axis. `kind` is "before" or "after"; `label` describes it to a screen reader."""
    svg = _svg(WIDTH, HEIGHT, "chart", label)
    y = _Axis(frame.low, frame.high, HEIGHT - BOTTOM, TOP)
    last = frame.steps - 1
    x = _Axis(0, max(last, 1), LEFT + 4, WIDTH - RIGHT)
    _grid(svg, y, frame.title)
    _feet(svg, [(x(s), f"{s:,}") for s in sorted({0, last // 2, last}) if last >= 0], "step")
    for height, name in ((curve.constant, "constant"), (curve.floor, "floor")):
        if height is not None and frame.low <= height <= frame.high:
            _line(svg, LEFT, y(height), WIDTH - RIGHT, y(height), name)
    if not curve.values:
        _text(svg, (LEFT + WIDTH - RIGHT) / 2, HEIGHT / 2, "no steps were recorded", "middle", "note")
    _stroke(svg, curve, x, y, kind)
    if 1 < len(curve.values) <= last and frame.low <= curve.values[-1] <= frame.high:
        _shape(svg, "circle", f"dot {kind}", cx=x(len(curve.values) - 1), cy=y(curve.values[-1]), r=3.5)
    if curve.broken is not None:
        _break(svg, curve, x)
    return _markup(svg)


def spark(values: list[float], label: str) -> Markup:
    """A list of numbers as a small line without axes; a dot where a number is not finite."""
    svg = _svg(120, 24, "spark", label)
    low, high = extent(values, [], [])
    x, y = _Axis(0, max(len(values) - 1, 1), 3, 117), _Axis(low, high, 22, 2)
    _stroke(svg, Curve(values), x, y, "small", radius=1.8)
    for step, value in thinned(values, 60):
        if not math.isfinite(value):
            _shape(svg, "circle", "broken", cx=x(step), cy=12, r=1.8)
    return _markup(svg)


def ladder(rungs: list[tuple[float, float]], configured: float | None, label: str) -> Markup:
    """What was learned at each learning rate, on a logarithmic axis; the configured rate is marked if it is known.

    A rung below the ground is drawn on it, one without a number is a cross.
    """
    svg = _svg(WIDTH, HEIGHT, "chart", label)
    rates = [r for r, _ in rungs] + ([configured] if configured else [])
    low, high = math.log10(min(rates)), math.log10(max(rates))
    x = _Axis(low - 0.3, high + 0.3, LEFT, WIDTH - RIGHT)
    y = _Axis(-0.06, 1.06, HEIGHT - BOTTOM, TOP)
    _grid(svg, y, "learned (0 = best constant, 1 = floor)", [0, 0.25, 0.5, 0.75, 1])
    decades = range(math.ceil(low - 0.3), math.floor(high + 0.3) + 1)
    every = max(1, math.ceil(len(decades) / 8))
    _feet(svg, [(x(d), f"1e{d}") for d in decades[::every]], "learning rate")
    if configured:
        at = x(math.log10(configured))
        _line(svg, at, TOP, at, HEIGHT - BOTTOM, "configured")
        right = at > WIDTH * 0.6
        _text(svg, at + (-5 if right else 5), TOP + 11, "configured", "end" if right else "start", "note")
    points = [(x(math.log10(r)), y(min(max(v, 0.0), 1.0)) if math.isfinite(v) else None) for r, v in rungs]
    drawn = [p for p in points if p[1] is not None]
    if len(drawn) > 1:
        _shape(svg, "polyline", "line after", points=" ".join(f"{px:.1f},{py:.1f}" for px, py in drawn))
    for px, py in points:
        if py is None:
            _cross(svg, px, y(0.0))
        else:
            _shape(svg, "circle", "dot after", cx=px, cy=py, r=4)
    return _markup(svg)


def lines(
    series: Sequence[tuple[np.ndarray, np.ndarray]],
    title: str,
    logarithmic: bool,
    label: str,
    constant: float | None = None,
    floor: float | None = None,
) -> Markup:
    """Recorded quantities over steps, (steps, values) each, in the colours c0, c1, ...; outliers are cut off.

    On a logarithmic axis zero stands on the ground and what is below is left out, as is everywhere what is not finite.
    `constant` and `floor`, on a linear axis only, are the lines between which a loss is learned.
    """
    svg = _svg(WIDTH, HEIGHT, "chart", label)
    every = [[float(v) for v in values] for _, values in series]
    if logarithmic:
        every = [[math.log10(v) if 0 < v < math.inf else math.nan for v in values] for values in every]
        finite = [v for values in every for v in values if math.isfinite(v)]
        high = max(finite, default=0.0)
        low = max(min(finite, default=-1.0), high - DECADES)
        y = _Axis(low - 0.05 * (high - low) - 0.02, high + 0.05 * (high - low) + 0.02, HEIGHT - BOTTOM, TOP)
        raw = [np.asarray(values) for _, values in series]
        every = [[y.low if z == 0 else v for v, z in zip(logs, values)] for logs, values in zip(every, raw)]
    else:
        y = _Axis(*extent([v for values in every for v in values], [constant], [floor]), HEIGHT - BOTTOM, TOP)
    ends = [int(s) for steps, _ in series if len(steps) for s in (steps[0], steps[-1])] or [0]
    first, last = min(ends), max(ends)
    x = _Axis(first, max(last, first + 1), LEFT + 4, WIDTH - RIGHT)
    _grid(svg, y, title, decades(y.low, y.high) if logarithmic else None, logarithmic)
    _feet(svg, [(x(s), f"{s:,}") for s in sorted({first, (first + last) // 2, last})], "step")
    for height, kind in ((constant, "constant"), (floor, "floor")):
        if height is not None and y.low <= height <= y.high:
            _line(svg, LEFT, y(height), WIDTH - RIGHT, y(height), kind)
    if not any(math.isfinite(v) for values in every for v in values):
        _text(svg, (LEFT + WIDTH - RIGHT) / 2, HEIGHT / 2, "no finite number", "middle", "note")
    for number, ((steps, _), values) in enumerate(zip(series, every)):
        kind = f"c{number % 8}"
        pieces = strokes(thinned(values), y.low, y.high)
        placed = [[(float(np.interp(i, range(len(steps)), steps)), v) for i, v in piece] for piece in pieces]
        _pieces(svg, placed, x, y, kind, 2)
    return _markup(svg)


def rows(values: list[tuple[str, float, int]], title: str, logarithmic: bool, label: str) -> Markup:
    """A number for each of a few settings as a line from the left: (setting, value, colour).

    On a logarithmic axis zero and less stand at the left end. What is not finite has no line.
    """
    finite = [v for _, v, _ in values if math.isfinite(v)]
    above = [v for v in finite if v > 0] or [1.0]
    if logarithmic:
        high = math.log10(max(above))
        low = max(math.log10(min(above)), high - DECADES) - 0.5
        x = _Axis(low, high + 0.05 * (high - low), ROOM, WIDTH - RIGHT)
    else:
        x = _Axis(min([0.0, *finite]), 1.02 * max([0.0, *finite]) or 1.0, ROOM, WIDTH - RIGHT)
    bottom = TOP + 12 + 24 * len(values)
    svg = _svg(WIDTH, bottom + BOTTOM - 8, "chart", label)
    _text(svg, 2, 13, title, "start", "title")
    for tick in decades(x.low, x.high) if logarithmic else ticks(x.low, x.high):
        _line(svg, x(tick), TOP, x(tick), bottom, "grid")
        _text(svg, x(tick), bottom + 16, _exponential(tick) if logarithmic else words.number(tick, 3), "middle", "tick")
    _line(svg, ROOM, TOP, ROOM, bottom, "axis")
    for i, (name, value, colour) in enumerate(values):
        y = TOP + 18 + 24 * i
        _text(svg, ROOM - 8, y + 4, name if len(name) <= 22 else f"{name[:20]}…", "end", "tick")
        if not math.isfinite(value):
            _text(svg, ROOM + 8, y + 4, words.number(value), "start", "note")
            continue
        at = x(max(math.log10(value), x.low) if value > 0 else x.low) if logarithmic else x(value)
        _line(svg, ROOM, y, at, y, f"thick c{colour % 8}")
        _shape(svg, "circle", f"dot c{colour % 8}", cx=at, cy=y, r=4.5)
        said, left = words.number(value, 3), at > WIDTH * 0.75
        _text(svg, at + (-10 if left else 10), y - 6 if left else y + 4, said, "end" if left else "start", "note")
    return _markup(svg)


def decades(low: float, high: float) -> list[float]:
    """Where a logarithmic axis from 10 ** `low` to 10 ** `high` has its marks, as exponents: about four."""
    span = high - low
    if span > 2:
        every = math.ceil(span / 5)
        return [float(d) for d in range(math.ceil(low), math.floor(high) + 1) if d % every == 0]
    whole = range(math.floor(low), math.ceil(high) + 1)
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8)):
        inside = [v for d in whole for m in steps if low <= (v := d + math.log10(m)) <= high]
        if len(inside) > 2:
            return inside
    return inside or [(low + high) / 2]


def heat(found: Heat, label: str) -> Markup:
    """A histogram over time: a column a recorded step, a row a bin of values, the brighter the more elements."""
    svg = _svg(WIDTH, HEIGHT, "chart", label)
    broken = bool(np.nansum(found.nonfinite))
    rows = np.vstack([found.shares, found.nonfinite] if broken else [found.shares])[::-1]
    low, high = HEIGHT - BOTTOM, TOP
    height = (low - high) / len(rows)
    picture = {"x": f"{LEFT}", "y": f"{high}", "width": f"{WIDTH - LEFT - RIGHT}", "height": f"{low - high}"}
    picture |= {"preserveAspectRatio": "none", "href": f"data:image/png;base64,{_picture(rows)}", "class": "pixels"}
    _text(svg, 2, 13, "value", "start", "title")
    _key(svg, float(np.nan_to_num(rows).max(initial=0.0)))
    ET.SubElement(svg, "image", picture)
    for edge, text in marks(found.edges):
        at = low - edge * height
        _line(svg, LEFT - 4, at, LEFT, at, "axis")
        _text(svg, LEFT - 7, at + 4, text, "end", "tick")
    if broken:
        _text(svg, LEFT + 6, TOP + 14, "top row: NaN, ∞", "start", "over")
    steps = [int(s) for s in found.steps]
    last = len(steps) - 1
    each = (WIDTH - LEFT - RIGHT) / max(len(steps), 1)
    feet = [(LEFT + (i + 0.5) * each, f"{steps[i]:,}") for i in sorted({0, last // 2, last}) if steps]
    _feet(svg, feet, "step")
    return _markup(svg)


def _key(svg: ET.Element, largest: float) -> None:
    "What the colours of a heat map say: shares of all values, by their root."
    right = WIDTH - RIGHT - 44
    _text(svg, right - 10 * len(PALETTE) - 6, 13, "share: 0", "end", "tick")
    for i, colour in enumerate(PALETTE):
        at = right - 10 * (len(PALETTE) - i)
        _shape(svg, "rect", "key", x=at, y=4, width=10, height=10, fill="#" + bytes(colour).hex())
    _text(svg, right + 6, 13, f"{100 * largest:.2g} %", "start", "tick")


def marks(edges: np.ndarray) -> list[tuple[float, str]]:
    """Where an axis of values has its marks, in bins from its low end, and what stands there."""
    middle = (len(edges) - 1) / 2
    kept = len(edges) // 2 - 1  # bins of one sign above the smallest
    places = sorted({len(edges) - 1, len(edges) - 1 - kept // 2})
    up = [(float(p), words.number(float(edges[p]), 2)) for p in places]
    down = [(len(edges) - 1 - p, f"-{text}") for p, text in reversed(up)]
    return [*down, (middle, "0"), *up]


def _picture(rows: np.ndarray) -> str:
    "PNG of shares in base64, a pixel a cell; nothing where a step has no row."
    level = np.where(np.isfinite(rows), np.sqrt(np.nan_to_num(rows)), 0)
    level = level / max(float(level.max(initial=0)), 1e-12)
    colours = np.array(PALETTE, float)
    place = level * (len(PALETTE) - 1)
    found = np.stack([np.interp(place, range(len(PALETTE)), colours[:, c]) for c in range(3)], axis=-1)
    seen = np.where(np.isfinite(rows), 255, 0)[..., None]
    image = Image.fromarray(np.concatenate([found.round(), seen], axis=-1).astype(np.uint8), "RGBA")
    buffer = io.BytesIO()
    image.quantize(64).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def bar(share: float) -> Markup:
    """A horizontal bar of `share` of its full width. The number stands beside it in the text."""
    svg = _svg(100, 8, "bar", "")
    svg.set("preserveAspectRatio", "none")
    _shape(svg, "rect", "track", x=0, y=0, width=100, height=8)
    if share > 0:
        _shape(svg, "rect", "fill", x=0, y=0, width=max(0.5, 100 * min(share, 1.0)), height=8)
    return _markup(svg)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers between two ends."""
    raw = (high - low) / about
    if not (raw > 0 and math.isfinite(raw)):
        return []
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next((m * unit for m in (1, 2, 2.5, 5) if m * unit >= raw), 10 * unit)
    if not step > 0:
        return []
    first = math.ceil(low / step)
    return [t for i in range(about + 2) if low <= (t := (first + i) * step) <= high]


class _Axis:
    """Maps numbers from `low`..`high` to pixels from `start` to `end`."""

    def __init__(self, low: float, high: float, start: float, end: float):
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        return self.start + (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2) * (self.end - self.start)


def _svg(width: int, height: int, kind: str, label: str) -> ET.Element:
    look = {"viewBox": f"0 0 {width} {height}", "class": kind}
    return ET.Element(
        "svg", look | ({"role": "img", "aria-label": words.safe(label)} if label else {"aria-hidden": "true"})
    )


def _markup(svg: ET.Element) -> Markup:
    return Markup(ET.tostring(svg, encoding="unicode"))


def _shape(svg: ET.Element, tag: str, kind: str, **attributes: float | str) -> ET.Element:
    spelled = {k.replace("_", "-"): v if isinstance(v, str) else f"{v:.1f}" for k, v in attributes.items()}
    return ET.SubElement(svg, tag, {"class": kind} | spelled)


def _line(svg: ET.Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
    _shape(svg, "line", kind, x1=x1, y1=y1, x2=x2, y2=y2)


def _text(svg: ET.Element, x: float, y: float, text: str, anchor: str, kind: str) -> None:
    _shape(svg, "text", kind, x=x, y=y, text_anchor=anchor).text = words.safe(text)


def _grid(svg: ET.Element, y: _Axis, title: str, at: list[float] | None = None, exponents: bool = False) -> None:
    _text(svg, 2, 13, title, "start", "title")
    for tick in ticks(y.low, y.high) if at is None else at:
        _line(svg, LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid")
        said = _exponential(tick) if exponents else words.number(tick, 3)
        _text(svg, LEFT - 6, y(tick) + 4, said, "end", "tick")
    _line(svg, LEFT, y.start, WIDTH - RIGHT, y.start, "axis")


def _exponential(exponent: float) -> str:
    return words.number(float(f"{10.0**exponent:.2g}"), 2)


def _feet(svg: ET.Element, marks: list[tuple[float, str]], title: str) -> None:
    for at, text in marks:
        _line(svg, at, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 4, "axis")
        _text(svg, at, HEIGHT - BOTTOM + 17, text, "middle", "tick")
    _text(svg, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, title, "middle", "title")


def _stroke(svg: ET.Element, curve: Curve, x: _Axis, y: _Axis, kind: str, radius: float = 3) -> None:
    _pieces(svg, strokes(thinned(curve.values), y.low, y.high), x, y, kind, radius)


def _pieces(svg: ET.Element, pieces: list, x: _Axis, y: _Axis, kind: str, radius: float) -> None:
    path = "".join("M" + "L".join(f"{x(s):.1f} {y(v):.1f}" for s, v in piece) for piece in pieces if len(piece) > 1)
    if path:
        _shape(svg, "path", f"line {kind}", d=path)
    for piece in pieces:
        if len(piece) == 1:  # a single finite value between broken ones, or a curve of one step
            _shape(svg, "circle", f"dot {kind}", cx=x(piece[0][0]), cy=y(piece[0][1]), r=radius)


def _break(svg: ET.Element, curve: Curve, x: _Axis) -> None:
    at = x(curve.broken)
    if curve.for_good:
        _shape(svg, "rect", "gone", x=at, y=TOP, width=max(WIDTH - RIGHT - at, 0), height=HEIGHT - BOTTOM - TOP)
    _line(svg, at, TOP, at, HEIGHT - BOTTOM, "broken")
    right = at > WIDTH * 0.5
    _text(svg, at + (-6 if right else 6), TOP + 14, curve.break_said, "end" if right else "start", "note")


def _cross(svg: ET.Element, x: float, y: float) -> None:
    _shape(svg, "path", "broken", d=f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8")
