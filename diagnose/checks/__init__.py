"""Checks, one a file: each is found by its being here.

A check measures and judges apart. `measure` yields evidence and passes no judgement; `judge` is a pure function of
evidence, so that an old report can be judged again under other thresholds.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

from diagnose.diagnosis import Status
from diagnose.evidence import Evidence, EvidenceList
from diagnose.lab import Lab


class Judgement(NamedTuple):
    """A status, and the sentence that gives its reason with the number in it."""

    status: Status
    summary: str


class Check:
    """One measurement.

    Attributes:
        stage: "inspection" (no forward pass), "probe" (a few passes) or "trial" (short trainings), run in this order.
        order: position within the stage, the cheapest first.
        cost: what it takes, in words: forward and backward passes, steps.
        extra: runs only when asked for (`--all`, `--only`), or when something failed and no cause is proven: it costs
            more than it tells about a subject that learns.
        decisive: no healthy subject can fail it, so that a failure settles the verdict without a proven cause.
    """

    id: ClassVar[str]
    doc: ClassVar[str]
    stage: ClassVar[Literal["inspection", "probe", "trial"]]
    order: ClassVar[int] = 50
    cost: ClassVar[str]
    extra: ClassVar[bool] = False
    decisive: ClassVar[bool] = False

    def measure(self, lab: Lab) -> EvidenceList:
        """Measure on copies.

        Raises:
            NotApplicable: this subject cannot be measured so; the reason is shown.
            SubjectError: the subject's own code raised on its own batch.
        """
        raise NotImplementedError

    def judge(self, evidence: EvidenceList) -> Judgement:
        """Judge measured evidence. Pure: reads nothing else, never raises; NaN never passes."""
        raise NotImplementedError


def listed(names: list[str], most: int = 3) -> str:
    """A few names and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def stated(value: object, digits: int = 3) -> str:
    """A number as a sentence shows it; missing or not finite numbers are said to be so."""
    if not isinstance(value, (int, float)):
        return "not measured"
    return f"{value:.{digits}g}"


def amount(learned: float) -> str:
    """What share of a batch was learned, as a sentence says it: at or below the best constant that is nothing."""
    if math.isnan(learned):
        return "nothing (not finite)"
    return "nothing" if learned < 0.005 else f"{learned:.0%}"


def odd_but_right(looks: str, fine: str) -> Judgement:
    """A pass that says what a healthy oddity looks like, and which number shows that it is not."""
    return Judgement("pass", f"looks like {looks}; is fine because {fine}")


__all__ = ["Check", "Evidence", "EvidenceList", "Judgement", "amount", "listed", "odd_but_right", "stated"]
