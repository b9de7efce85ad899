"""Paired trials beyond one batch, for faults with which one batch is learned all the same."""

from __future__ import annotations

import math

from diagnose.causes import Settled, outcome_of, side
from diagnose.changes import Change
from diagnose.checks._probing import cut, trial_on
from diagnose.diagnosis import Proof
from diagnose.errors import NotApplicable
from diagnose.isolate import loaders
from diagnose.lab import ROWS, Lab
from diagnose.stats import tensors

PIECES = 8  # different batches of 16 rows: 25 visits each in a full trial


def several_batches(lab: Lab, count: int = PIECES, rows: int = ROWS) -> list:
    """Different training batches of `rows` rows each, cut from the loader's own.

    Raises:
        NotApplicable: they cannot be cut so, or the loader has too few.
    """
    whole = len(tensors(lab.whole_batch)[0])
    pieces: list = []
    for batch in lab.read(loaders(lab.learn)[0], math.ceil(count * rows / max(whole, 1)) + 1):
        pieces += cut(batch, min(rows, whole))
    if len(pieces) < 2:
        raise NotApplicable("the loader gives fewer than two batches")
    return pieces[:count]


def paired_on_several(lab: Lab, change: Change, rows: int = ROWS) -> Settled:
    """As `paired_trial`, over several different batches of `rows` rows to the last step: what one batch forgives shows
    there."""
    batches = several_batches(lab, rows=rows)
    before = trial_on(lab, batches, stop_at=math.inf)
    after = lab.trial(change, batches=batches, stop_at=math.inf)
    proof = Proof(
        change=f"{change.name}, over {len(batches)} different batches",
        kind="trial",
        before=side(before),
        after=side(after),
    )
    outcome = outcome_of(before, after)
    return Settled(outcome == "proven", outcome == "refuted", proof)


def paired_with_control(lab: Lab, change: Change, control: Change, told: str) -> Settled:
    """As `paired_trial`, against a control as well that has everything of the change but its point: what drawing
    weights anew does by itself proves nothing.

    Args:
        told: how the report calls what is learned under the control.
    """
    before, anew, after = lab.baseline, lab.trial(control), lab.trial(change)
    proof = Proof(change=change.name, kind="trial", before=side(before, {told: anew.learned}), after=side(after))
    outcomes = [outcome_of(before, after), outcome_of(anew, after)]
    return Settled(all(o == "proven" for o in outcomes), "refuted" in outcomes, proof)
