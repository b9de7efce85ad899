"""What is drawn of curves: both losses of a proof on one axis, outliers clipped, breaks where a loss is not finite; the
rungs of a learning-rate ladder."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from diagnose.diagnosis import CheckResult, Side
from diagnose.evidence import Evidence
from diagnose.report import words

HEADROOM = 1.5  # the axis ends this many spans (best constant minus floor) above the best constant
HUGE = 1e300  # differences of numbers up to here do not overflow
DRAWN = 400  # points of a curve that are drawn at most


@dataclass(frozen=True)
class Curve:
    """One curve in units of the axis.

    Attributes:
        values: the loss of every step.
        constant: the best constant output's loss; floor: that of freely chosen outputs.
        notes: what the drawing cannot show, in words.
    """

    values: list[float]
    constant: float | None = None
    floor: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def broken(self) -> int | None:
        """First step whose loss is not finite."""
        return next((i for i, v in enumerate(self.values) if not math.isfinite(v)), None)

    @property
    def for_good(self) -> bool:
        """Whether from the first step whose loss is not finite on none is."""
        return self.broken is not None and not any(math.isfinite(v) for v in self.values[self.broken :])

    @property
    def break_said(self) -> str:
        """From or at which step it is not finite, in words; empty if there is none."""
        return "" if self.broken is None else f"not finite {'from' if self.for_good else 'at'} step {self.broken:,}"


@dataclass(frozen=True)
class Frame:
    """Two curves on one axis from `low` to `high`, whose quantity is `title`; both run over `steps` steps."""

    before: Curve
    after: Curve
    low: float
    high: float
    title: str
    notes: list[str]

    @property
    def steps(self) -> int:
        """Steps of the longer curve."""
        return max(len(self.before.values), len(self.after.values))


def frame(before: Side, after: Side, headroom: float = HEADROOM) -> Frame:
    """Lay out both sides of a proof on one axis.

    A change of the loss function changes the scale of the loss. Then both are drawn relative to their own best
    constant (1) and floor (0), as raw numbers would put one of them flat on the ground.
    """
    scales = [_scale(s) for s in (before, after)]
    relative = _differ(before.best_constant, after.best_constant) and None not in scales
    sides = [_rescaled(s, *k) if relative else _plain(s) for s, k in zip((before, after), scales)]
    low, high = extent(
        [v for c in sides for v in c.values], [c.constant for c in sides], [c.floor for c in sides], headroom
    )
    for curve in sides:
        curve.notes.extend(_notes(curve, low, high))
    notes = []
    if relative:
        notes.append("The change alters the scale of the loss: both are drawn with best constant = 1 and floor = 0.")
    return Frame(sides[0], sides[1], low, high, "relative training loss" if relative else "training loss", notes)


def extent(
    values: list[float], constants: list[float | None], floors: list[float | None], headroom: float = HEADROOM
) -> tuple[float, float]:
    """Ends of an axis that shows the values and both reference lines, but is not flattened by outliers."""
    finite, tops, bottoms = (
        [min(max(v, -HUGE), HUGE) for v in some if v is not None and math.isfinite(v)]
        for some in (values, constants, floors)
    )
    marks = tops + bottoms
    if not finite and not marks:
        return 0.0, 1.0
    if tops and (span := max(tops) - min(bottoms or [0.0])) > 0:
        most, least = max(tops) + headroom * span, min(marks) - headroom * span
    elif finite:
        middle = median(finite)
        spread = median([abs(v - middle) for v in finite]) or abs(middle) or 1.0
        most, least = max([middle + 10 * spread, *marks]), min([middle - 10 * spread, *marks])
    else:
        most, least = max(marks), min(marks)
    low = max(least, min(finite + marks))
    high = min(most, max(finite + marks))
    if not high > low:  # also when every value lies outside
        low, high = min(low, high), max(low, high)
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return low - pad, high + pad


def thinned(values: list[float], most: int = DRAWN) -> list[tuple[int, float]]:
    """(step, value) of at most about `most` points that keep every bucket's lowest, highest and first broken value."""
    if len(values) <= most:
        return list(enumerate(values))
    size = math.ceil(2 * len(values) / most)
    kept: set[int] = {0, len(values) - 1}
    for start in range(0, len(values), size):
        bucket = range(start, min(start + size, len(values)))
        finite = [i for i in bucket if math.isfinite(values[i])]
        if finite:
            kept |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
        kept |= set([i for i in bucket if not math.isfinite(values[i])][:1])
    return [(i, values[i]) for i in sorted(kept)]


def strokes(points: list[tuple[int, float]], low: float, high: float) -> list[list[tuple[float, float]]]:
    """Pieces of the line through `points` inside the axis: cut where it leaves, broken at NaN and infinity."""
    margin = 1e3 * (high - low)  # beyond this only the direction matters, and differences must not overflow
    pieces: list[list[tuple[float, float]]] = []
    last: tuple[float, float] | None = None
    for step, raw in points:
        if not math.isfinite(raw):
            last = None
            continue
        here = (float(step), min(max(raw, low - margin), high + margin))
        if last is None:
            if low <= here[1] <= high:
                pieces.append([here])
        elif (cut := _inside(last, here, low, high)) is not None:
            if pieces and pieces[-1][-1] == cut[0]:
                pieces[-1].append(cut[1])
            else:
                pieces.append(list(cut))
        last = here
    return pieces


def _inside(a, b, low, high):
    """The part of the segment a-b between two heights, or None."""
    (x0, y0), (x1, y1) = a, b
    if y0 == y1:
        return (a, b) if low <= y0 <= high else None
    first, second = sorted(((low - y0) / (y1 - y0), (high - y0) / (y1 - y0)))
    start, end = max(0.0, first), min(1.0, second)
    if start >= end:
        return None

    def at(t: float) -> tuple[float, float]:
        return a if t == 0.0 else b if t == 1.0 else (x0 + t * (x1 - x0), y0 + t * (y1 - y0))

    return at(start), at(end)


def _finite(x: float | None) -> float | None:
    return x if x is not None and math.isfinite(x) else None


def _differ(a: float | None, b: float | None) -> bool:
    a, b = _finite(a), _finite(b)
    return a is not None and b is not None and not math.isclose(a, b, rel_tol=0.02, abs_tol=1e-9)


def _scale(side: Side) -> tuple[float, float] | None:
    """(zero, one) of the relative axis."""
    one, zero = _finite(side.best_constant), _finite(side.floor) or 0.0
    return (zero, one) if one is not None and one > zero else None


def _plain(side: Side) -> Curve:
    return Curve(list(side.loss), _finite(side.best_constant), _finite(side.floor))


def _rescaled(side: Side, zero: float, one: float) -> Curve:
    values = [(v - zero) / (one - zero) for v in side.loss]
    return Curve(values, 1.0, 0.0 if _finite(side.floor) is not None else None)


def _notes(curve: Curve, low: float, high: float) -> list[str]:
    finite = [v for v in curve.values if math.isfinite(v)]
    notes = []
    if over := [v for v in finite if v > high]:
        notes.append(
            f"{len(over)} of {len(curve.values)} steps lie above the axis, up to {words.number(max(over), 3)}."
        )
    if under := [v for v in finite if v < low]:
        notes.append(f"{len(under)} of {len(curve.values)} steps lie below the axis, to {words.number(min(under), 3)}.")
    if (k := curve.broken) is not None:
        lost = len(curve.values) - len(finite)
        notes.append(
            f"The loss is not finite from step {k}."
            if curve.for_good
            else f"{lost} losses are not finite, the first at step {k}."
        )
    if len(curve.values) > DRAWN:
        notes.append(f"{len(curve.values):,} steps; the drawing keeps the highest and lowest of each short stretch.")
    return notes


def rungs(check: CheckResult) -> tuple[list[tuple[float, float]], float | None]:
    """(learning rate, share learned) in order, of a check that measured `learned` at several, and the configured rate.

    `where` of such evidence is "lr=...".
    """
    steps = [(rate, float(e.value)) for e in check.evidence if (rate := _rung(e)) is not None]
    configured = (_positive(e.value) for e in check.evidence if e.name == "configured rate")
    return sorted(steps), next((r for r in configured if r), None)


def _rung(item: Evidence) -> float | None:
    measured = item.name == "learned" and isinstance(item.value, (int, float)) and not isinstance(item.value, bool)
    return _positive(item.where.removeprefix("lr=")) if measured and item.where.startswith("lr=") else None


def _positive(rate: Any) -> float | None:
    "A learning rate from text such as 3e-03, or slice(1e-05, 1e-03), whose last one counts."
    try:
        number = float(re.sub(r"^slice\((?:.*,)?(.*)\)$", r"\1", str(rate)))
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
