"""What the tests of causes share: injecting a fault, examining, and evidence as anything at all for `suspect`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import pytest
from fastai.learner import Learner

from diagnose import registry
from diagnose.causes import Cause, Findings, Settled
from diagnose.diagnosis import CauseResult, Diagnosis
from diagnose.errors import SubjectError
from diagnose.evidence import EvidenceList
from diagnose.examination import examine
from diagnose.faults import Fault
from diagnose.isolate import untouched
from diagnose.lab import Lab
from diagnose.loads import recording
from diagnose.subject import Subject, from_learner

ANYTHING = (math.nan, math.inf, -math.inf, None, "", "text", 0, -1, 3, 1e300, True, False, [], [math.nan], ["text"])


@cache
def cause_of(id: str) -> Cause:
    """One cause."""
    return registry.load_all("diagnose.causes", Cause)[id]


@cache
def fault_of(id: str) -> Fault:
    """One fault."""
    return registry.load_all("diagnose.faults", Fault)[id]


def examined(learn: Learner | Subject, seed: int = 0, **kwargs: Any) -> Diagnosis:
    """The diagnosis of a Learner without a bound on time; where its own code raises, what was found by then."""
    try:
        subject = learn if isinstance(learn, Subject) else from_learner(learn)
        return examine(subject, seed=seed, budget=None, **kwargs)
    except SubjectError as e:
        if e.diagnosis is None:
            raise
        return e.diagnosis


def with_fault(
    fault: str, build: Callable[[int], Learner], seed: int = 0, only: Iterable[str] = (), skip: Iterable[str] = ()
) -> Diagnosis:
    """The diagnosis of a Learner with a fault put into it; one that another test has made is given again."""
    return _with_fault(fault, build, seed, tuple(only), tuple(skip))


@cache
def _with_fault(
    fault: str, build: Callable[[int], Learner], seed: int, only: tuple[str, ...], skip: tuple[str, ...]
) -> Diagnosis:
    learn = build(seed)
    return examined(built(lambda: fault_of(fault).inject(learn) or learn), seed, only=only, skip=skip)


def in_turn(**axes: list) -> pytest.MarkDecorator:
    """Parametrises over every combination, each under seed 0 or 1 in turn: neighbours differ in it, and every value of
    an axis meets both seeds where another axis has more than one."""
    drawn = [list(enumerate(values)) for values in axes.values()]
    cases = [([v for _, v in c], sum(i for i, _ in c) % 2) for c in itertools.product(*drawn)]
    return pytest.mark.parametrize((*axes, "seed"), [(*values, seed) for values, seed in cases])


def built(build: Callable[[], Learner]) -> Subject:
    """A subject as the command builds it: what is loaded meanwhile is recorded."""
    with recording() as record:
        subject = from_learner(build())
    subject.loads = record.loads(subject.learner.model)
    return subject


def is_named(diagnosis: Diagnosis, id: str) -> CauseResult:
    """The cause stands first and is proven; returns it."""
    told = [(c.id, c.proven, c.score, c.summary) for c in diagnosis.causes]
    assert diagnosis.causes, diagnosis.summary
    first = diagnosis.causes[0]
    assert (first.id, first.proven) == (id, True), told
    assert first.score >= 0.9
    assert diagnosis.verdict == ("fail" if cause_of(id).fails else "warn")
    assert first.fix.text
    assert first.proof
    if first.proof.kind == "trial":
        assert not first.proof.before.learned >= 0.8
        assert first.proof.after.learned >= 0.8
    return first


def is_left_alone(diagnosis: Diagnosis, id: str) -> None:
    """The subject is not failed, and the cause is not proven of it."""
    assert diagnosis.verdict != "fail", diagnosis.summary
    assert not [c.id for c in diagnosis.causes if c.proven]
    assert id not in diagnosis.summary


def findings_of(diagnosis: Diagnosis) -> Findings:
    """What the checks of a diagnosis measured."""
    return Findings({c.id: EvidenceList(c.evidence) for c in diagnosis.checks})


def stands_any_evidence(id: str, findings: Findings, numbers: bool = True) -> None:
    """Suspected of these findings; whatever stands in them or is missing, `suspect` answers; without them it is silent.

    Args:
        numbers: the suspicion rests on numbers, so that NaN in place of them all must take it away.
    """
    cause = cause_of(id)
    assert cause.suspect(findings), "the faulty subject itself is suspected"
    assert cause.suspect(Findings()) is None
    names = sorted({(check, e.name) for check, found in findings.items() for e in found})
    for check, name in names:
        kept = EvidenceList(e for e in findings[check] if e.name != name)
        _is_answer(cause.suspect(Findings({**findings, check: kept})))
        for value in ANYTHING:
            other = EvidenceList(
                e.model_copy(update={"value": value}) if e.name == name else e for e in findings[check]
            )
            _is_answer(cause.suspect(Findings({**findings, check: other})))
    for value in ANYTHING:
        _is_answer(cause.suspect(_with(findings, value)))
    if numbers:
        assert cause.suspect(_with(findings, math.nan, only_numbers=True)) is None


def _with(findings: Findings, value: Any, only_numbers: bool = False) -> Findings:
    def swap(old: Any) -> Any:
        number = isinstance(old, (int, float)) and not isinstance(old, bool)
        return value if number or not only_numbers else old

    return Findings(
        {c: EvidenceList(e.model_copy(update={"value": swap(e.value)}) for e in f) for c, f in findings.items()}
    )


def _is_answer(suspicion: Any) -> None:
    if suspicion is not None:
        assert 0 < suspicion.strength <= 1
        assert suspicion.reason


def settled(id: str, learn: Learner, diagnosis: Diagnosis, seed: int = 0) -> Settled:
    """The proof of a cause by itself, for subjects whose own code raises: an examination of those ends in the error."""
    with untouched(learn):
        cause, lab = cause_of(id), Lab(from_learner(learn), seed)
        suspicion = cause.suspect(findings_of(diagnosis))
        assert suspicion, diagnosis.summary
        assert cause.fix(lab, suspicion).text
        return cause.settle(lab, suspicion)


class CauseTests:
    """What every cause must pass; subclassed in the cause's test file, whose name pytest looks for.

    Attributes:
        id: of the cause.
        named: (fault, builder of the healthy subject it is put into, by seed): the first for seeds 0 and 1, the others
            for one of them in turn.
        healthy: builders of the look-alikes that must be left alone, by what they are.
        only: checks that are run; all if empty.
        numbers: the suspicion rests on numbers, see `stands_any_evidence`.
    """

    id: str
    named: list[tuple[str, Callable[[int], Learner]]]
    healthy: dict[str, Callable[[int], Learner]]
    only: tuple[str, ...] = ()
    numbers: bool = True

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "seed" in metafunc.fixturenames:
            first, others = self.named[0], self.named[1:]
            seeded = [(*first, 0), (*first, 1), *((*pair, i % 2) for i, pair in enumerate(others))]
            metafunc.parametrize(("fault", "subject", "seed"), seeded)
        elif "look_alike" in metafunc.fixturenames:
            metafunc.parametrize("look_alike", list(self.healthy))

    def test_the_fault_is_named_first_and_proven(self, fault, subject, seed):
        is_named(with_fault(fault, subject, seed, self.only), self.id)

    def test_the_look_alike_is_left_alone(self, look_alike):
        is_left_alone(examined(self.healthy[look_alike](0), only=self.only), self.id)

    def test_suspicion_stands_any_evidence(self):
        fault, subject = self.named[0]
        findings = findings_of(with_fault(fault, subject, 0, self.only))
        stands_any_evidence(self.id, findings, numbers=self.numbers)
