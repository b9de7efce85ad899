"""schedule: steps are counted, schedules are played."""

import math

import pytest
import torch
from fastai.callback.schedule import ParamScheduler, SchedLin, SchedNo, combined_cos
from fastai.callback.training import GradientAccumulation
from fastai.data.core import DataLoaders
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY, digits, loaders_of
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import TensorDataset

from diagnose.checks import Evidence, EvidenceList
from diagnose.isolate import fixed_loaders

ID = "schedule"
NAMES = [
    *("batches an epoch", "rows", "batch size", "rows left out of each epoch", "batches a step", "scheduled value"),
    "schedule could not be played",
]


def tiny(rows, bs):
    learn = digits()
    learn.dls = loaders_of(torch.rand(rows, 1, 8, 8), torch.arange(rows) % 10, bs=bs, valid=2)
    return learn


@pytest.mark.parametrize("name", ["digits", "diabetes", "declared_freeze"])
def test_healthy_subject_passes(name):
    status, summary = judged(ID, HEALTHY[name]())
    assert status == "pass"
    assert "steps an epoch" in summary


def test_f6_steps_are_stated_instead_of_epochs():
    status, summary = judged(ID, tiny(8, 6))
    assert status == "pass"
    assert summary == "1 steps an epoch, so that 200 steps take 200 epochs"


def test_rows_left_out_are_stated():
    assert "2 of 8 rows left out" in judged(ID, tiny(10, 6)).summary


def test_no_step_fails():
    status, summary = judged(ID, tiny(6, 8))
    assert (status, summary) == ("fail", "an epoch makes 0 steps: 4 rows, batch size 8")


def test_accumulation_counts():
    assert "5.75 steps an epoch" in judged(ID, digits(cbs=GradientAccumulation(256))).summary


def test_schedule_is_played():
    one_cycle = ParamScheduler(
        {"lr": combined_cos(0.25, 1e-4, 1e-3, 1e-8), "mom": combined_cos(0.25, 0.95, 0.85, 0.95)}
    )
    status, summary = judged(ID, digits(cbs=one_cycle))
    assert status == "pass"
    assert "lr 0.0001 to 0.001 to 1e-08" in summary


def test_bad_schedules_are_named():
    assert judged(ID, digits(cbs=ParamScheduler({"lr": SchedLin(1e-3, -1e-3)}))).status == "fail"
    status, summary = judged(ID, digits(cbs=ParamScheduler({"lr": SchedNo(0.0, 0.0)})))
    assert status == "warn"
    assert "0 for 100% of the plan" in summary


def test_other_loaders():
    learn = digits()
    x, y = next(iter(learn.dls.train))
    learn.dls = DataLoaders(TorchLoader(TensorDataset(x, y), batch_size=10), TorchLoader(TensorDataset(x, y)))
    assert "7 steps an epoch" in judged(ID, learn).summary
    learn = digits()
    learn.dls = fixed_loaders(learn, [(x, y)] * 3)
    assert judged(ID, learn).status == "pass"


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(check_of(ID).judge(evidence))


def test_judge_of_numbers_alone():
    judge = check_of(ID).judge
    assert judge(EvidenceList()).status == "skip"
    assert judge(EvidenceList([Evidence(name="batches an epoch", value=math.nan)])).status == "skip"
    batches = Evidence(name="batches an epoch", value=5)
    assert judge(EvidenceList([batches])).status == "pass"
    nan = Evidence(name="scheduled value", value=[1e-3, math.nan], where="lr")
    assert judge(EvidenceList([batches, nan])).status == "fail"
