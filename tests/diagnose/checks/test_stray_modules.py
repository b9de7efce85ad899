"""stray-modules: layers that nobody trains and a forward pass that reads a global are named; teachers pass."""

import math

import pytest
import torch
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import digits, small_cnn
from torch import nn

from diagnose.checks import Evidence, EvidenceList
from diagnose.stats import same_bits

ID = "stray-modules"
NAMES = [
    *("stray modules", "trainable parameters outside the optimizer", "get a gradient that no optimizer uses"),
    *("global tensors read", "output moved by other inputs"),
]
xb = (torch.linspace(0, 1, 16 * 64).reshape(16, 1, 8, 8),)
MEAN = torch.tensor(0.3)
SHARED = nn.Sequential(nn.Linear(10, 10), nn.BatchNorm1d(10), nn.Linear(10, 10))


class Listed(nn.Module):
    "Layers in a plain list; registered as well, or frozen, if asked for."

    def __init__(self, registered=False, trains=True):
        super().__init__()
        self.body, self.layers = small_cnn(), [nn.Linear(10, 10).requires_grad_(trains)]
        if registered:
            self.known = nn.ModuleList(self.layers)

    def forward(self, x):
        return self.layers[0](self.body(x))


class Teacher(nn.Module):
    "A teacher kept out of the state by a list, and used without a gradient."

    def __init__(self):
        super().__init__()
        self.student, self.teacher = small_cnn(), [small_cnn()]

    def forward(self, x):
        with torch.no_grad():
            target = self.teacher[0](x)
        return self.student(x) + 0.01 * target


class UsesGlobal(nn.Module):
    "Ends in a module of the notebook."

    def __init__(self):
        super().__init__()
        self.body = small_cnn()

    def forward(self, x):
        return SHARED(self.body(x))


class ReadsBatch(nn.Module):
    "Real failure F3: loops over the notebook's batch instead of its arguments."

    def __init__(self):
        super().__init__()
        self.body = small_cnn()

    def forward(self, *x):
        return sum(self.body(part) for part in xb)


class ReadsItsInput(ReadsBatch):
    "The same, mended."

    def forward(self, *x):
        return sum(self.body(part) for part in x)


class Centres(nn.Module):
    "Reads a constant from a global, as it may."

    def __init__(self):
        super().__init__()
        self.body = small_cnn()

    def forward(self, x):
        return self.body(x - MEAN)


@pytest.mark.parametrize(
    "model",
    [Listed(registered=True), Listed(trains=False), Teacher(), Centres(), ReadsItsInput()],
    ids=lambda m: str(m)[:12],
)
def test_look_alike_passes(model):
    status, summary = judged(ID, digits(bs=16, model=model))
    assert status == "pass", summary


def test_layers_in_a_plain_list_are_warned_of():
    status, summary = judged(ID, digits(bs=16, model=Listed()))
    assert status == "warn"
    assert "110 trainable parameters" in summary
    assert "Listed.layers[0]" in summary


def test_module_of_a_global_is_warned_of_and_left_as_it_was():
    SHARED.train()
    kept = [t.clone() for t in SHARED.state_dict().values()]
    status, summary = judged(ID, digits(bs=16, model=UsesGlobal()))
    assert status == "warn"
    assert "global SHARED" in summary
    assert all(same_bits(a, b) for a, b in zip(kept, SHARED.state_dict().values()))
    assert all(p.grad is None for p in SHARED.parameters())


def test_f3_forward_that_reads_a_global_fails():
    assert judged(ID, digits(bs=16, model=ReadsItsInput())).status == "pass"
    status, summary = judged(ID, digits(bs=16, model=ReadsBatch()))
    assert status == "fail"
    assert "ReadsBatch.forward: global xb" in summary
    assert "moves the output by 0 of its size" in summary


@given(evidence_of(NAMES))
def test_judge_never_raises_and_nan_never_passes(evidence):
    result = check_of(ID).judge(evidence)
    assert is_judgement(result)
    moved, read = evidence.get("output moved by other inputs"), evidence.get("global tensors read")
    if isinstance(read, list) and read and isinstance(moved, float) and math.isnan(moved):
        assert result.status != "pass"


def test_judge_of_numbers_alone():
    judge = check_of(ID).judge
    none = Evidence(name="stray modules", value=[])
    assert judge(EvidenceList()).status == "skip"
    assert judge(EvidenceList([none])).status == "pass"
    reads = Evidence(name="global tensors read", value=["A.forward: global xb"])
    assert judge(EvidenceList([none, reads])).status == "fail"
    moved = Evidence(name="output moved by other inputs", value=math.nan)
    assert judge(EvidenceList([none, reads, moved])).status == "fail"
