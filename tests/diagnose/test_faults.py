"""Whole examinations of faulty subjects: the injected cause stands first, and is proven.

One fault for each of the commonest causes; every other fault is named in the tests of its cause, with the checks that
matter there, and by `diagnose bench` in whole examinations.
"""

import pytest
import torch
from fastai.learner import Learner
from learners import digits, loaders_of
from torch import nn

from diagnose import registry
from diagnose.errors import NotApplicable, SubjectError
from diagnose.examination import examine
from diagnose.faults import Fault
from diagnose.subject import from_learner, from_task

FAULTS = registry.load_all("diagnose.faults", Fault)


def is_named(subject, fault, seed):
    try:
        fault.inject(subject.learner)
    except NotApplicable as e:
        pytest.skip(f"not a fault of this subject: {e}")
    raised = False
    try:
        diagnosis = examine(subject, seed=seed, budget=None)
    except SubjectError as e:  # its own code raises on the first batch: what was found by then stands in the report
        diagnosis, raised = e.diagnosis, True
    assert diagnosis.causes, diagnosis.summary
    first = diagnosis.causes[0]
    if raised:
        assert first.id == fault.cause
        return
    assert (first.id, first.proven) == (fault.cause, True), [(c.id, c.proven, c.summary) for c in diagnosis.causes]
    assert diagnosis.verdict == "fail"
    assert first.score >= 0.9
    assert fault.cause in diagnosis.summary
    assert first.fix.text
    assert first.proof
    if first.proof.kind == "trial":
        assert not first.proof.before.learned >= 0.8
        assert first.proof.after.learned >= 0.8


COMMONEST = [
    *("activation-twice", "detached-encoder", "head-replaced", "loss-summed", "lr-too-high", "lr-too-low"),
    *("target-not-reshaped", "weights-constant", "weights-frozen", "wrong-view"),
]


@pytest.mark.parametrize("id", COMMONEST)
def test_fault_in_a_digits_classifier_is_named_first_and_proven(id):
    is_named(from_learner(digits(0)), FAULTS[id], 0)


REGRESSION = {"activation-twice", "lr-too-high", "weights-frozen", "wrong-view"}
UNMIX = [(id, "regression" if id in REGRESSION else "classification") for id in COMMONEST]


@pytest.mark.slow
@pytest.mark.parametrize(("id", "target"), UNMIX)
def test_fault_in_unmix_is_named_first_and_proven(id, target):
    is_named(from_task("unmix", {"target": target, "size": 32}, seed=0, device="cpu"), FAULTS[id], 0)


def test_activations_are_not_removed_where_a_linear_model_is_enough():
    x = torch.randn(400, 80, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(80, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    learn = Learner(loaders_of(x, (x[:, 0] > 0).long()), model, loss_func=nn.CrossEntropyLoss(), lr=3e-3)
    with pytest.raises(NotApplicable, match="a linear model is enough"):
        FAULTS["activations-removed"].inject(learn)
    assert isinstance(learn.model[1], nn.ReLU)


def test_labels_are_not_shuffled_where_the_target_is_the_input():
    x = torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    learn = Learner(loaders_of(x, x), nn.Conv2d(1, 1, 3, padding=1), loss_func=nn.MSELoss(), lr=3e-3)
    with pytest.raises(NotApplicable, match="no labels"):
        FAULTS["labels-shuffled"].inject(learn)


def test_items_are_not_sorted_by_a_label_that_is_their_number():
    x = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    learn = Learner(loaders_of(x, torch.arange(400)), nn.Linear(4, 400), loss_func=nn.CrossEntropyLoss(), lr=3e-3)
    with pytest.raises(NotApplicable, match="the number of the item"):
        FAULTS["sorted-by-label"].inject(learn)
    FAULTS["sorted-by-label"].inject(digits(0))


def test_a_fault_asks_a_model_of_several_inputs_as_its_learner_does():
    subject = from_task("unmix", {"target": "classification"}, seed=0, device="cpu")
    with pytest.raises(NotApplicable, match="several places of a row"):
        FAULTS["norm-over-one"].inject(subject.learner)


def test_every_fault_names_a_cause_that_exists():
    causes = {e.id for e in registry.entries("diagnose.causes")}
    assert {f.cause for f in FAULTS.values()} <= causes
