"""What every check must hold, whatever it measures: found by the registry, so that a new check is held to it too."""

import contextlib
import math
import random
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from judging import judge_never_raises
from learners import diabetes, digits
from odd_subjects import ODD

from diagnose import registry, runtime
from diagnose.checks import Check, Evidence, EvidenceList, permuted_labels
from diagnose.errors import NotApplicable
from diagnose.examination import examine
from diagnose.isolate import seed_everything, untouched
from diagnose.lab import Lab
from diagnose.stats import same_bits
from diagnose.subject import from_learner

CHECKS = registry.load_all("diagnose.checks", Check)
HEADINGS = ("## What it does", "## Why it matters", "## How it is judged", "## What to do", "## Source")
STATUSES = {"pass", "warn", "fail", "skip"}
SUBJECTS = {"digits": partial(digits, dropout=0.2), "diabetes": diabetes}
WARNED = {"frozen_body"}  # the running statistics of its frozen norm layers move: real failure F18
every_check = pytest.mark.parametrize("id", CHECKS)


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    "What a run costs is measured for seconds by design: here only that it can be measured is asked."
    monkeypatch.setattr(runtime, "WORKERS", (0,))
    monkeypatch.setattr(runtime, "SETTING_SECONDS", 0.05)
    monkeypatch.setattr(runtime, "SETTING_BATCHES", 4)
    monkeypatch.setattr(runtime, "STEP_SECONDS", 0.2)
    monkeypatch.setattr(runtime, "MEMORY_SECONDS", 0.2)
    monkeypatch.setattr(runtime, "LARGEST", 64)


def state(learn) -> dict:
    "Everything of a Learner that an examination could leave changed."
    return {
        "weights and buffers": [t.clone() for t in learn.model.state_dict().values()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in learn.model.parameters()],
        "torch's random state": [torch.get_rng_state()],
        "random states": [random.getstate(), np.random.get_state()[1].tolist()],  # noqa: NPY002
        "loaders": [dl.rng.getstate() for dl in learn.dls.loaders],
        "modules": [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in learn.model.modules()],
        "freezing": [p.requires_grad for p in learn.model.parameters()],
        "attributes": [*sorted(vars(learn)), learn.opt is None],
    }


def same(before: list, after: list) -> bool:
    pairs = zip(before, after, strict=True)
    return all(same_bits(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


class Measured(NamedTuple):
    """Evidence of a healthy subject, None if it is not of the check's kind; and what measuring left changed."""

    evidence: EvidenceList | None
    marks: list[str]


@cache
def lab_of(subject: str) -> Lab:
    """What all checks share in an examination too: no batch is read, and no baseline trained, once for each of them."""
    return Lab(from_learner(SUBJECTS[subject]()), 0)


@cache
def _measured(id: str, subject: str) -> Measured:
    lab, evidence, marks = lab_of(subject), None, []
    learn = lab.learn
    before = state(learn)
    with untouched(learn):
        seed_everything(0)
        weights = [p.detach().clone() for p in learn.model.parameters()]
        with contextlib.suppress(NotApplicable):
            evidence = CHECKS[id].measure(lab)
        # `untouched` is the net below, not the method: the subject's own weights are not worked on at all
        if not all(same_bits(a, b) for a, b in zip(weights, learn.model.parameters(), strict=True)):
            marks.append("weights worked on")
        if learn.opt is not None:
            marks.append("an optimizer of the subject's own")
    after = state(learn)
    marks += [k for k in before if not same(before[k], after[k])]
    return Measured(evidence, marks)


@pytest.fixture(scope="module", params=[f"{id} on {subject}" for id in CHECKS for subject in SUBJECTS])
def measured(request) -> tuple[str, Measured]:
    """A check, and what it measures of a healthy subject: tests of one measurement run one after the other."""
    id, subject = request.param.split(" on ")
    return id, _measured(id, subject)


@pytest.fixture
def found(measured) -> tuple[str, EvidenceList]:
    """A check and its evidence."""
    id, (evidence, _) = measured
    if evidence is None:
        pytest.skip("not of this check's kind")
    return id, evidence


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# ---- what a person reads -----------------------------------------------------------------------------------------


@every_check
def test_docstring_explains_in_order(id):
    doc = CHECKS[id].doc
    places = [doc.find(h) for h in HEADINGS]
    assert -1 not in places, [h for h, p in zip(HEADINGS, places) if p < 0]
    assert places == sorted(places)
    title = doc.strip().split("\n", 1)[0]
    assert title.endswith("."), "the first sentence names what must hold"
    assert max(map(len, doc.splitlines())) <= 120


@every_check
def test_says_what_it_costs(id):
    check = CHECKS[id]
    assert check.cost
    assert check.stage in ("inspection", "probe", "trial")
    assert 0 < check.order < 100


# ---- judge -------------------------------------------------------------------------------------------------------


def replaced(evidence: EvidenceList, new) -> EvidenceList:
    "The same evidence with every number replaced, inside lists too."

    def swap(value):
        if isinstance(value, list):
            return [new if is_number(v) else v for v in value]
        return new if is_number(value) else value

    return EvidenceList(e.model_copy(update={"value": swap(e.value)}) for e in evidence)


@every_check
def test_judge_takes_no_evidence(id):
    status, sentence = CHECKS[id].judge(EvidenceList())
    assert status in STATUSES - {"pass"}
    assert sentence


def test_judge_takes_any_value(found):
    id, evidence = found
    for value in (math.nan, math.inf, -math.inf, None, "text", 0, -1, 1e300, True, []):
        status, sentence = CHECKS[id].judge(replaced(evidence, value))
        assert status in STATUSES, value
        assert sentence, value


def test_nan_never_passes(found):
    id, evidence = found
    if not any(is_number(e.value) for e in evidence):
        pytest.skip("measures no number here")
    judged = CHECKS[id].judge(evidence)
    if judged.status != "skip":
        assert CHECKS[id].judge(replaced(evidence, math.nan)).status != "pass"


def test_missing_evidence_is_no_error(found):
    id, evidence = found
    for name in {e.name for e in evidence}:
        status, _ = CHECKS[id].judge(EvidenceList(e for e in evidence if e.name != name))
        assert status in STATUSES
        status, _ = CHECKS[id].judge(EvidenceList(e for e in evidence if e.name == name))
        assert status in STATUSES


def test_judge_takes_any_numbers_together(found):
    judge_never_raises(*found, examples=20)


def test_judge_is_pure_and_survives_json(found):
    id, evidence = found
    again = EvidenceList(Evidence.model_validate_json(e.model_dump_json()) for e in evidence)
    assert [e.model_dump_json() for e in again] == [e.model_dump_json() for e in evidence]
    assert CHECKS[id].judge(again) == CHECKS[id].judge(evidence)


def test_healthy_subjects_pass_and_the_sentence_has_a_number(found):
    id, evidence = found
    status, sentence = CHECKS[id].judge(evidence)
    assert status in ("pass", "skip"), sentence
    assert status == "skip" or any(c.isdigit() for c in sentence) or " no " in f" {sentence} ", sentence


# ---- measure -----------------------------------------------------------------------------------------------------


def test_measuring_leaves_no_mark(measured):
    assert measured[1].marks == []


@pytest.mark.parametrize("name", ODD)
def test_an_odd_subject_is_examined_in_full_and_not_failed(name, monkeypatch):
    for number, few in {"STEPS": 24, "BATCHES": 6, "HELD_OUT": 2}.items():
        monkeypatch.setattr(permuted_labels, number, few)  # an extra check: only that it can be made is asked here
    diagnosis = examine(from_learner(ODD[name](1), name), seed=1, budget=None, everything=True)
    assert diagnosis.verdict != "fail", diagnosis.summary
    assert not [c.id for c in diagnosis.causes if c.proven]
    assert not [(c.id, c.summary) for c in diagnosis.checks if c.status == "fail"]
    told = {c.id for c in diagnosis.checks} | {u.id for u in diagnosis.unchecked}
    assert CHECKS.keys() <= told, "every check was made, or its reason is listed"
    doubts = [(c.id, c.summary) for c in diagnosis.checks if c.status == "warn" and not CHECKS[c.id].extra]
    assert not doubts or name in WARNED, doubts
    assert diagnosis.verdict == "pass" or any(c.status == "warn" for c in diagnosis.checks), diagnosis.summary
