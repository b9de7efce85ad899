"""Scores that cannot become large are found; small ones that can, and bounded ones that need not, are left alone."""

import math

import pytest
import torch
from judging import check_of, judge_never_raises, judged, measured
from learners import diabetes, digits
from naming import examined, fault_of, with_fault
from torch import nn

from diagnose.changes import learning_rate
from diagnose.errors import NotApplicable
from diagnose.evidence import Evidence, EvidenceList

ID, CAUSE = "output-bounds", "output-range-mismatch"
PLACES = ("after the trial", "with all parameters times ten")


def mlp(*after):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10), *after)


@pytest.mark.parametrize("seed", [0, 1])
def test_cosines_without_a_temperature_are_named_and_proven(seed):
    diagnosis = with_fault("cosines-without-temperature", digits, seed)
    first = diagnosis.causes[0]
    assert (first.id, first.proven) == (CAUSE, True)
    assert first.proof.change == "outputs times 16"
    assert first.proof.after.learned >= 0.8 > first.proof.before.learned
    assert "temperature" in first.fix.text


def test_cosines_with_a_temperature_pass():
    class Scaled(nn.Module):
        def forward(self, x):
            return 16 * x

    learn = digits(0)
    fault_of("cosines-without-temperature").inject(learn)
    learn.model = nn.Sequential(learn.model, Scaled())
    assert examined(learn).verdict == "pass"


@pytest.mark.parametrize("seed", range(3))
def test_outputs_that_are_small_by_chance_are_not_confined(seed):
    "A rate so low that nothing moves, and outputs that begin near 1."
    torch.manual_seed(seed)
    learn = digits(seed, model=mlp())
    x, _ = learn.dls.one_batch()
    with torch.no_grad():
        size = learn.model(x).abs().max()
        learn.model[-1].weight.mul_(0.95 / size)
        learn.model[-1].bias.mul_(0.95 / size)
    learning_rate(learn, 1e-4).apply(learn)
    evidence = measured(ID, learn, seed)
    assert evidence.get("largest output", PLACES[1]) > 5
    assert check_of(ID).judge(evidence).status == "pass"
    assert CAUSE not in [
        c.id for c in examined(learn, seed, only=[ID, "overfit-one-batch", "loss-fits-targets"]).causes
    ]


def test_a_regression_within_the_bounds_loses_nothing():
    learn = diabetes(0, lr=1e-9)
    learn.model = nn.Sequential(learn.model, nn.Tanh())
    with torch.no_grad():
        learn.model[0][-1].bias.fill_(3.0)  # so that its outputs are near 1
    for loader in learn.dls.loaders:
        x, y = loader.dataset.tensors
        loader.dataset.tensors = (x, y / y.abs().max())
    evidence = measured(ID, learn)
    assert evidence.get("within reach", "outputs up to 1") > 0.95
    assert check_of(ID).judge(evidence).status == "pass"


def test_what_a_softmax_confines_is_another_cause():
    learn = digits(0)
    fault_of("activation-twice").inject(learn)
    with pytest.raises(NotApplicable, match="softmax confines them"):
        measured(ID, learn)


def test_a_model_that_keeps_its_last_output_is_asked_too():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, x):
            self.last = self.net(x)
            return self.last

    assert judged(ID, digits(0, model=Keeps(), lr=1e-9)).status == "pass"


def test_what_is_learned_is_not_asked():
    with pytest.raises(NotApplicable, match="the batch is learned"):
        measured(ID, digits())


def test_judge_alone():
    def found(after, scaled, here, larger):
        sizes = [Evidence(name="largest output", value=v, where=w) for v, w in zip((after, scaled), PLACES)]
        reach = [("outputs up to 1", here), ("outputs up to 10", larger)]
        return EvidenceList([*sizes, *(Evidence(name="within reach", value=v, where=w) for w, v in reach)])

    check = check_of(ID)
    assert check.judge(found(0.99, 1.0, 0.6, 1.0)).status == "warn"
    assert check.judge(found(0.99, 9.0, 0.6, 1.0)).status == "pass"
    assert check.judge(found(0.99, 1.0, 0.9, 1.0)).status == "pass"
    assert check.judge(found(0.99, 1.0, 0.3, 0.35)).status == "pass"
    assert check.judge(EvidenceList()).status == "skip"
    judge_never_raises(ID, found(0.99, 1.0, 0.6, 1.0))


def test_a_twice_as_large_learning_rate_is_no_way_out_of_the_bounds():
    status, summary = judged(ID, _cosines())
    assert status == "warn"
    assert "within [-1, 1]" in summary
    assert math.isfinite(measured(ID, _cosines()).get("within reach", "outputs up to 10"))


def _cosines():
    learn = digits(2)
    fault_of("cosines-without-temperature").inject(learn)
    learn.lr = 2 * learn.lr
    return learn
