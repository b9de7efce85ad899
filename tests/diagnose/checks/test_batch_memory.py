"""Memory of a step by batch size."""

import pytest
import torch
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged, measured
from learners import HEALTHY, digits
from odd_subjects import ODD
from torch import nn

from diagnose import runtime
from diagnose.checks import Evidence, EvidenceList
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.subject import from_learner

ID = "batch-memory"
MIB = 2**20


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(runtime, "LARGEST", 128)


@pytest.mark.parametrize("name", ["digits", "diabetes", "pair_scores", "declared_freeze"])
def test_healthy_subjects_pass(name):
    status, sentence = judged(ID, HEALTHY[name]())
    assert status == "pass"
    assert "a step of 64 rows takes about" in sentence


@pytest.mark.parametrize("name", ["text", "tabular", "dict_input", "multi_task", "torch_optimizer", "sparse_embedding"])
def test_every_kind_of_input_and_optimizer(name):
    evidence = measured(ID, ODD[name]())
    assert evidence.get("memory per row") > 0


def test_the_count_is_what_autograd_keeps():
    learn = digits(model=nn.Sequential(nn.Flatten(), nn.Linear(64, 1000), nn.Sigmoid(), nn.Linear(1000, 10)))
    evidence = measured(ID, learn)
    kept = (64 + 1000 + 10) * 4 / MIB  # pictures, the sigmoid's output, log-probabilities
    assert kept <= evidence.get("memory per row") < 1.2 * kept
    weights = (64 * 1000 + 1000 + 1000 * 10 + 10) * 4 / MIB
    assert evidence.get("weights, gradients and optimizer state") == pytest.approx(4 * weights, rel=0.01)  # Adam


def test_the_same_twice():
    first, second = (measured(ID, digits()) for _ in range(2))
    places = [e.where for e in first.all("memory")]
    assert [first.get("memory", p) for p in places] == [second.get("memory", p) for p in places]


@pytest.mark.parametrize("capacity", [37, 100, 128])
def test_the_limit_is_bisected_where_memory_runs_out(monkeypatch, capacity):
    def probe(lab, inputs, targets):
        if len(inputs[0]) > capacity:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return len(inputs[0]) * 1000, 0.001

    monkeypatch.setattr(runtime, "_peak_on_cpu", probe)
    monkeypatch.setattr(runtime, "LARGEST", 4096)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    memory = runtime.memory_by_rows(Lab(from_learner(digits()), 0))
    assert memory.measured
    assert capacity * 7 / 8 - 1 <= memory.fits <= capacity


def test_what_cannot_be_repeated_is_not_applicable():
    for name in ("graph_batches", "fixed_batch_size"):
        with pytest.raises(NotApplicable):
            measured(ID, ODD[name]())


def test_a_batch_that_does_not_fit_is_warned_of():
    numbers = {
        "configured batch size": 64,
        "largest batch size that fits": 20,
        "memory per row": 100.0,
        "weights, gradients and optimizer state": 50.0,
        "free memory": 2000.0,
        "limit": 2000.0,
    }
    status, sentence = check_of(ID).judge(EvidenceList(Evidence(name=k, value=v) for k, v in numbers.items()))
    assert status == "warn"
    assert "64 rows takes about 6.45e+03 MiB of 2e+03 free: it does not fit" in sentence


@given(evidence_of(["configured batch size", "largest batch size that fits", "memory per row", "free memory", "limit"]))
def test_judge_takes_anything(evidence):
    assert is_judgement(check_of(ID).judge(evidence))
