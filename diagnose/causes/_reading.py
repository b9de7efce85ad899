"""Findings of any kind as numbers and texts, so that no suspicion ever raises and NaN never suspects."""

from __future__ import annotations

from diagnose.causes import Findings
from diagnose.checks import EvidenceList, _numbers


def evidence(findings: Findings, check: str) -> EvidenceList:
    """What a check measured; empty if it did not run."""
    return findings.get(check, EvidenceList())


def number(findings: Findings, check: str, name: str, where: str | None = None) -> float:
    """A measured number; NaN if it was not measured or is no number."""
    return _numbers.number(evidence(findings, check), name, where)


def texts(findings: Findings, check: str, name: str, where: str | None = None) -> list[str]:
    """A measured list as texts; empty if it was not measured or is no list."""
    return _numbers.texts(evidence(findings, check), name, where)


def by_place(findings: Findings, check: str, name: str) -> dict[str, float]:
    """Every number of that name by the place where it was measured."""
    return _numbers.by_place(evidence(findings, check), name)


def text(findings: Findings, check: str, name: str, where: str | None = None) -> str:
    """A measured text; empty if it was not measured or is no text."""
    value = evidence(findings, check).get(name, where)
    return value if isinstance(value, str) else ""


def truth(findings: Findings, check: str, name: str, where: str | None = None) -> bool | None:
    """A measured truth value; None if it was not measured or is none."""
    value = evidence(findings, check).get(name, where)
    return value if isinstance(value, bool) else None


def places(findings: Findings, check: str, name: str) -> list[str]:
    """Everywhere that something of this name was measured, in order."""
    return [e.where for e in evidence(findings, check).all(name)]
