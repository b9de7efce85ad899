"""The versions of a task are learned in order, and the first that is not is named; `judge` of what only tasks have."""

import pytest
import torch
from hypothesis import given
from judging import check_of, evidence_of, is_judgement
from learners import _digits, digits, loaders_of
from watched import digits as by_mlp

from diagnose.checks import Evidence, EvidenceList
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.subject import from_learner
from diagnose.task import Task

CHECK = check_of("easier-versions")
NUMBERS = {
    "easier-versions": ["learned on held-out rows", "score above the best constant"],
    "identical-pairs": ["difference of identical images", "difference of different images"],
    "permuted-sources": ["difference"],
}


class Version(Task):
    """Digits, some of whose labels are shuffled."""

    metric, chance = "accuracy", 0.1

    def __init__(self, share=0.0):
        super().__init__()
        self.share = share

    def loaders(self, seed, device="cpu"):
        x, y = _digits()
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(y), generator=generator)[: round(self.share * len(y))]
        y = y.clone()
        y[chosen] = y[chosen[torch.randperm(len(chosen), generator=generator)]]
        return loaders_of(x, y)

    def score(self, outputs, y):
        return (outputs.argmax(1) == y).float().mean()


class Ladder(Version):
    """Two easier versions, of which some are spoilt."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def easier(self):
        return {"first": Version(self.first), "second": Version(self.second)}


def judged_with(task, seed=0):
    subject = from_learner(by_mlp(seed))
    subject.task = task
    return CHECK.judge(CHECK.measure(Lab(subject, seed)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_versions_that_can_be_learned_pass(seed):
    status, summary = judged_with(Ladder(0.0, 0.3), seed)
    assert status == "pass", summary
    assert "first" in summary
    assert "second" in summary


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("first", "second", "status", "named"), [(1, 0, "fail", "first"), (0, 1, "warn", "second")])
def test_the_first_version_that_is_not_learned_is_named(first, second, status, named, seed):
    said, summary = judged_with(Ladder(first, second), seed)
    assert said == status, summary
    assert summary.startswith(f"{named} is not learned")
    assert "needed 30%" in summary


def test_without_a_task_it_is_not_asked():
    with pytest.raises(NotApplicable, match="only a registered task"):
        CHECK.measure(Lab(from_learner(digits())))


@pytest.mark.parametrize("id", NUMBERS)
def test_judges_never_raise(id):
    @given(evidence_of(NUMBERS[id]))
    def holds(evidence):
        assert is_judgement(check_of(id).judge(evidence))

    holds()


@pytest.mark.parametrize("id", NUMBERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "text", -1.0])
def test_what_is_no_number_never_passes(id, value):
    found = EvidenceList([Evidence(name=n, value=value, where="train") for n in NUMBERS[id]])
    passes = check_of(id).judge(found).status == "pass"
    assert not passes or (id == "easier-versions" and value == float("inf"))
