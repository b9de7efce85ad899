"""Figures of what checks measured, where one look says more than the table of evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from diagnose.diagnosis import CheckResult, Diagnosis
from diagnose.report import charts, curves, words

ROWS = 16  # of a figure with a line for each setting, at most


@dataclass(frozen=True)
class Experiment:
    """One figure: the check behind it, what it shows, what to see in it, the names of its lines in their colours."""

    check: str
    title: str
    see: str
    picture: Markup
    legend: list[str] = field(default_factory=list)


def experiments(diagnosis: Diagnosis) -> list[Experiment]:
    """Every figure for which something was measured."""
    drawn = (ladder, real_against_random, identical_pairs, memory, rows_per_second, workers, step_parts)
    return [figure for draw in drawn if (figure := draw(diagnosis)) is not None]


def ladder(diagnosis: Diagnosis) -> Experiment | None:
    """The learning-rate ladder, if the check measured `learned` at two rates (`where` is "lr=...") or more."""
    for check in diagnosis.checks:
        rungs, configured = curves.rungs(check)
        if len(rungs) < 2:
            continue
        said = "; ".join(f"{r:.3g}: {words.learned(v)}" for r, v in rungs)
        mark = f" The configured rate is {configured:.3g}." if configured else ""
        picture = charts.ladder(rungs, configured, f"Share learned at each learning rate. {said}.{mark}")
        see = (
            "where the configured rate stands. High points learn the batch, points on the ground do not, a cross is a "
            "rate at which the loss did not stay finite"
        )
        return Experiment(check.id, "Learning rates", see, picture)
    return None


def real_against_random(diagnosis: Diagnosis) -> Experiment | None:
    """The loss on the real batch, on noise in its place, and under permuted labels."""
    check, real = diagnosis.check("real-against-random"), diagnosis.check("overfit-one-batch")
    if check is None:
        return None
    losses = [("the real batch", _listed(real, "loss"))]
    losses += [(n, _listed(check, f"loss on {n}")) for n in ("noise inputs", "permuted labels")]
    losses = [(name, values) for name, values in losses if values]
    if len(losses) < 2:
        return None
    constant, floor = (_first(real, name) for name in ("best constant", "floor"))
    series = [(np.arange(len(v)), np.array(v)) for _, v in losses]
    ends = "; ".join(f"{name} ends at {words.number(v[-1])}" for name, v in losses)
    picture = charts.lines(series, "training loss", False, f"Training loss over steps: {ends}.", constant, floor)
    see = "only the real batch should be learned. Noise that is learned too means that the answer leaks"
    return Experiment(check.id, "Real against random", see, picture, [name for name, _ in losses])


def identical_pairs(diagnosis: Diagnosis) -> Experiment | None:
    """How far apart the encodings of identical and of different images are, in both modes."""
    check = diagnosis.check("identical-pairs")
    kinds = [("difference of identical images", "identical"), ("difference of different images", "different")]
    rows = [(f"{said}, {mode}", v, k) for k, (name, said) in enumerate(kinds) for mode, v in _by_place(check, name)]
    return _rows(
        check, rows, "Identical pairs", "largest difference of encodings (share of their size)", True,
        "identical images should stand at the left end, many times below different ones, in both modes",
    )  # fmt: skip


def memory(diagnosis: Diagnosis) -> Experiment | None:
    """What a training step takes, by batch size."""
    check = diagnosis.check("batch-memory")
    rows = [(place.removeprefix("batch size "), v, 0) for place, v in _by_place(check, "memory")]
    free = _first(check, "free memory")
    see = "how memory grows with the batch size" + (f"; {round(free):,} MiB were free" if free else "")
    return _rows(check, rows, "Memory by batch size", "memory of one step (MiB), by batch size", True, see)


def rows_per_second(diagnosis: Diagnosis) -> Experiment | None:
    """How fast a training pass is, by batch size."""
    check = diagnosis.check("batch-memory")
    rows = [(place.removeprefix("batch size "), v, 0) for place, v in _by_place(check, "rows per second")]
    see = "from where on a larger batch is no faster"
    return _rows(check, rows, "Speed by batch size", "rows a second, by batch size", False, see)


def workers(diagnosis: Diagnosis) -> Experiment | None:
    """How fast the loader is, by its number of workers."""
    check = diagnosis.check("loader-throughput")
    see = "which number of workers delivers most; starting them counts in short epochs"
    title = "items a second, by workers"
    found = _by_place(check, "items per second")
    rows = [(place.removesuffix(", pin_memory=off"), value, 0) for place, value in found]
    return _rows(check, rows, "Loader", title, False, see)


def step_parts(diagnosis: Diagnosis) -> Experiment | None:
    """Where the time of a training step goes."""
    check = diagnosis.check("step-time")
    see = "whether the step waits for data longer than it computes"
    rows = [(p, 1000 * v, 0) for p, v in _by_place(check, "seconds")]
    return _rows(check, rows, "Time of a step", "time of each part of a step (ms)", False, see)


def _rows(
    check: CheckResult | None, rows: list[tuple[str, float, int]], name: str, title: str, logarithmic: bool, see: str
) -> Experiment | None:
    if check is None or not rows:
        return None
    said = "; ".join(f"{place}: {words.number(value, 3)}" for place, value, _ in rows[:ROWS])
    picture = charts.rows(rows[:ROWS], title, logarithmic, f"{title[:1].upper()}{title[1:]}. {said}.")
    return Experiment(check.id, name, see, picture)


def _by_place(check: CheckResult | None, name: str) -> Iterator[tuple[str, float]]:
    for e in check.evidence if check else ():
        if e.name == name and isinstance(e.value, (int, float)) and not isinstance(e.value, bool):
            yield e.where, float(e.value)


def _first(check: CheckResult | None, name: str) -> float | None:
    return next((v for _, v in _by_place(check, name) if math.isfinite(v)), None)


def _listed(check: CheckResult | None, name: str) -> list[float]:
    return next((words.numeric(e.value) for e in (check.evidence if check else ()) if e.name == name), [])
