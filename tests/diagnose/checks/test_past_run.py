"""The last run: short ones that came to nothing warn, others pass, and there may be none."""

import math

import fastai.callback.schedule  # noqa: F401 - gives a Learner its lr_find
import pytest
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import diabetes, digits

from diagnose.checks import Evidence, EvidenceList
from diagnose.errors import NotApplicable
from diagnose.faults.broken_off_early import BrokenOffEarly

NAMES = ["steps", "first loss", "last loss", "learned by its end"]


@pytest.mark.parametrize("seed", [0, 1])
def test_f6_four_steps_warn(seed):
    learn = digits(seed)
    BrokenOffEarly().inject(learn)
    status, sentence = judged("past-run", learn, seed)
    assert status == "warn"
    assert "4 steps" in sentence


def test_a_run_that_learned_passes():
    learn = diabetes(lr=1e-2)
    with learn.no_bar(), learn.no_logging():
        learn.fit(10)
    assert judged("past-run", learn).status == "pass"


def test_no_run_is_not_judged():
    with pytest.raises(NotApplicable):
        judged("past-run", digits())


def test_a_search_for_the_rate_is_no_run(tmp_path):
    learn = digits(path=tmp_path)
    with learn.no_bar(), learn.no_logging():
        learn.lr_find(num_it=40, show_plot=False)
    assert learn.recorder.losses
    with pytest.raises(NotApplicable, match="search"):
        judged("past-run", learn)


@given(evidence_of(NAMES))
def test_any_evidence_is_judged(evidence):
    assert is_judgement(check_of("past-run").judge(evidence))


def test_nan_never_passes():
    found = EvidenceList(Evidence(name=n, value=math.nan) for n in NAMES)
    assert check_of("past-run").judge(found).status != "pass"
