"""How numbers, values and verdicts are spelled, the same in every report."""

from __future__ import annotations

import math
import unicodedata
from typing import NamedTuple

from diagnose.diagnosis import QUESTIONS, Answer, CheckResult, Diagnosis, Sample
from diagnose.evidence import Value

VERDICTS = {
    "pass": "Every gate check passed and no cause is proven.",
    "warn": "Something is suspected but not proven, or a check had to be skipped.",
    "fail": "A cause is proven, or a check failed that no healthy subject can fail.",
}
SEVERITY = ("fail", "warn", "skip", "pass")
ANSWERS = {"yes": "fail", "suspected": "warn", "no": "pass", "none known": "skip", "not tested": "skip"}
"""Answers of the checklist, the most certain first, and the status of a check that looks like each."""


def safe(text: str) -> str:
    """Text that steers neither a terminal nor the lines around it: no control characters, no direction overrides."""
    return "".join(
        c if c in "\n\t" else "" if _directs(c) else "�" if unicodedata.category(c) == "Cc" else c for c in text
    )


def clipped(text: str, most: int) -> str:
    """Its beginning, of at most `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def shortened(text: str, most: int) -> str:
    """Its beginning and its end, of at most `most` characters: of a layer's name both tell."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[len(text) - (most - most // 2 - 1) :]}"


def listed(names: list[str], most: int) -> str:
    """The first `most` of some names, and how many there are more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def number(value: float | None, digits: int = 4) -> str:
    """A number to `digits` significant places; whole numbers keep all of theirs, with thousands set apart."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if abs(value) < 1e7 and value == int(value):
        return f"{int(value):,}"
    return f"{value:.{digits}g}"


def learned(value: float | None) -> str:
    """The share learned, to two places; a dash where it has no meaning."""
    if value is None or math.isnan(value):
        return "–"
    if abs(value) >= 100:
        return number(value, 3)
    return f"{value + 0.0:.2f}".replace("-0.00", "0.00")


def value(item: Value) -> str:
    """Any evidence value as text; a list is spelled item by item."""
    if item is None:
        return "–"
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, (int, float)):
        return number(item)
    if isinstance(item, list):
        return ", ".join(value(v) for v in item) or "none"
    return item


def numeric(item: Value) -> list[float]:
    """The numbers of a list-valued evidence, or nothing if any of its items is no number."""
    if not isinstance(item, list) or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in item):
        return []
    return [float(v) for v in item]


def seconds(value: float | None) -> str:
    """A duration as a person says it."""
    if value is None or not math.isfinite(value):
        return number(value)
    if value >= 120:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes:,} min {rest:02d} s"
    return f"{value:.0f} s" if value >= 10 and value == int(value) else f"{value:.1f} s"


def by_severity(checks: list[CheckResult]) -> list[CheckResult]:
    """What failed first, then what is doubtful; otherwise in the order it was measured."""
    return sorted(checks, key=lambda c: SEVERITY.index(c.status))


def tally(diagnosis: Diagnosis) -> str:
    """How many checks ended how, e.g. "1 fail, 8 pass"."""
    counts = {s: sum(c.status == s for c in diagnosis.checks) for s in SEVERITY}
    return ", ".join(f"{n} {s}" for s, n in counts.items() if n) or "none"


class Question(NamedTuple):
    """One line of the checklist: what is asked, the answer over all its causes, and those causes.

    Where something is wrong and nothing is proven, the answer is "none known" instead of "no": of the causes that are
    known none is it, and one that is not known may be.
    """

    asked: str
    answer: str
    causes: list[Answer]


def by_certainty(answers: list[Answer]) -> list[Answer]:
    """The most certain first; otherwise by name."""
    certainty = list(ANSWERS)
    return sorted(answers, key=lambda a: (certainty.index(a.answer), a.id))


def questions(diagnosis: Diagnosis) -> list[Question]:
    """The notes' checklist line by line, then whatever it does not ask; the most certain causes of a line first."""
    found, open_ = [], diagnosis.verdict != "pass" and diagnosis.cause is None
    for number, asked in [*QUESTIONS.items(), (None, "Is it anything else?")]:
        mine = by_certainty([a for a in diagnosis.checklist if (number in a.questions if number else not a.questions)])
        if mine:
            answer = "none known" if open_ and mine[0].answer == "no" else mine[0].answer
            found.append(Question(f"{number}. {asked}" if number else asked, answer, mine))
    return found


def checklist(diagnosis: Diagnosis) -> str:
    """How many causes were answered how, e.g. "1 yes, 50 no, 6 not tested"."""
    counts = {c: sum(a.answer == c for a in diagnosis.checklist) for c in ANSWERS}
    return ", ".join(f"{n} {c}" for c, n in counts.items() if n)


def ranked(samples: list[Sample]) -> list[tuple[str, list[Sample]]]:
    """The items of the batch in groups: the first rows, the hardest and the easiest, each with its title."""
    titles = {"": "First rows", "hardest": "Hardest: the largest losses", "easiest": "Easiest: the smallest losses"}
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(titles.get(sample.rank.split(" ")[0], titles[""]), []).append(sample)
    return list(groups.items())


def _directs(c: str) -> bool:
    return "\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069"
