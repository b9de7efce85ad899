"""Proofs by a change for subjects whose own loss raises: there is no trial as it is to compare with, only the error."""

from __future__ import annotations

from diagnose.causes import Settled, paired_trial, side
from diagnose.changes import Change
from diagnose.diagnosis import Proof, Side
from diagnose.errors import SubjectError
from diagnose.lab import Lab


def paired_or_rescued(lab: Lab, change: Change, raised: str = "") -> Settled:
    """The paired trial; where the subject as it is raises, proven if under the change it runs and learns its batch.

    Args:
        raised: the error, where an inspection on the CPU has met it: it is not called for again, since on CUDA a loss
            that refuses its input is an assertion on the device, after which nothing works any more.
    """
    if not raised:
        try:
            lab.baseline  # noqa: B018 - computed once, kept by the Lab
        except SubjectError as e:
            raised = f"{type(e.original).__name__}: {first_line(e.original)}"
    if not raised:
        return paired_trial(lab, change)
    after = lab.trial(change)
    before = Side(summary=f"it raises {raised}")
    return Settled(after.is_learned, False, Proof(change=change.name, kind="trial", before=before, after=side(after)))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, short enough for a sentence."""
    return (str(error).strip().splitlines() or [""])[0][:200]
