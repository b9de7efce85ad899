"""Norms that never measure, and layers that train while validating, are warned of; frozen norms are not."""

import pytest
from fastai.callback.core import Callback
from hypothesis import given, settings
from judging import check_of, evidence_of, is_judgement, judged, measured
from learners import diabetes, digits
from naming import fault_of
from odd_subjects import frozen_body
from torch import nn

from diagnose.errors import NotApplicable

ID = "modes-in-fit"


class TrainsAlways(Callback):
    def before_batch(self):
        self.learn.model.train()


class FrozenToEval(Callback):
    def before_batch(self):
        self.learn.model[:2].eval()


def test_norms_that_never_measure_are_warned_of_by_name():
    learn = digits()
    fault_of("eval-in-callback").inject(learn)
    status, summary = judged(ID, learn)
    assert status == "warn"
    assert "0.1" in summary


def test_layers_that_train_while_validating_are_warned_of():
    found = judged(ID, digits(cbs=TrainsAlways(), dropout=0.1))
    assert found.status == "warn"
    assert "while validating" in found.summary


@pytest.mark.parametrize("build", [digits, frozen_body, lambda: frozen(0)])
def test_sound_modes_pass(build):
    assert judged(ID, build()).status == "pass"


def frozen(seed):
    learn = frozen_body(seed)
    learn.add_cb(FrozenToEval())
    return learn


def test_frozen_norms_in_evaluation_mode_are_named():
    assert measured(ID, frozen(0)).get("in evaluation mode while training") == ["0.1", "1.1"]


def test_without_such_layers_it_is_not_asked():
    with pytest.raises(NotApplicable):
        measured(ID, diabetes())


def test_the_subject_is_left_as_it_was():
    learn = digits()
    before = {n: b.clone() for n, b in learn.model.named_buffers()}
    measured(ID, learn)
    assert all((b == before[n]).all() for n, b in learn.model.named_buffers())
    assert all(m.training for m in learn.model.modules() if isinstance(m, nn.BatchNorm2d))


NAMES = ["layers that know modes", "of them norms that never measured anything", "in training mode while validating"]


@settings(deadline=None, max_examples=40, database=None)
@given(evidence_of(NAMES))
def test_judge_stands_anything(evidence):
    assert is_judgement(check_of(ID).judge(evidence))
