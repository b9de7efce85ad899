"""What every check's tests share: measuring and judging a Learner, and evidence as anything at all for `judge`."""

from __future__ import annotations

from functools import cache
from typing import get_args

from fastai.learner import Learner
from hypothesis import strategies as st

from diagnose import registry
from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.diagnosis import Status
from diagnose.lab import Lab
from diagnose.subject import from_learner


@cache
def check_of(id: str) -> Check:
    """One check."""
    return registry.load(next(e for e in registry.entries("diagnose.checks") if e.id == id), Check)()


def measured(id: str, learn: Learner, seed: int = 0) -> EvidenceList:
    """Evidence of one check on a Learner."""
    return check_of(id).measure(Lab(from_learner(learn), seed))


def judged(id: str, learn: Learner, seed: int = 0) -> Judgement:
    """What one check says of a Learner."""
    check = check_of(id)
    return check.judge(check.measure(Lab(from_learner(learn), seed)))


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
