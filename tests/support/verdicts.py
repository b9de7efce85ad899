"""Running one check on a Learner, and what every `judge` must stand."""

from __future__ import annotations

import contextlib
import math
import warnings
from typing import Any

from fastai.learner import Learner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagnose.checks import Check, Judgement
from diagnose.errors import NotApplicable
from diagnose.evidence import Evidence, EvidenceList
from diagnose.isolate import untouched
from diagnose.lab import Lab
from diagnose.subject import from_learner

STATUSES = {"pass", "warn", "fail", "skip"}


def measured(check: Check, learn: Learner, seed: int = 0) -> EvidenceList:
    """Evidence of a check on a Learner."""
    with warnings.catch_warnings(), untouched(learn):
        warnings.simplefilter("ignore")
        return check.measure(Lab(from_learner(learn), seed))


def judged(check: Check, learn: Learner, seed: int = 0) -> Judgement:
    """Status and sentence of a check on a Learner."""
    return check.judge(measured(check, learn, seed))


def passes(check: Check, learn: Learner) -> None:
    """The check passes, or says why it cannot be asked."""
    status, summary = "skip", ""
    with contextlib.suppress(NotApplicable):
        status, summary = judged(check, learn)
    assert status in ("pass", "skip"), summary


def passes_as_odd(check: Check, learn: Learner, looks: str, fine: str, seed: int = 0) -> str:
    """The check passes, and says what the Learner looks like and which number shows that it is fine; the sentence."""
    status, summary = judged(check, learn, seed)
    assert status == "pass", summary
    looking, _, why = summary.partition("; is fine because ")
    assert looking.startswith(f"looks like {looks}"), summary
    assert fine in why, summary
    return summary


def _values() -> st.SearchStrategy[Any]:
    scalar = st.one_of(st.none(), st.booleans(), st.integers(-3, 300), st.floats(), st.text(max_size=4))
    return st.one_of(scalar, st.lists(st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=4))))


def judge_never_raises(check: Check, evidence: EvidenceList) -> None:
    """Whatever stands in evidence of the names and places given, or is missing, `judge` answers with a sentence."""
    places = [(e.name, e.where) for e in evidence]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(st.tuples(st.sampled_from(places), _values()), max_size=2 * len(places)))
    def holds(found: list) -> None:
        told = check.judge(EvidenceList(Evidence(name=n, where=w, value=v) for (n, w), v in found))
        assert told.status in STATUSES
        assert told.summary

    holds()
    assert check.judge(EvidenceList()).status != "pass"


def nan_never_passes(check: Check, evidence: EvidenceList, *names: str) -> None:
    """With NaN in place of the numbers of these names (all numbers if none is given) the check does not pass."""
    wanted = names or tuple({e.name for e in evidence})
    poisoned = EvidenceList(
        e.model_copy(update={"value": math.nan}) if e.name in wanted and isinstance(e.value, float) else e
        for e in evidence
    )
    assert any(isinstance(e.value, float) and math.isnan(e.value) for e in poisoned)
    assert check.judge(poisoned).status != "pass"
