"""Device, precision, threads and flags are read and never judged."""

import pytest
import torch
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY, digits
from odd_subjects import bfloat16, double_precision, fp16_on_cpu

ID = "run-environment"


@pytest.mark.parametrize("name", ["digits", "diabetes", "declared_freeze"])
def test_healthy_subjects_pass(name):
    status, sentence = judged(ID, HEALTHY[name]())
    assert status == "pass"
    assert sentence.startswith("on cpu in float32, ")
    assert "to_fp16" not in sentence


def test_mixed_precision_without_cuda_is_said_to_have_no_effect():
    assert "to_fp16 has no effect" in judged(ID, fp16_on_cpu()).summary


@pytest.mark.parametrize(("build", "kind"), [(double_precision, "float64"), (bfloat16, "bfloat16")])
def test_the_type_of_the_weights_is_named(build, kind):
    assert f"in {kind}," in judged(ID, build()).summary


def test_the_benchmark_flag_is_named(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    assert "benchmark flag is on" in judged(ID, digits()).summary


@given(evidence_of(["threads", "memory", "cores", "types of the weights", "device", "mixed precision"]))
def test_judge_takes_anything(evidence):
    assert is_judgement(check_of(ID).judge(evidence))
