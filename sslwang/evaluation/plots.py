"""Figures of an evaluation: accuracy by labels, confusion, reliability. Each is matplotlib's own, unknown to pyplot.

Starts are told apart by colour (seaborn's "colorblind"), marker and dashes; random weights are black, baselines grey.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence

import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from sslwang.evaluation.comparison import METHOD_NAMES, Evaluation, share
from sslwang.evaluation.starts import Start
from sslwang.scores import Interval

DPI = 110
PANELS = 12  # starts that one figure shows at most
MANY = 12  # classes from which their names no longer fit beside a matrix
MARKERS = "oDsv^<>PXp*h"
SPREAD = 0.4  # of the way from one number of labels to the next, that the starts of one number take
GREYS = ("#555555", "#999999")


def styles(starts: Sequence[Start]) -> dict[str, dict]:
    """Colour, marker and dashes of every start, by name."""
    colours = seaborn.color_palette("colorblind", 10)
    made, asked, besides = {}, 0, 0
    for place, start in enumerate(starts):
        if start.kind == "random":
            colour, dashes = "black", "--"
        elif start.kind == "baseline":
            colour, dashes = GREYS[besides % len(GREYS)], ":"
            besides += 1
        else:
            colour, dashes = colours[asked % len(colours)], "-" if asked < len(colours) else "-."
            asked += 1
        made[start.name] = {"color": colour, "linestyle": dashes, "marker": MARKERS[place % len(MARKERS)]}
    return made


def by_labels(found: Evaluation) -> Figure:
    """Accuracy against labelled images, a panel a method, with the intervals over seeds."""
    figure = Figure((4.2 * len(found.methods) + 2.4, 4.2), layout="constrained")
    panels = figure.subplots(1, len(found.methods), sharey=True, squeeze=False)[0]
    labels = {f: found.labels(f) for f in sorted(found.fractions) if found.labels(f)}
    look = styles(found.starts)
    for axes, method in zip(panels, found.methods):
        _lines(axes, found, method, labels, look)
    low, high = panels[0].get_ylim()  # of all panels: they share it
    panels[0].set_ylim(max(0.0, low), min(1.0, high))
    panels[0].set_ylabel("accuracy on validation")
    handles, names = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=9)
    return figure


def _lines(axes: Axes, found: Evaluation, method: str, labels: dict[float, int], look: dict[str, dict]) -> None:
    counts = sorted(labels.values())
    apart = min((b / a for a, b in itertools.pairwise(counts)), default=2.0) ** SPREAD
    for place, start in enumerate(found.starts):
        told = [(n, found.mean(start.name, method, f)) for f, n in labels.items()]
        told = [(n, x) for n, x in told if x is not None]
        if not told:
            continue
        shift = apart ** ((place + 0.5) / len(found.starts) - 0.5)  # so that intervals stand beside each other
        at, means = [n * shift for n, _ in told], [x.mean for _, x in told]
        axes.errorbar(at, means, [[_half(x) for _, x in told]] * 2, label=start.name, capsize=2, ms=5, lw=1.4,
                      **look[start.name])  # fmt: skip
    axes.axhline(found.facts.majority, color="#777777", lw=0.8, label="best constant")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(labels.values())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{n:,}\n{share(f)}" for f, n in labels.items()], fontsize=9)
    axes.set_xlabel("labelled images")
    axes.set_title(METHOD_NAMES[method])
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _half(x: Interval) -> float:
    return x.half if math.isfinite(x.half) else 0.0


def confusions(found: Evaluation, method: str, fraction: float) -> Figure:
    """Share of each true class that is predicted as each class, all seeds together, a panel a start."""
    shown = [s for s in found.starts if found.of(s.name, method, fraction)][:PANELS]
    names = list(found.facts.classes)
    few = len(names) <= MANY
    side = 0.32 * len(names) + 0.5 if few else 3.4
    figure, panels = _grid(len(shown), side + 0.35, side, room=(1.6, 1.4) if few else (0.6, 0.9))
    image = None
    for place, (axes, start) in enumerate(zip(panels, shown)):
        counts = found.confusion(start.name, method, fraction)
        rows = np.flatnonzero(counts.sum(1))  # validation may have fewer classes
        shares = counts[rows] / counts[rows].sum(1, keepdims=True)
        image = axes.imshow(shares, vmin=0, vmax=1, cmap="cividis", aspect="auto")
        axes.set_title(f"{start.name}: {100 * np.trace(counts) / counts.sum():.1f} %", fontsize=9)
        axes.set_yticks(range(len(rows)), [_cut(names[r]) for r in rows] if few and place % _across(len(shown)) == 0
                        else [""] * len(rows), fontsize=8)  # fmt: skip
        last = place + _across(len(shown)) >= len(shown)
        axes.set_xticks(range(len(names)), [_cut(n) for n in names] if few and last else [""] * len(names),
                        rotation=90, fontsize=8)  # fmt: skip
        axes.tick_params(length=0)
    if image is not None:
        figure.colorbar(image, ax=list(panels), shrink=0.6, label="share of the true class")
    figure.supylabel("true class", fontsize=9)
    figure.supxlabel("predicted class", fontsize=9)
    return figure


def reliabilities(found: Evaluation, method: str, fraction: float) -> Figure:
    """How often predictions are right against how sure they are (Guo et al. 2017), all seeds together."""
    shown = [s for s in found.starts if found.of(s.name, method, fraction)][:PANELS]
    figure, panels = _grid(len(shown), 2.5, 2.4, room=(0.5, 0.5))
    for place, (axes, start) in enumerate(zip(panels, shown)):
        curve = found.reliability(start.name, method, fraction)
        error = found.mean(start.name, method, fraction, "calibration error")
        width = np.diff(curve.edges)
        filled = curve.count > 0
        axes.plot([0, 1], [0, 1], color="#777777", lw=0.8, linestyle="--")
        axes.bar(curve.edges[:-1][filled], curve.accuracy[filled], width[filled], align="edge", color="#0173b2",
                 edgecolor="white", lw=0.5)  # fmt: skip
        weight = curve.count / curve.count.sum()
        axes.scatter(curve.confidence[filled], curve.accuracy[filled], 8 + 220 * weight[filled], color="#de8f05",
                     edgecolor="black", lw=0.5, zorder=3)  # fmt: skip
        axes.set_title(f"{start.name}\ncalibration error {error.mean:.3f}", fontsize=9)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        if place % _across(len(shown)):
            axes.set_yticklabels([])
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("probability of what is predicted (dots: mean of a bin, by number of predictions)", fontsize=9)
    figure.supylabel("share that is right", fontsize=9)
    return figure


def _across(count: int) -> int:
    return max(1, min(4, count)) if count != 5 else 3


def _grid(count: int, width: float, height: float, room: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    across = _across(count)
    down = max(1, math.ceil(count / across))
    figure = Figure((across * width + room[0] + 0.8, down * (height + 0.3) + room[1]), layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _cut(name: str, longest: int = 18) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def png(figure: Figure) -> bytes:
    """A figure as a PNG."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI, format="png")
    return drawn.getvalue()
