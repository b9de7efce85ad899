"""Cells put side by side: means and intervals over seeds, paired differences, and what may be said of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sslwang.circumstances import fingerprint
from sslwang.data.labelled import Labelled
from sslwang.evaluation.cells import Method, Protocol
from sslwang.evaluation.starts import AUTOENCODER, CONTRASTIVE, RANDOM, Start
from sslwang.scores import Interval, Reliability, interval, paired
from sslwang.telling import counted, points

METRIC = "accuracy"  # over all classes of training; every other score is in the cells
CLOSE = 0.03  # of accuracy: what counts as level with the contrastive baseline
LEARNED = 0.1  # of the way from chance to 1: a pretext score below is called hardly learned
ENOUGH = 3  # seeds, with fewer nothing is said
METHOD_NAMES = {"knn": "nearest neighbours", "probe": "linear probe", "finetune": "fine-tuning"}


@dataclass(frozen=True)
class Facts:
    """What a page tells of the labelled data.

    Args:
        source: as it was asked for. classes: names of all classes of training, as people call them.
        valid_classes: how many of them validation has. train, valid: images.
        majority: share of the validation's most frequent class: what the best constant scores.
    """

    source: str
    classes: tuple[str, ...]
    valid_classes: int
    train: int
    valid: int
    majority: float

    @classmethod
    def of(cls, data: Labelled) -> Facts:
        """Facts of labelled data."""
        counts = np.bincount(data.valid.labels)
        titles = tuple(data.title(i) for i in range(len(data.classes)))
        majority = float(counts.max() / counts.sum())
        return cls(data.source, titles, len(data.valid_classes), len(data.train), len(data.valid), majority)


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found out of some starts on one source of labelled images.

    Args:
        starts: random weights and baselines first.
        cells: finished ones, as their files hold them.
        missing: what could not be computed, and why.
        baselines: False where only random weights stand beside the runs.
        other_code: pretrainings by other code than this, and what of it has changed since.
    """

    facts: Facts
    protocol: Protocol
    starts: tuple[Start, ...]
    methods: tuple[Method, ...]
    fractions: tuple[float, ...]
    seeds: tuple[int, ...]
    cells: tuple[dict, ...]
    missing: tuple[str, ...] = ()
    baselines: bool = True
    other_code: tuple[str, ...] = ()

    def of(self, start: str, method: str, fraction: float) -> list[dict]:
        """Cells of one start, method and fraction in the order of the seeds."""
        found = [c for c in self.cells if (c["start"], c["method"], c["fraction"]) == (start, method, fraction)]
        return sorted(found, key=lambda c: c["seed"])

    def values(self, start: str, method: str, fraction: float, metric: str = METRIC) -> dict[int, float]:
        """A score by seed."""
        return {c["seed"]: c["scores"][metric] for c in self.of(start, method, fraction)}

    def mean(self, start: str, method: str, fraction: float, metric: str = METRIC) -> Interval | None:
        """Mean and interval of a score over the seeds; None where no cell is finished."""
        found = [v for v in self.values(start, method, fraction, metric).values() if v is not None]
        return interval(found) if found else None

    def difference(self, start: str, other: str, method: str, fraction: float, metric: str = METRIC) -> Interval | None:
        """Mean of the differences between two starts under equal seeds; None where they share none."""
        a, b = (self.values(name, method, fraction, metric) for name in (start, other))
        both = sorted(a.keys() & b.keys())
        return paired([a[s] for s in both], [b[s] for s in both]) if both else None

    def labels(self, fraction: float) -> int | None:
        """Labelled images that a fraction came to."""
        return next((c["labels"] for c in self.cells if c["fraction"] == fraction), None)

    def confusion(self, start: str, method: str, fraction: float) -> np.ndarray | None:
        """Rows by true and predicted class, (C, C), summed over the seeds."""
        found = [np.array(c["confusion"]) for c in self.of(start, method, fraction)]
        return sum(found) if found else None

    def reliability(self, start: str, method: str, fraction: float) -> Reliability | None:
        """Confidence against accuracy of the predictions of all seeds together."""
        found = [c["reliability"] for c in self.of(start, method, fraction)]
        if not found:
            return None
        counts = np.array([r["count"] for r in found])
        means = [
            np.divide((_numbers(found, name) * counts).sum(0), counts.sum(0), out=np.full(counts.shape[1], np.nan),
                      where=counts.sum(0) > 0)
            for name in ("confidence", "accuracy")
        ]  # fmt: skip
        return Reliability(np.array(found[0]["edges"]), counts.sum(0), *means)

    @property
    def few(self) -> float:
        """The smallest fraction of the labels."""
        return min(self.fractions)

    @property
    def pretexts(self) -> list[Start]:
        """The starts that are asked about."""
        return [s for s in self.starts if s.kind == "pretext"]


def _numbers(found: Sequence[dict], name: str) -> np.ndarray:
    return np.nan_to_num(np.array([r[name] for r in found], dtype=np.float64))  # of an empty bin there is no mean


# ---- what may be said ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """One start by one method at one fraction, beside random weights and the contrastive baseline.

    Args:
        difference: to random weights. behind: to the contrastive baseline; None where there is none.
        enough: whether both share as many seeds as a comparison needs.
        alike: the difference is the same under every seed, so that it has no interval and nothing follows.
        beats, worse: the whole interval of `difference` is above or below 0.
        close: on the mean no more than 3 points below the contrastive baseline.
    """

    start: str
    kind: str
    method: str
    fraction: float
    difference: Interval
    behind: Interval | None

    @property
    def enough(self) -> bool:
        """See the class."""
        return self.difference.n >= ENOUGH

    @property
    def alike(self) -> bool:
        """See the class."""
        return self.enough and self.difference.alike

    @property
    def beats(self) -> bool:
        """See the class."""
        return self.enough and self.difference.excludes(0) and self.difference.mean > 0

    @property
    def worse(self) -> bool:
        """See the class."""
        return self.enough and self.difference.excludes(0) and self.difference.mean < 0

    @property
    def close(self) -> bool:
        """See the class."""
        return self.behind is not None and self.behind.n >= ENOUGH and self.behind.mean >= -CLOSE


def verdicts(found: Evaluation, fraction: float | None = None, metric: str = METRIC) -> list[Verdict]:
    """A verdict a start and method, random weights left out."""
    fraction = found.few if fraction is None else fraction
    made = []
    for start in found.starts:
        for method in found.methods if start.kind != "random" else ():
            difference = found.difference(start.name, RANDOM, method, fraction, metric)
            behind = found.difference(start.name, CONTRASTIVE, method, fraction, metric)
            if difference is not None:
                behind = behind if start.name != CONTRASTIVE else None
                made.append(Verdict(start.name, start.kind, method, fraction, difference, behind))
    return made


def share(fraction: float) -> str:
    """A fraction in words: `1 %`."""
    return f"{100 * fraction:g} %"


def sentences(found: Evaluation) -> list[str]:
    """What was found, a sentence each; nothing is said of what too few seeds cannot show."""
    if len(found.seeds) < ENOUGH:
        return [
            f"Nothing is said of differences: {counted(len(found.seeds), 'seed')}, and a comparison needs {ENOUGH}."
        ]
    all_ = verdicts(found)
    lines = _summary(found, all_)
    for start in found.starts:
        mine = [v for v in all_ if v.start == start.name]
        if mine:
            lines.append(_of_start(start, mine))
    lines += _cautions(found, all_)
    return lines


def _summary(found: Evaluation, all_: Iterable[Verdict]) -> list[str]:
    asked = [v for v in all_ if v.kind == "pretext"]
    if not asked:
        return []
    total = len({v.start for v in asked})
    few = f"with {share(found.few)} of the labels ({found.labels(found.few)} images)"
    better, worse = (sorted({v.start for v in asked if getattr(v, n)}) for n in ("beats", "worse"))
    lines = [
        f"Of {counted(total, 'pretext task')}, {len(better)} {'beats' if len(better) == 1 else 'beat'} random weights "
        f"{few} by at least one method, beyond the 95 % interval{_listed(better)}."
    ]
    if worse:
        lines.append(f"Below random weights beyond the interval by at least one method{_listed(worse)}.")
    if any(v.behind is not None for v in asked):
        close = sorted({v.start for v in asked if v.close})
        both = sorted({v.start for v in asked if v.close and v.beats})
        lines.append(
            f"{len(close)} {'comes' if len(close) == 1 else 'come'} within 3 points of the contrastive baseline on the "
            f"mean, by at least one method{_listed(close)}; {len(both)} of them by a method that also puts it above "
            f"random weights{_listed(both)}."
        )
    return lines


def _of_start(start: Start, mine: Sequence[Verdict]) -> str:
    parts = []
    for said, which in (
        ("above random weights", [v for v in mine if v.beats]),
        ("below random weights", [v for v in mine if v.worse]),
        ("not told apart from random weights", [v for v in mine if v.enough and not (v.beats or v.worse or v.alike)]),
        ("the same difference under every seed, which has no interval", [v for v in mine if v.alike]),
        (f"of fewer than {ENOUGH} seeds, of which nothing follows", [v for v in mine if not v.enough]),
    ):
        if which:
            told = ", ".join(f"{METHOD_NAMES[v.method]} {points(v.difference, True)}" for v in which)
            parts.append(f"{said}: {told}")
    near = [METHOD_NAMES[v.method] for v in mine if v.close]
    if near:
        parts.append(f"within 3 points of {CONTRASTIVE}: {', '.join(near)}")
    learned = _learned(start, any(v.beats for v in mine))
    return f"{start.name} in points: {'; '.join(parts)}." + (f" {learned}" if learned else "")


def _learned(start: Start, helps: bool) -> str:
    scores = [m.score for m in start.members if m.score is not None]
    if not scores or start.chance is None:
        return ""
    mean = sum(scores) / len(scores)
    if mean <= start.chance + LEARNED * (1 - start.chance):
        return f"It has hardly learned its own task ({start.metric} {mean:.2f}, chance {start.chance:.2f})."
    yet = "" if helps else ", yet that is not seen to help here"
    return f"It has learned its own task ({start.metric} {mean:.2f}, chance {start.chance:.2f}){yet}."


def _cautions(found: Evaluation, all_: Sequence[Verdict]) -> list[str]:
    lines = []
    if all_:
        expected = 0.025 * len(all_)
        lines.append(
            f"These are {counted(len(all_), 'comparison')}; were no start any better than random weights, about "
            f"{expected:.1f} of them would still come out above by their intervals."
        )
    told = {s.name: len({s.member(seed).seed for seed in found.seeds}) for s in found.starts if s.kind != "random"}
    once = [name for name, count in told.items() if count == 1]
    if once:
        lines.append(
            f"Pretrained once only, so that the intervals hold for these very weights{_listed(once)}: the spread "
            "between pretrainings is not in them."
        )
    reused = [f"{name} ({count})" for name, count in told.items() if 1 < count < len(found.seeds)]
    if reused:
        lines.append(
            f"Pretrained less often than {len(found.seeds)} times, so that some weights are judged under several seeds"
            f"{_listed(reused)}: the intervals are too narrow for the spread between pretrainings."
        )
    if any(s.budget.settings.get("data.with_val") for s in found.starts):
        lines.append("The images of validation were among the unlabelled ones of pretraining (data.with_val=true).")
    older = sum(c.get("code") != fingerprint() for c in found.cells)
    if older:
        lines.append(f"Of {counted(len(found.cells), 'cell')}, {older} computed by other code than this.")
    if found.other_code:
        lines.append(f"Pretrained by other code than this{_listed(found.other_code)}.")
    if not found.baselines:
        lines.append(
            f"A quick look: no {AUTOENCODER} and no {CONTRASTIVE} was trained beside the runs (--no-baselines)."
        )
    return lines


def _listed(names: Sequence[str]) -> str:
    return f": {', '.join(names)}" if names else ""
