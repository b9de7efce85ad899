"""What every check's tests share: measuring and judging a Learner, and evidence as anything at all for `judge`."""

from __future__ import annotations

import contextlib
import math
import warnings
from functools import cache
from typing import get_args

from fastai.learner import Learner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagnose import registry
from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.diagnosis import Status
from diagnose.errors import NotApplicable
from diagnose.isolate import untouched
from diagnose.lab import Lab
from diagnose.subject import from_learner


@cache
def check_of(id: str) -> Check:
    """One check."""
    return registry.load(next(e for e in registry.entries("diagnose.checks") if e.id == id), Check)()


def measured(id: str, learn: Learner, seed: int = 0) -> EvidenceList:
    """Evidence of one check on a Learner."""
    with warnings.catch_warnings(), untouched(learn):
        warnings.simplefilter("ignore")  # what torch would warn of is what the checks report
        return check_of(id).measure(Lab(from_learner(learn), seed))


def judged(id: str, learn: Learner, seed: int = 0) -> Judgement:
    """What one check says of a Learner."""
    return check_of(id).judge(measured(id, learn, seed))


def passes(id: str, learn: Learner) -> None:
    """The check passes, or says why it cannot be asked."""
    status, summary = "skip", ""
    with contextlib.suppress(NotApplicable):
        status, summary = judged(id, learn)
    assert status in ("pass", "skip"), summary


def passes_as_odd(id: str, learn: Learner, looks: str, fine: str, seed: int = 0) -> str:
    """The check passes, and says what the Learner looks like and which number shows that it is fine; the sentence."""
    status, summary = judged(id, learn, seed)
    assert status == "pass", summary
    looking, _, why = summary.partition("; is fine because ")
    assert looking.startswith(f"looks like {looks}"), summary
    assert fine in why, summary
    return summary


def is_judgement(result: Judgement) -> bool:
    """A known status with a sentence."""
    return result.status in get_args(Status) and bool(result.summary)


_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**6), st.floats(), st.sampled_from(["", "Relu", "batch", "stray"])
)
_values = st.one_of(_scalars, st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=5)), max_size=3))


PLACES = (
    *("", "0.1", "head", "data", "forward", "as configured"),
    *("workers=0, pin_memory=off", "workers=2, pin_memory=off"),
)


def evidence_of(names: list[str]) -> st.SearchStrategy[EvidenceList]:
    """Evidence under the names that a check uses, with any value, any number of times."""
    one = st.builds(Evidence, name=st.sampled_from(names), value=_values, where=st.sampled_from(PLACES))
    return st.lists(one, max_size=14).map(EvidenceList)


def judge_never_raises(id: str, evidence: EvidenceList, examples: int = 60) -> None:
    """Whatever stands in evidence of the names and places given, or is missing, `judge` answers with a sentence."""
    check, places = check_of(id), [(e.name, e.where) for e in evidence]

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(st.tuples(st.sampled_from(places), _values), max_size=2 * len(places)))
    def holds(found: list) -> None:
        told = check.judge(EvidenceList(Evidence(name=n, where=w, value=v) for (n, w), v in found))
        assert is_judgement(told)

    holds()
    assert check.judge(EvidenceList()).status != "pass"


def nan_never_passes(id: str, evidence: EvidenceList, *names: str) -> None:
    """With NaN in place of the numbers of these names (all numbers if none is given) the check does not pass."""
    wanted = names or tuple({e.name for e in evidence})
    poisoned = EvidenceList(
        e.model_copy(update={"value": math.nan}) if e.name in wanted and isinstance(e.value, float) else e
        for e in evidence
    )
    assert any(isinstance(e.value, float) and math.isnan(e.value) for e in poisoned)
    assert check_of(id).judge(poisoned).status != "pass"
