"""Symptoms are told last and never proven; a healthy subject has none."""

import math
from functools import cache, partial

import pytest
from fastai.optimizer import SGD
from learners import diabetes, digits
from naming import cause_of, examined, fault_of, findings_of, stands_any_evidence
from torch import nn
from watched import digits as by_mlp

from diagnose.causes import Findings
from diagnose.evidence import Evidence, EvidenceList

ONLY = ("signal-through-depth", "gradient-flow", "first-loss", "overfit-one-batch", "real-against-random")
IDS = (
    *("gradients-vanishing", "gradients-exploding", "loss-nonfinite", "loss-plateau", "learns-noise-alike"),
    "task-too-hard",
)


def deep(activation, gain, seed):
    learn = diabetes(seed)
    layers = [layer for _ in range(12) for layer in (nn.Linear(16, 16), activation())]
    learn.model = nn.Sequential(nn.Linear(10, 16), *layers, nn.Linear(16, 1))
    for layer in learn.model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, gain / layer.in_features**0.5)
            nn.init.zeros_(layer.bias)
    return learn


def blanked(seed):
    learn = by_mlp(seed)
    fault_of("forward-blanks-its-input").inject(learn)
    return learn


FAULTY = {
    "gradients-vanishing": partial(deep, nn.Sigmoid, 1.0),
    "gradients-exploding": partial(deep, nn.ReLU, 6.0),
    "loss-nonfinite": lambda seed: diabetes(seed, opt_func=SGD, lr=1e4),
    "loss-plateau": blanked,
    "learns-noise-alike": blanked,
}


@cache
def examined_once(build):
    return examined(build(0), only=ONLY)


@pytest.mark.parametrize("id", FAULTY)
def test_the_symptom_is_told_and_never_proven(id):
    diagnosis = examined_once(FAULTY[id])
    told = [c.id for c in diagnosis.causes]
    assert id in told, told
    found = diagnosis.causes[told.index(id)]
    assert not found.proven
    assert all(c.id in (*IDS, "output-collapse") for c in diagnosis.causes[told.index(id) :]), told
    if id not in ("loss-nonfinite", "loss-plateau"):
        stands_any_evidence(id, findings_of(diagnosis), numbers=id != "gradients-exploding")
    assert cause_of(id).suspect(Findings()) is None


@pytest.mark.parametrize("build", [digits, diabetes])
def test_a_healthy_subject_has_no_symptom(build):
    findings = findings_of(examined(build(0), only=ONLY))
    assert len(findings) == len(ONLY)
    assert [id for id in IDS if cause_of(id).suspect(findings)] == []


def versions(**learned):
    return Findings(
        {
            "easier-versions": EvidenceList(
                Evidence(name="learned on held-out rows", value=v, where=w) for w, v in learned.items()
            )
        }
    )


def test_a_task_is_too_hard_only_beside_an_easier_one_that_is_learned():
    cause = cause_of("task-too-hard")
    assert "hard" in cause.suspect(versions(easy=0.9, hard=0.1)).reason
    assert cause.suspect(versions(easy=0.9, hard=0.8)) is None
    assert cause.suspect(versions(easy=0.1, hard=0.1)) is None
    assert cause.suspect(versions(easy=math.nan, hard=math.nan)) is None
    stands_any_evidence("task-too-hard", versions(easy=0.9, hard=0.1))


def test_nan_is_no_plateau():
    cause = cause_of("loss-plateau")
    names = {"learned": 0.0, "steps": 200, "best constant": 1.0, "floor": 0.0, "last loss": 1.0}
    whole = EvidenceList(Evidence(name=n, value=v) for n, v in names.items())
    assert cause.suspect(Findings({"overfit-one-batch": whole}))
    for name in ("learned", "best constant", "floor"):
        broken = EvidenceList(e.model_copy(update={"value": math.nan}) if e.name == name else e for e in whole)
        assert cause.suspect(Findings({"overfit-one-batch": broken})) is None
