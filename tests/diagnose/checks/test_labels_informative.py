"""Labels that do not belong to their inputs are told from labels that do, however noisy."""

import math

import pytest
import torch
from fastai.callback.core import Callback
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged, measured
from learners import _digits, digits, loaders_of, pair_scores
from odd_subjects import contrastive, segmentation, text_classifier_of_fastai
from torch import nn

from diagnose.checks import Evidence, EvidenceList
from diagnose.errors import NotApplicable
from diagnose.examination import examine
from diagnose.subject import from_learner

ID = "labels-informative"
PERMUTED = "permuted-labels"
NAMES = [
    *("learned from the training rows", "chance of the held-out loss", "chance allowed"),
    *("rows trained on", "rows held out"),
]
SEEDS = (0, 1, 2)


def relabelled(seed, share):
    "Digits, of whose labels a share changes places with each other: 0 is healthy, 1 shuffles all."
    torch.manual_seed(seed)
    learn = digits(seed, model=nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)))
    x, y = _digits()
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(y), generator=generator)[: round(share * len(y))]
    y = y.clone()
    y[chosen] = y[chosen[torch.randperm(len(chosen), generator=generator)]]
    learn.dls = loaders_of(x, y)
    return learn


def found(**values):
    "Evidence that passes, but for the values given."
    own = {"learned": 0.9, "chance": 0.005, "allowed": 0.05, "rows": 128, "held": 64, **values}
    names = dict(zip(("learned", "chance", "allowed", "rows", "held"), NAMES))
    return EvidenceList([Evidence(name=names[k], value=v) for k, v in own.items()])


@pytest.mark.parametrize("seed", SEEDS)
def test_shuffled_labels_are_learned_by_heart_only(seed):
    evidence = measured(ID, relabelled(seed, 1.0), seed)
    status, summary = check_of(ID).judge(evidence)
    assert status == "warn", summary
    assert "by heart" in summary
    assert f"p = {evidence.get('chance of the held-out loss'):.2g}" in summary
    assert evidence.get("learned from the training rows") >= 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_permuted_labels_are_no_worse_than_shuffled_ones(seed):
    evidence = measured(PERMUTED, relabelled(seed, 1.0), seed)
    status, summary = check_of(PERMUTED).judge(evidence)
    assert status == "warn", summary
    assert f"p = {evidence.get('chance of the held-out loss', 'true labels'):.2g}" in summary


@pytest.mark.parametrize(("id", "share"), [(ID, 0.67), (PERMUTED, 0.5)], ids=["informative", "permuted"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_hard_task_that_can_be_learned_passes(id, share, seed):
    "So many of the labels are wrong, and what is left is enough."
    status, summary = judged(id, relabelled(seed, share), seed)
    assert status == "pass", summary


@pytest.mark.parametrize(
    "make", [digits, pair_scores, segmentation, text_classifier_of_fastai], ids=lambda f: f.__name__
)
def test_healthy_subjects_pass(make):
    status, summary = judged(ID, make(1), 1)
    assert status == "pass", summary
    assert "p = 0.005" in summary


@pytest.mark.parametrize(("share", "seed"), [(0.8, 0), (0.85, 3)])
def test_what_is_learned_from_a_thousand_rows_only_passes(share, seed):
    evidence = measured(ID, relabelled(seed, share), seed)
    assert evidence.get("rows trained on") == 1024
    status, summary = check_of(ID).judge(evidence)
    assert status == "pass", summary


def test_too_little_time_to_learn_leaves_the_question_open():
    learn = relabelled(1, 1.0)
    learn.lr = 1e-7
    diagnosis = examine(from_learner(learn), only=[ID, "label-histogram"], budget=6)
    result = next(c for c in diagnosis.checks if c.id == ID)
    assert (result.status, diagnosis.causes) == ("skip", [])
    answer = next(a for a in diagnosis.checklist if a.id == "labels-uninformative")
    assert answer.answer == "not tested"
    assert "too little is learned to tell" in answer.reason


def test_callbacks_that_change_targets_are_named_where_labels_teach_nothing():
    class Reverses(Callback):
        def before_batch(self):
            self.learn.yb = tuple(y.flip(0) for y in self.yb)

    learn = relabelled(0, 1.0)
    learn.add_cb(Reverses())
    evidence = measured(ID, learn)
    assert [e.where for e in evidence if e.name == "targets are changed"] == ["callback Reverses"]
    assert "targets are changed" not in [e.name for e in measured(ID, digits())]


def test_what_has_no_label_is_not_asked():
    with pytest.raises(NotApplicable, match="does not read them"):
        measured(ID, contrastive())
    x, y = _digits()
    learn = digits()
    learn.dls = loaders_of(x, torch.arange(len(y)) % 1)
    with pytest.raises(NotApplicable, match=r"does not read them|the same in every row"):
        measured(ID, learn)


def test_few_rows_are_not_asked():
    learn = digits()
    x, y = _digits()
    learn.dls = loaders_of(x[:100], y[:100], bs=16, valid=20)
    with pytest.raises(NotApplicable, match="fewer than 128 rows"):
        measured(ID, learn)


def test_numbers_alone():
    assert check_of(ID).judge(found()).status == "pass"
    assert check_of(ID).judge(found(chance=0.4, allowed=0.02)).status == "warn"
    assert check_of(ID).judge(found(chance=0.03, allowed=0.02)).status == "warn"
    assert check_of(ID).judge(found(chance=0.4, allowed=0.02, learned=0.05)).status == "skip"
    assert check_of(ID).judge(found(chance=0.5, allowed=0.9)).status == "warn"
    for name in ("learned", "chance", "allowed"):
        assert check_of(ID).judge(found(**{name: math.nan})).status != "pass"
    assert check_of(ID).judge(EvidenceList()).status == "skip"


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(check_of(ID).judge(evidence))
