"""Evidence of any kind as numbers and texts, so that a judgement never raises."""

from __future__ import annotations

import math

from diagnose.checks import EvidenceList


def number(evidence: EvidenceList, name: str, where: str | None = None) -> float:
    """A measured number; NaN if it is missing or no number."""
    return as_number(evidence.get(name, where))


def as_number(value: object) -> float:
    """A value as a float; NaN if it is no number."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def by_place(evidence: EvidenceList, name: str) -> dict[str, float]:
    """Every number of that name by the place where it was measured."""
    return {e.where: as_number(e.value) for e in evidence.all(name)}


def place_of(evidence: EvidenceList, name: str) -> str:
    """Where the first of that name was measured; empty if it is missing."""
    return next((e.where for e in evidence.all(name)), "")


def texts(evidence: EvidenceList, name: str, where: str | None = None) -> list[str]:
    """A measured list as texts; empty if it is missing or no list."""
    value = evidence.get(name, where)
    return [str(v) for v in value] if isinstance(value, list) else []


def everywhere(evidence: EvidenceList, name: str) -> list[str]:
    """The lists measured at all places together, as texts."""
    return [str(v) for e in evidence.all(name) if isinstance(e.value, list) for v in e.value]


def count(value: float) -> str:
    """A number of things as a sentence shows it."""
    return f"{value:.0f}" if math.isfinite(value) else "an unknown number of"
