"""A loss that teaches nothing in small batches is told by a larger one; small batches that teach are left alone."""

import pytest
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged, measured
from learners import HEALTHY, digits
from torch import nn
from torch.nn import functional as F

from diagnose.errors import NotApplicable

ID = "larger-batch"
SEEDS = (0, 1, 2)


class HardRows(nn.Module):
    """Cross-entropy of the hard rows only: all but a number, or a share, of the easiest."""

    def __init__(self, easy: float):
        super().__init__()
        self.easy = easy

    def forward(self, out, y):
        losses = F.cross_entropy(out, y, reduction="none").sort().values
        left_out = int(self.easy if self.easy >= 1 else self.easy * len(losses))
        return losses[left_out:].sum() / max(len(losses) - left_out, 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_number_of_rows_that_was_meant_for_large_batches(seed):
    learn = digits(seed, loss_func=HardRows(16))
    evidence = measured(ID, learn, seed)
    status, summary = check_of(ID).judge(evidence)
    assert status == "warn", summary
    assert "learned nothing of one batch as it is" in summary
    assert f"64 rows in place of 16: {evidence.get('learned', 'changed'):.0%}" in summary
    assert evidence.get("learned", "changed") >= 0.8


@pytest.mark.parametrize("seed", SEEDS)
def test_a_share_of_the_rows_is_healthy(seed):
    status, summary = judged(ID, digits(seed, loss_func=HardRows(0.25)), seed)
    assert status == "pass", summary


@pytest.mark.parametrize("name", ["pair_scores", "heavy_dropout"])
def test_healthy_subjects_pass(name):
    status, summary = judged(ID, HEALTHY[name]())
    assert status == "pass", summary


def test_a_loader_without_more_rows_is_not_asked():
    learn = digits(bs=16)
    learn.dls.train.dataset.tensors = tuple(t[:16] for t in learn.dls.train.dataset.tensors)
    learn.dls.train.n = 16
    with pytest.raises(NotApplicable, match="no more than 16 rows"):
        measured(ID, learn)


@given(evidence_of(["change", "learned"]))
def test_judge_never_raises(evidence):
    assert is_judgement(check_of(ID).judge(evidence))
