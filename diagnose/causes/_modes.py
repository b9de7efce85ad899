"""What the one-batch trial says of training mode and of evaluation mode."""

from __future__ import annotations

from diagnose.causes import Findings
from diagnose.causes._reading import number
from diagnose.checks.overfit_one_batch import GAP
from diagnose.trial import LEARNED

CHECK = "overfit-one-batch"
NOT = 0.5  # learned in evaluation mode, at most, before


def lagging(findings: Findings) -> tuple[float, float] | None:
    """What is learned in training mode, and in evaluation mode, where the batch is learned in the one and not in the
    other; None elsewhere."""
    learned, there = number(findings, CHECK, "learned"), number(findings, CHECK, "learned, evaluation mode")
    return (learned, there) if learned >= LEARNED and there < NOT and learned - there > GAP else None
