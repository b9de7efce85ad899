"""Figures as matplotlib draws them, for TensorBoard, Comet and notebooks: proof, learning-rate ladder, and what was
recorded.

    figures.proof(diagnosis.cause)                  # the loss as it is, and with the change
    figures.layers(recorded(Store.read("run")))     # every layer, first against last recorded step

Every figure is a `matplotlib.figure.Figure` of its own: pyplot knows nothing of it, so nothing is left open and no
setting of the caller is touched. Its title says what to look for, its axes have units. Colours are told apart by
colour-blind eyes (seaborn's "colorblind", after Okabe & Ito 2008; cividis, Nuñez et al. 2018), and never tell alone:
line styles and markers differ too.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from diagnose.diagnosis import CauseResult, CheckResult, Diagnosis
from diagnose.report import curves, words
from diagnose.report.recorded import OUTPUTS, PARAMETERS, Curve, Heat, Quantity, Recorded, evenly

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLACES = 40  # layers or parameters that one figure names at most
PANELS = 12  # heat maps in one figure at most
MARKS = 12  # of what began while a model trained, in one figure at most
WIDE = 9.0  # inches
USUAL = -3  # log10 of a usual update against its weight: Karpathy 2015, CS231n, "Ratio of weights:updates"
SHOWN_LAYERS = ("std", "zeros", "dead"), ("gradients.l2", "updates.ratio", "weights.distance")


def everything(diagnosis: Diagnosis | None, found: Recorded | None) -> dict[str, Figure]:
    """Every figure that there is something to draw for, by name."""
    drawn: dict[str, Figure | None] = {}
    if diagnosis is not None:
        for cause in diagnosis.causes:
            if cause.proven:
                drawn[f"proof {cause.id}"] = proof(cause)
        for check in diagnosis.checks:
            drawn[check.id] = ladder(check)
    if found is not None:
        drawn |= {
            "loss": loss(found),
            "gradient norm": gradient_norm(found),
            "update ratios": update_ratios(found),
            "layers": layers(found),
            **{f"histograms of {table}": histograms(found, table) for table in found.histograms},
        }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


# ---- style -----------------------------------------------------------------------------------------------------------


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib
    import seaborn

    small = {"axes.titlesize": 9, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8}
    with matplotlib.rc_context({**seaborn.axes_style("whitegrid"), **small, "figure.titlesize": 11}):
        yield


def _styled(draw: Callable[..., Figure | None]) -> Callable[..., Figure | None]:
    "Axes take their look when they are made."

    @wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Figure | None:
        with _style():
            return draw(*args, **kwargs)

    return drawn


def _colours() -> list[tuple[float, float, float]]:
    import seaborn

    return seaborn.color_palette("colorblind")


BLUE, ORANGE, VERMILION = 0, 1, 3  # of that palette


def _figure(title: str, rows: int = 1, columns: int = 1, height: float = 3.6, **options: Any) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE, height), layout="constrained")
    figure.suptitle(_wrapped(title, 100))
    return figure, figure.subplots(rows, columns, **options)


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(label(text, 400), width)[:4])


@cache
def _drawable(character: str) -> bool:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return character in "\n " or bool(get_font(findfont(FontProperties())).get_char_index(ord(character)))


def label(text: str, most: int = 44) -> str:
    """A name as a figure can show it: shortened in its middle, no mathematics between dollars, and a box for what the
    font lacks."""
    text = re.sub(r"\s+", " ", words.safe(text)).strip()
    text = words.shortened(text, most)
    return "".join(c if _drawable(c) else "▯" for c in text).replace("$", r"\$")


# ---- of a diagnosis --------------------------------------------------------------------------------------------------


@_styled
def proof(cause: CauseResult) -> Figure | None:
    """Loss of every step of the paired trials, side by side on one axis; None if the proof has no trial.

    The axis is that of the HTML report (`curves.frame`): relative to best constant (1) and floor (0) if the change
    alters the scale of the loss.
    """
    found = cause.proof
    if found is None or not (found.before.loss or found.after.loss):
        return None
    frame = curves.frame(found.before, found.after)
    figure, axes = _figure(f"{cause.id}: {cause.summary}", columns=2, sharex=True, sharey=True)
    sides = ("As it is", found.before, frame.before, VERMILION, "--"), (
        f"With the change ({found.change})", found.after, frame.after, BLUE, "-",
    )  # fmt: skip
    for ax, (name, side, curve, colour, dashes) in zip(axes, sides):
        _proof_side(ax, curve, frame, _colours()[colour], dashes)
        ax.set_title(f"{_wrapped(name, 56)}\n{_wrapped(side.summary, 56)}", loc="left")
        ax.set_xlabel("step")
    axes[0].set_ylabel(frame.title)
    return figure


def _proof_side(ax: Axes, curve: curves.Curve, frame: curves.Frame, colour: Any, dashes: str) -> None:
    margin = 10 * (frame.high - frame.low)  # what lies outside is drawn towards where it went, without overflow
    values = np.array([np.nan if not math.isfinite(v) else v for v in curve.values], dtype=float)
    values = np.clip(values, frame.low - margin, frame.high + margin)
    marker = "o" if len(values) < 2 else None
    ax.plot(np.arange(len(values)), values, dashes, color=colour, marker=marker, linewidth=1.6, label="loss")
    for height, name, style in ((curve.constant, "best constant", ":"), (curve.floor, "floor", "-.")):
        if height is not None and frame.low <= height <= frame.high:
            ax.axhline(height, linestyle=style, color="0.35", linewidth=1, label=name)
    if curve.broken is not None:
        after = curve.broken + 1
        ax.axvspan(curve.broken, max(frame.steps - 1, after) if curve.for_good else after, facecolor="0.9",
                   edgecolor="0.6", hatch="//", linewidth=0, label=curve.break_said)  # fmt: skip
    ax.set_ylim(frame.low, frame.high)
    ax.legend(loc="best", framealpha=0.9)


@_styled
def ladder(check: CheckResult) -> Figure | None:
    """Share learned at each learning rate; None if the check did not measure it at two or more."""
    found, configured = curves.rungs(check)
    if len(found) < 2:
        return None
    figure, ax = _figure(f"Learned at each learning rate. {check.summary}", height=3.4)
    rates, learned = np.array(found).T
    shown = np.clip(learned, 0, 1)
    ax.plot(rates, shown, "-o", color=_colours()[BLUE], label="learned in the same number of steps")
    broken = ~np.isfinite(learned)
    if broken.any():
        ax.plot(rates[broken], np.zeros(broken.sum()), "X", color=_colours()[VERMILION], markersize=9, clip_on=False,
                label="not finite")  # fmt: skip
    if configured:
        ax.axvline(configured, linestyle="--", color="0.35", label=f"configured: {configured:.3g}")
    ax.set(xscale="log", ylim=(-0.05, 1.05), xlabel="learning rate",
           ylabel="share learned\n(0 = best constant, 1 = floor)")  # fmt: skip
    ax.legend(loc="best")
    return figure


# ---- of a record -----------------------------------------------------------------------------------------------------


@_styled
def loss(found: Recorded) -> Figure | None:
    """Loss and learning rate of every recorded step, and what began with which."""
    curve = found.curves.get("loss")
    if curve is None or not np.isfinite(curve.values).any():
        return None
    rates = {n: c for n, c in found.curves.items() if re.fullmatch(r"lr_\d+", n)}
    title = "Loss: a healthy one falls and stays down; a jump where the learning rate is high says it is too high"
    figure, axes = _figure(title, rows=2, height=4.6, sharex=True, squeeze=False, height_ratios=[2, 1])
    low, high = curves.extent(curve.values.tolist(), [], [])
    top, bottom = axes[:, 0]
    _line(top, curve, _colours()[BLUE], "loss of the batch")
    top.set_ylim(low, high)
    _mark_broken(top, curve)
    for step, name in found.marks[:MARKS]:
        top.axvline(step, color="0.4", linewidth=1, linestyle=":")
        top.annotate(
            label(name), (step, 1), xycoords=top.get_xaxis_transform(), xytext=(2, -2), textcoords="offset points",
            rotation=90, ha="left", va="top", fontsize=8, color="0.3",
        )  # fmt: skip
    top.set_ylabel("training loss")
    top.legend(loc="best")
    for i, (name, rate) in enumerate(list(rates.items())[:6]):
        _line(bottom, rate, _colours()[i], f"group {name.removeprefix('lr_')}", _DASHES[i % len(_DASHES)])
    if any((c.values > 0).any() for c in rates.values()):
        bottom.set_yscale("log")
    bottom.set(ylabel="learning rate", xlabel="training step")
    if len(rates) > 1:
        bottom.legend(loc="best")
    return figure


_DASHES = ("-", "--", "-.", ":")


@_styled
def gradient_norm(found: Recorded) -> Figure | None:
    """L2 norm of the gradient over all parameters, before and after clipping."""
    curve, applied = found.curves.get("gradient_norm"), found.curves.get("gradient_norm_applied")
    if curve is None:
        return None
    title = "Gradient norm: steady is healthy; towards zero it vanishes or all is learned, upwards it explodes"
    figure, ax = _figure(title)
    _line(ax, curve, _colours()[BLUE], "before clipping")
    if applied is not None and not np.array_equal(applied.values, curve.values, equal_nan=True):
        _line(ax, applied, _colours()[ORANGE], "as the optimizer got it", "--")
    if (curve.values > 0).any():
        ax.set_yscale("log")
    _mark_broken(ax, curve)
    ax.set(xlabel="training step", ylabel=f"L2 norm over all parameters\n({curve.unit or 'loss / weight'})")
    ax.legend(loc="best")
    return figure


def _line(ax: Axes, curve: Curve, colour: Any, name: str, dashes: str = "-") -> None:
    kept = evenly(len(curve.steps), 2_000)
    few = len(kept) < 3
    ax.plot(curve.steps[kept], np.where(np.isfinite(curve.values), curve.values, np.nan)[kept], dashes, color=colour,
            linewidth=1.2, marker="o" if few else None, label=name)  # fmt: skip


def _mark_broken(ax: Axes, curve: Curve) -> None:
    broken = curve.steps[~np.isfinite(curve.values)]
    if len(broken):
        low = np.full(len(broken), 0.02)
        ax.plot(broken, low, "X", color=_colours()[VERMILION], transform=ax.get_xaxis_transform(), markersize=6,
                clip_on=False, label=f"not finite ({len(broken):,} steps)")  # fmt: skip


@_styled
def update_ratios(found: Recorded) -> Figure | None:
    """log10 of ‖Δw‖ / ‖w‖ of every parameter over the recorded steps, as a heat map."""
    grid = found.grids.get("updates")
    if grid is None or not grid.present.any():
        return None
    import seaborn

    rows = evenly(len(grid.places), PLACES)
    with np.errstate(divide="ignore", invalid="ignore"):
        shown = np.log10(grid.values["ratio"][rows].astype(float))
    title = f"Update against weight: about 1e{USUAL} is usual; dark rows hardly move, bright ones are thrown about"
    figure, ax = _figure(title + _left_out(rows, grid.places), height=1.9 + 0.2 * len(rows))
    seaborn.heatmap(np.clip(shown, -7, 1), ax=ax, cmap="cividis", vmin=-6, vmax=0, mask=np.isnan(shown),
                    cbar_kws={"label": "log10 ‖Δw‖ / ‖w‖ of one step"})  # fmt: skip
    ax.set_facecolor("0.85")
    ax.set_yticks(np.arange(len(rows)) + 0.5, [label(grid.places[i]) for i in rows], rotation=0)
    _columns(ax, grid.steps)
    return figure


@_styled
def layers(found: Recorded) -> Figure | None:
    """Statistics of every layer and parameter at the first and the last recorded step."""
    quantities = {f"{q.table}.{q.column}": q for q in (*OUTPUTS, *PARAMETERS)}
    outputs = [q for q in OUTPUTS if q.column in SHOWN_LAYERS[0] and _ends(found, q)]
    parameters = [quantities[name] for name in SHOWN_LAYERS[1] if _ends(found, quantities[name])]
    groups = [g for g in (outputs, parameters) if g]
    if not groups:
        return None
    from matplotlib.figure import Figure

    chosen = []
    for group in groups:
        places = list(dict.fromkeys(p for q in group for p in found.grids[q.table].places))
        chosen.append([places[i] for i in evenly(len(places), PLACES)])
    heights = [1.3 + 0.19 * len(places) for places in chosen]
    figure = Figure(figsize=(WIDE, 0.8 + sum(heights)), layout="constrained")
    figure.suptitle(
        _wrapped("Layers, the model's input on top: look for the one that stands apart from its neighbours, or left "
                 f"where it began (○ step {found.first:,}, ● step {found.last:,})", 100)
    )  # fmt: skip
    parts = figure.subfigures(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, group, places in zip(parts, groups, chosen):
        axes = part.subplots(1, len(group), sharey=True, squeeze=False)[0]
        for ax, quantity in zip(axes, group):
            _first_and_last(ax, quantity, places, _ends(found, quantity), len(group))
        axes[0].set_yticks(range(len(places)), [label(p) for p in places])
        axes[0].set_ylim(len(places) - 0.5, -0.5)
    return figure


def _ends(found: Recorded, quantity: Quantity) -> dict[str, tuple[float, float]]:
    grid = found.grids.get(quantity.table)
    if grid is None or quantity.column not in grid.values:
        return {}
    return {p: ends for p, ends in grid.ends(quantity.column).items() if np.isfinite(ends).any()}


def _first_and_last(
    ax: Axes, quantity: Quantity, places: list[str], ends: dict[str, tuple[float, float]], columns: int
) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    at = [i for i, p in enumerate(places) if p in ends]
    first, last = np.array([ends[places[i]] for i in at], dtype=float).reshape(-1, 2).T
    if quantity.logarithmic and ((first > 0) | (last > 0)).any():
        first, last = (np.where(v > 0, v, np.nan) for v in (first, last))
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(numticks=4))
        ax.xaxis.set_minor_formatter(NullFormatter())
        known = np.concatenate([first, last])
        low, high = np.nanmin(known), np.nanmax(known)
        if math.log10(high / low) < 2:  # room for two labels at least
            ax.set_xlim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high * 1.001)))
    elif quantity.unit == "share":
        ax.set_xlim(-0.04, 1.04)
    ax.hlines(at, first, last, color="0.7", linewidth=1.5)
    ax.plot(first, at, "o", markerfacecolor="white", markeredgecolor=_colours()[ORANGE], clip_on=False)
    ax.plot(last, at, "o", color=_colours()[BLUE], clip_on=False)
    ax.set_title(_wrapped(quantity.means, 96 // columns), loc="left")
    ax.set_xlabel(quantity.title + (f" ({quantity.unit})" if quantity.unit else ""))


@_styled
def histograms(found: Recorded, table: str = "activations", places: Sequence[str] | None = None) -> Figure | None:
    """Histograms over time as heat maps, one a layer or parameter; of `PANELS` evenly chosen ones if none is named.

    Raises:
        KeyError: a place is not in the record.
    """
    kept = found.histograms.get(table)
    if kept is None or not kept.present.any():
        return None
    index = {place: i for i, place in enumerate(kept.places)}
    rows = [index[p] for p in places] if places else evenly(len(kept.places), PANELS).tolist()
    columns = min(3, len(rows))
    lines = -(-len(rows) // columns)
    title = (
        f"Histograms of {table} over time: healthy ones change slowly; look for all in the zero row, a spread that "
        "explodes, or one that collapses"
    )
    figure, axes = _figure(
        title + _left_out(rows, kept.places), lines, columns, 1.1 + 2.1 * lines, squeeze=False, sharex=True
    )
    heats = [kept.heat(i) for i in rows]
    most = max((float(np.nanmax(h.shares)) for h in heats if np.isfinite(h.shares).any()), default=1.0)
    mesh = None
    for ax, i, heat in zip(axes.flat, rows, heats):
        mesh = _heat(ax, heat, most)
        ax.set_title(label(kept.places[i]), loc="left")
    for ax in axes.flat[len(rows) :]:
        ax.set_visible(False)
    for ax in axes.flat[max(len(rows) - columns, 0) : len(rows)]:
        ax.set_xlabel("training step")
        ax.tick_params(labelbottom=True)
    for ax in axes[:, 0]:
        ax.set_ylabel("value")
    figure.colorbar(mesh, ax=axes, label="share of the elements", shrink=min(1.0, 1.6 / lines + 0.2))
    return figure


def _heat(ax: Axes, heat: Heat, most: float) -> Any:
    from matplotlib.colors import PowerNorm

    shares = np.ma.masked_invalid(heat.shares)
    ax.set_facecolor("0.85")
    ax.grid(False)
    mesh = ax.pcolormesh(
        np.arange(shares.shape[1] + 1), np.arange(len(heat.edges)), shares, cmap="cividis",
        norm=PowerNorm(0.5, 0, max(most, 1e-6)), rasterized=True,
    )  # fmt: skip
    zero = int(np.flatnonzero((heat.edges[:-1] == 0) & (heat.edges[1:] == 0))[0])
    far = len(heat.edges) - 1
    ticks = sorted({0, (zero - 1) // 2, (far + zero + 2) // 2, far})
    ax.set_yticks([*ticks, zero + 0.5], [*(f"{heat.edges[t]:.2g}" for t in ticks), "0"])
    _columns(ax, heat.steps, "", 0.0)
    return mesh


def _columns(ax: Axes, steps: np.ndarray, title: str = "training step", middle: float = 0.5) -> None:
    ticks = evenly(len(steps), 5)
    ax.set_xticks(ticks + middle, [f"{steps[i]:,}" for i in ticks], rotation=0)
    if title:
        ax.set_xlabel(title)


def _left_out(rows: Sequence[int], places: Sequence[str]) -> str:
    return "" if len(rows) == len(places) else f" ({len(rows)} of {len(places)}, evenly chosen)"
