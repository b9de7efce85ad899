"""Figures as inline SVG, made here so that they read without JavaScript and print.

Colours come from the page's style sheet by class, so that one figure serves light, dark and paper.
"""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

from markupsafe import Markup

from diagnose.report import words
from diagnose.report.curves import Curve, Frame, extent, strokes, thinned

WIDTH, HEIGHT = 420, 236
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 26, 38


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
    _shape(svg, "text", kind, x=x, y=y, text_anchor=anchor).text = text


def _grid(svg: ET.Element, y: _Axis, title: str, at: list[float] | None = None) -> None:
    _text(svg, 2, 13, title, "start", "title")
    for tick in ticks(y.low, y.high) if at is None else at:
        _line(svg, LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid")
        _text(svg, LEFT - 6, y(tick) + 4, words.number(tick, 3), "end", "tick")
    _line(svg, LEFT, y.start, WIDTH - RIGHT, y.start, "axis")


def _feet(svg: ET.Element, marks: list[tuple[float, str]], title: str) -> None:
    for at, text in marks:
        _line(svg, at, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 4, "axis")
        _text(svg, at, HEIGHT - BOTTOM + 17, text, "middle", "tick")
    _text(svg, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, title, "middle", "title")


def _stroke(svg: ET.Element, curve: Curve, x: _Axis, y: _Axis, kind: str, radius: float = 3) -> None:
    pieces = strokes(thinned(curve.values), y.low, y.high)
    path = "".join("M" + "L".join(f"{x(s):.1f} {y(v):.1f}" for s, v in piece) for piece in pieces if len(piece) > 1)
    if path:
        _shape(svg, "path", f"line {kind}", d=path)
    for piece in pieces:
        if len(piece) == 1:  # a single finite value between broken ones, or a curve of one step
            _shape(svg, "circle", f"dot {kind}", cx=x(piece[0][0]), cy=y(piece[0][1]), r=radius)


def _break(svg: ET.Element, curve: Curve, x: _Axis) -> None:
    at = x(curve.broken)
    for_good = not any(math.isfinite(v) for v in curve.values[curve.broken :])
    if for_good:
        _shape(svg, "rect", "gone", x=at, y=TOP, width=max(WIDTH - RIGHT - at, 0), height=HEIGHT - BOTTOM - TOP)
    _line(svg, at, TOP, at, HEIGHT - BOTTOM, "broken")
    right = at > WIDTH * 0.5
    said = f"not finite {'from' if for_good else 'at'} step {curve.broken:,}"
    _text(svg, at + (-6 if right else 6), TOP + 14, said, "end" if right else "start", "note")


def _cross(svg: ET.Element, x: float, y: float) -> None:
    _shape(svg, "path", "broken", d=f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8")
