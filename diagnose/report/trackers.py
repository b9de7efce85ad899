"""What experiment trackers are told, and how often: TensorBoard (`tensorboard`) and Comet (`comet`) show the same.

`tell` gives a tracker all of a finished run. `Live` is told by a `Watch` while a model trains, and passes on as much as
costs next to nothing: at most `SHARE` of the time since the fit began, and no more bytes than the tracker's limit.
"""

from __future__ import annotations

import contextlib
import html
import re
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from diagnose.alarms import Raised
from diagnose.diagnosis import Diagnosis
from diagnose.errors import DiagnoseError
from diagnose.evidence import Value
from diagnose.gauges import Columns
from diagnose.report import JSON, PNG, TIME, figures, markdown, words
from diagnose.report.recorded import (
    COLUMNS,
    KEYS,
    ZERO,
    Recorded,
    evenly,
    is_curve,
    place_name,
    recorded,
    recorded_of,
)
from diagnose.stats import histogram_edges
from diagnose.store import Store
from diagnose.watch import Listener

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARE = 0.01  # of the time since the fit began: what a live tracker may take
BURST = 0.25  # seconds that it may take at once, at the beginning
PLACES = 200  # layers or parameters of one table that a tracker is told of at most, evenly chosen
STEPS = 5_000  # steps of a curve that a tracker is told of at most, evenly chosen
DRAWN_AFTER = 60.0  # seconds: figures take some, so that they are drawn at the end of longer fits only, or when closed
ROOM = {"steps": 0.25, "layers": 0.7}  # of a tracker's limit; the rest is for texts and figures
NAME = 201  # characters of a tag

Bins = tuple[np.ndarray, np.ndarray]  # [n + 1] edges, [n] counts


class Tracker(ABC):
    """Where a run is told to. Steps count the training steps of a Watch; tags are "group/name".

    Attributes:
        pause: seconds at least between two tellings of single layers while a model trains.
        sparse: of those, only every so many come with histograms.
        moments: steps of which a finished run's histograms are told, at most.
        limit: bytes. written: bytes told so far, as near as is known.
    """

    pause: ClassVar[float]
    sparse: ClassVar[int]
    moments: ClassVar[int]
    limit: ClassVar[int]
    written: int = 0

    @abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step by tag."""

    @abstractmethod
    def histograms(self, step: int, values: Mapping[str, Bins]) -> None:
        """Histograms of one step by tag."""

    @abstractmethod
    def figure(self, name: str, drawn: Figure, step: int | None = None) -> None:
        """A figure."""

    @abstractmethod
    def picture(self, name: str, png: bytes) -> None:
        """A picture of the batch."""

    @abstractmethod
    def text(self, name: str, said: str, step: int | None = None) -> None:
        """A text in Markdown; what is not ours in it is escaped."""

    def alarm(self, raised: Raised) -> None:
        """An alarm that was raised while a model trained."""
        where = f" ({_plain(raised.where)})" if raised.where else ""
        said = f"**{_plain(raised.id)}**{where} at step {raised.step:,}: {_plain(raised.message)}"
        self.text("alarms", said, raised.step)

    def mark(self, step: int, name: str) -> None:
        """Something of that name begins with a step."""
        self.text("marks", f"**{_plain(name)}** begins with step {step:,}", step)

    @abstractmethod
    def settings(self, values: Mapping[str, Value], results: Mapping[str, float]) -> None:
        """Settings of the run, and the numbers that it is compared by."""

    @abstractmethod
    def flush(self) -> None:
        """What was told is where it belongs."""

    @abstractmethod
    def close(self) -> None:
        """Nothing follows. Called again, it does nothing."""


# ---- a finished run --------------------------------------------------------------------------------------------------


def finished(run: Path) -> tuple[Diagnosis | None, Recorded | None]:
    """What a folder holds: that of `diagnose run`, or of `Watch(folder)`.

    Raises:
        DiagnoseError: neither, or it cannot be read.
    """
    if (run / JSON).is_file():
        try:
            diagnosis = Diagnosis.load(run)
        except (OSError, ValueError) as e:
            raise DiagnoseError(f"{run / JSON} cannot be read: {type(e).__name__}; run the examination again") from e
        return diagnosis, recorded_of(diagnosis, run)
    found = recorded(Store.read(run))
    if found is None:
        raise DiagnoseError(f"{run}: nothing was recorded there yet")
    return None, found


def tell(tracker: Tracker, diagnosis: Diagnosis | None, found: Recorded | None) -> None:
    """Tell all of a finished run: verdict, settings, batch, curves, statistics, histograms, alarms, figures."""
    if diagnosis is not None:
        _tell_diagnosis(tracker, diagnosis)
    if found is not None:
        _tell_recorded(tracker, found)
    for name, drawn in figures.everything(diagnosis, found).items():
        tracker.figure(name, drawn)


def _tell_diagnosis(tracker: Tracker, d: Diagnosis) -> None:
    statuses = [c.status for c in d.checks]
    baseline = d.check("overfit-one-batch")
    learned = next((e.value for e in baseline.evidence if e.name == "learned"), None) if baseline else None
    results = {"checks failed": statuses.count("fail"), "causes proven": sum(c.proven for c in d.causes)}
    if isinstance(learned, (int, float)):
        results["learned of one batch"] = float(learned)
    kept = {
        "subject": d.subject.name,
        "model": d.subject.model,
        "loss": d.subject.loss,
        "optimizer": d.subject.optimizer,
    }
    tracker.settings({**kept, "seed": d.seed, **d.subject.settings}, {f"result/{k}": v for k, v in results.items()})
    tracker.text("report/1 verdict", verdict(d))
    tracker.text("report/2 checks", checks(d))
    if d.samples:
        tracker.text("report/3 batch", batch(d))
    for i, sample in enumerate(d.samples):
        for part in sample.inputs:
            png = d.files.get(part.file, b"")
            if png.startswith(PNG) and len(png) > 33:
                tracker.picture(tag("batch", f"row {i} {part.title}"), png)
    for cause in d.causes:
        if cause.proof is None:
            continue
        for name, side in (("as it is", cause.proof.before), ("with the change", cause.proof.after)):
            for step in evenly(len(side.loss), STEPS):
                tracker.scalars(int(step), {tag(f"proof {cause.id}", name): float(side.loss[step])})


def _tell_recorded(tracker: Tracker, found: Recorded) -> None:
    steps: dict[int, dict[str, float]] = {}
    for name, curve in found.curves.items():
        for i in evenly(len(curve.steps), STEPS):
            if name == "loss" or not np.isnan(curve.values[i]):
                steps.setdefault(int(curve.steps[i]), {})[step_tag(name)] = float(curve.values[i])
    for table, grid in found.grids.items():
        places = evenly(len(grid.places), PLACES)
        for column, values in grid.values.items():
            tags = {i: tag(f"{table} {column}", grid.places[i]) for i in places}
            for k, step in enumerate(grid.steps.tolist()):
                told = steps.setdefault(step, {})
                for i in places:
                    if not np.isnan(values[i, k]):
                        told[tags[i]] = float(values[i, k])
    for step in sorted(steps):
        tracker.scalars(step, steps[step])
    for table, kept in found.histograms.items():
        places = evenly(len(kept.places), PLACES)
        for k in evenly(len(kept.steps), tracker.moments):
            found_bins = {tag(table, kept.places[i]): bins(kept.counts[i, k], int(kept.tops[i, k])) for i in places
                          if kept.present[i, k]}  # fmt: skip
            tracker.histograms(int(kept.steps[k]), {n: b for n, b in found_bins.items() if b is not None})
    for raised in found.alarms:
        tracker.alarm(raised)
    for step, name in found.marks:
        tracker.mark(step, name)
    if found.notes:
        lines = [f"- {_plain(place)}: {_plain(why)}" for place, why in found.notes.items()]
        tracker.text("report/4 not recorded", "\n".join(lines))


# ---- names, numbers and texts ----------------------------------------------------------------------------------------


def tag(group: str, name: str) -> str:
    """A tag: its group, of which a tracker makes a section, and the name of a thing, however odd.

    Without parentheses: TensorBoard's page of custom scalars cuts names at them, and then draws nothing.
    """
    name = re.sub(r"[()]", "", " ".join(words.safe(name).split())).encode("utf-8", "replace").decode()
    return f"{group}/{words.shortened(name, NAME) or 'the model'}"


def step_tag(column: str) -> str:
    """The tag of a column of the table `steps`: "gradient/gradient_norm"."""
    return tag(column.split("_")[0], column)


def plain_settings(values: Mapping[str, Value]) -> dict[str, bool | int | float | str]:
    """Settings as trackers keep them: lists and what is missing become texts."""
    return {words.safe(k): v if isinstance(v, (bool, int, float, str)) else words.value(v) for k, v in values.items()}


def bins(counts: np.ndarray, top: int) -> Bins | None:
    """A histogram of the store without its empty ends, what is not finite left out; None if nothing is left.

    Exact zeros have a bin of no width there. As viewers divide by the width, it is given half of each neighbour.
    """
    finite = counts[:-1].astype(float)
    known = np.flatnonzero(finite)
    if not len(known):
        return None
    edges = histogram_edges(max(top, -250))
    edges[ZERO], edges[ZERO + 1] = edges[ZERO - 1] / 2, edges[ZERO + 2] / 2
    return edges[known[0] : known[-1] + 2], finite[known[0] : known[-1] + 1]


def _plain(text: str) -> str:
    "Text of others, as one line of Markdown that means nothing but itself."
    line = html.escape(" ".join(words.safe(text).split()), quote=False)
    return "".join(f"&#{ord(c)};" if c in "|`*_[]\\#~!" else c for c in line)


def verdict(d: Diagnosis) -> str:
    """Verdict, causes and the way out."""
    lines = [f"## {d.verdict.upper()}: {_plain(d.subject.name)}", _plain(d.summary or words.VERDICTS[d.verdict])]
    if d.partial:
        lines.append("Interrupted: this is what had been done by then.")
    for cause in d.causes:
        state = "proven" if cause.proven else "refuted" if cause.refuted else "suspected"
        lines.append(f"### {_plain(cause.id)} ({state}, {words.number(cause.score, 2)})\n\n{_plain(cause.summary)}")
        if cause.proof is not None:
            for name, side in (("As it is", cause.proof.before), ("With the change", cause.proof.after)):
                lines.append(f"- {name}: {_plain(side.summary)}")
        if cause.proven:
            lines.append(_plain(cause.fix.text))
            if cause.fix.code:
                lines.append(markdown.block(cause.fix.code))
    return "\n\n".join(lines)


def checks(d: Diagnosis) -> str:
    """Every check with its result, as a table; and what was not examined."""
    rows = [(c.status, c.id, c.summary, words.seconds(c.seconds)) for c in words.by_severity(d.checks)]
    rows += [("not examined", u.id, u.reason, "") for u in d.unchecked]
    return _table(("result", "check", "what was found", "took"), rows)


def batch(d: Diagnosis) -> str:
    """The rows of the batch with what was asked, what was answered, and the loss of each."""
    rows = [
        (
            str(i),
            "; ".join(p.text or f"picture of {p.title}" for p in s.inputs),
            s.target,
            s.prediction,
            words.number(s.loss),
        )
        for i, s in enumerate(d.samples)
    ]
    return _table(("row", "input", "target", "prediction", "loss"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *(tuple(map(_plain, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# ---- while a model trains --------------------------------------------------------------------------------------------


class Live(Listener):
    """Tells a tracker what a Watch records, while it trains.

    Numbers of whole steps are told of every recorded step, or of the last one of a block if the time is short; those of
    single layers now and then, and at the end of a fit. The fuller the tracker, the rarer. The other processes of a
    distributed training tell nothing.
    """

    def __init__(self):
        self.tracker: Tracker | None = None
        self.spent = 0.0
        self._began = self._told_layers_at = 0.0
        self._cost_of_layers = self._cost_of_step = 0.0
        self._count = self._told_layers = 0
        self._used = dict.fromkeys(ROOM, 0)
        self._newest: dict[str, Columns] = {}
        self._undrawn: Store | None = None
        self._started = self._stopped = 0.0

    def open(self) -> Tracker:
        """The tracker, when the first fit begins."""
        raise NotImplementedError

    def on_start(self, learn: Any) -> None:
        from fastai.torch_core import rank_distrib

        if rank_distrib():
            return
        now = time.perf_counter()
        if self.tracker is None:
            self.tracker = self.open()
            weakref.finalize(self, _close_quietly, self.tracker)  # also when the process ends
            self.tracker.settings(settings_of(learn), {})
            self._began = time.perf_counter()
        else:  # the time between two fits is not the training's
            self._began += now - self._stopped
        self._started = self._stopped = time.perf_counter()

    def on_rows(self, table: str, columns: Columns) -> None:
        if self.tracker is None:
            return
        if table != "steps":
            self._newest[table] = columns
            return
        began = time.perf_counter()
        self._layers()  # of the block before: those of this one follow
        self._steps(columns)
        self.spent += time.perf_counter() - began

    def on_alarm(self, raised: Raised) -> None:
        if self.tracker is not None:
            self.tracker.alarm(raised)

    def on_mark(self, step: int, name: str) -> None:
        if self.tracker is not None:
            self.tracker.mark(step, name)

    def on_end(self, store: Store) -> None:
        if self.tracker is None:
            return
        self._layers(whatever=True)
        self._undrawn = store
        now = time.perf_counter()
        if now - self._started >= DRAWN_AFTER:
            self._draw(self.tracker)
        self.tracker.flush()
        self._stopped = time.perf_counter()

    def close(self) -> None:
        if self.tracker is not None:
            tracker, self.tracker = self.tracker, None
            try:
                self._draw(tracker)
            finally:
                tracker.close()

    def _draw(self, tracker: Tracker) -> None:
        store, self._undrawn = self._undrawn, None
        found = None if store is None else recorded(store)
        if found is not None:
            for name, drawn in figures.everything(None, found).items():
                tracker.figure(name, drawn, found.last)

    def _stride(self, kind: str) -> int:
        """Of so many only one is told: 1 while there is room, 4 when half of it is left, 100 when a tenth is.

        As that rises with the square of what was told, a hundred times of what there is room for make it full; then 0.
        """
        room = self.tracker.limit * ROOM[kind]
        left = room - self._used[kind]
        return int((room / left) ** 2) if left > room / 100 else 0

    def _may(self, cost: float) -> bool:
        return self.spent + cost <= BURST + SHARE * (time.perf_counter() - self._began)

    def _steps(self, columns: Columns) -> None:
        stride, rows = self._stride("steps"), len(columns["step"])
        if not stride:
            return
        chosen = [i for i in range(rows) if (self._count + i) % stride == 0]
        self._count += rows
        if not self._may(self._cost_of_step * len(chosen)):
            chosen = chosen[-1:]
        values = {step_tag(n): np.asarray(v, dtype=float) for n, v in columns.items() if is_curve(n, v)}
        began, before = time.perf_counter(), self.tracker.written
        for i in chosen:
            told = {n: float(v[i]) for n, v in values.items() if n == "loss/loss" or not np.isnan(v[i])}
            self.tracker.scalars(int(columns["step"][i]), told)
        if chosen:
            self._cost_of_step = (time.perf_counter() - began) / len(chosen)
        self._used["steps"] += self.tracker.written - before

    def _layers(self, whatever: bool = False) -> None:
        stride = self._stride("layers")
        if not self._newest or not stride:
            return
        began = time.perf_counter()
        waited = began - self._told_layers_at >= self.tracker.pause * stride or not self._told_layers
        if not whatever and not (waited and self._may(self._cost_of_layers)):
            return
        with_histograms = whatever or self._told_layers % self.tracker.sparse == 0
        newest, self._newest, before = self._newest, {}, self.tracker.written
        for table, columns in newest.items():
            step, found, shapes = _of_last_step(table, columns, with_histograms)
            if found:
                self.tracker.scalars(step, found)
            if shapes:
                self.tracker.histograms(step, shapes)
        self._used["layers"] += self.tracker.written - before
        self._told_layers += 1
        self._told_layers_at = time.perf_counter()
        self._cost_of_layers = self._told_layers_at - began


def folder_within(watched: Path | None, name: str) -> Path:
    """A tracker's folder in that of a Watch; in runs/<time> if it has none."""
    return (watched or Path("runs") / datetime.now().strftime(TIME)) / name


def _close_quietly(tracker: Tracker) -> None:
    "At the end of a process, or of a listener that was turned off: whoever could be told was told."
    with contextlib.suppress(Exception):
        tracker.close()


def _of_last_step(table: str, columns: Columns, shapes: bool) -> tuple[int, dict[str, float], dict[str, Bins]]:
    "Statistics and histograms of the last step of a block, by tag."
    step = int(columns["step"][-1])
    rows = np.flatnonzero(columns["step"] == step)
    rows = rows[evenly(len(rows), PLACES)].tolist()
    names = list(_names(table, columns, rows))
    found = {}
    for column in COLUMNS.get(table, ()):
        values = np.asarray(columns[column], dtype=float)
        found |= {tag(f"{table} {column}", n): values[i] for i, n in zip(rows, names) if not np.isnan(values[i])}
    made = {}
    if shapes and "histogram" in columns:
        made = {tag(table, n): bins(columns["histogram"][i], int(columns["top"][i])) for i, n in zip(rows, names)}
    return step, {n: float(v) for n, v in found.items()}, {n: b for n, b in made.items() if b is not None}


def _names(table: str, columns: Columns, rows: list[int]) -> Iterator[str]:
    keys = KEYS.get(table)
    if keys is None:
        key = "parameter" if "parameter" in columns else "step"
        yield from (str(columns[key][i]) for i in rows)
        return
    for i in rows:
        layer, kind, call, *part = (columns[k][i] for k in keys)
        yield place_name(layer, kind, int(call), *map(int, part))


def settings_of(learn: Any) -> dict[str, Value]:
    """What a training is set to, as far as a Learner tells."""
    hypers = dict(learn.opt.hypers[-1]) if getattr(learn.opt, "hypers", None) else {}
    loss, model = learn.loss_func, learn.model
    return {
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss": getattr(loss, "__name__", type(loss).__name__),
        "optimizer": type(learn.opt).__name__,
        "batch size": getattr(getattr(learn.dls, "train", None), "bs", None),
        "epochs": getattr(learn, "n_epoch", None),
        **{k: v for k, v in hypers.items() if isinstance(v, (bool, int, float, str))},
    }
