"""overfit-one-batch: what looks half learned, or like nothing to learn, and is fine; and what is not."""

import pytest
import torch
from judging import check_of, judge_never_raises, measured, nan_never_passes, passes_as_odd
from learners import _digits, diabetes, digits, pair_scores
from odd_subjects import learner
from torch import nn
from torch.nn import functional as F

from diagnose.checks.overfit_one_batch import REACH
from diagnose.isolate import seed_everything

ID = "overfit-one-batch"


class Siamese(nn.Module):
    "One view predicts the features of the other, whose gradient is stopped (SimSiam, Chen & He 2021)."

    def __init__(self, norm, predictor):
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Flatten(), nn.Linear(64, 96), norm(96), nn.ReLU(), nn.Linear(96, 24), norm(24, affine=False))
        )
        self.predictor = nn.Sequential(nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, 24)) if predictor else nn.Identity()

    def forward(self, a, b):
        return self.predictor(self.encoder(a)), self.encoder(b).detach()


def cosine(views, index):
    return -F.cosine_similarity(*views, dim=1).mean()


def siamese(seed=0, norm=nn.BatchNorm1d, predictor=True):
    seed_everything(seed)
    x, _ = _digits()
    items = [(x[i] + 0.1 * torch.randn_like(x[i]), x[i].roll(1, -1), i) for i in range(256)]
    return learner(items, Siamese(norm, predictor), cosine, n_inp=2)


@pytest.mark.parametrize("seed", [0, 1])
def test_one_branch_as_the_target_of_another(seed):
    looks = "a loss that a constant output satisfies: learned 9"
    summary = passes_as_odd(ID, siamese(seed), looks, "outputs of different rows differ still", seed)
    assert "the best constant stood at -0.0" in summary


@pytest.mark.parametrize("seed", [0, 1])
def test_collapse_learns_nothing_however_low_its_loss(seed):
    learn = siamese(seed, norm=lambda width, affine=True: nn.Identity(), predictor=False)
    evidence = measured(ID, learn, seed)
    status, summary = check_of(ID).judge(evidence)
    assert status == "fail"
    assert "learned nothing of one batch" in summary or "learned 1% of one batch" in summary
    assert evidence.get("last loss") < -0.99  # of -1, the lowest there is


def test_scores_of_pairs_cannot_reach_what_the_loss_would_like_best():
    fine = "no outputs of the last layer, encoder.3, reach more than 68%"
    passes_as_odd(ID, pair_scores(), "a batch half learned: learned 68%", fine)


def test_half_learned_below_what_is_within_reach():
    learn = pair_scores()
    learn.lr = 1e-4
    evidence = measured(ID, learn)
    status, summary = check_of(ID).judge(evidence)
    assert evidence.get("learned") < 0.95 * 0.68
    assert status != "pass", summary


def test_a_last_activation_is_no_limit_of_the_task():
    learn = diabetes()
    learn.model.add_module("clamp", nn.Hardtanh(-0.8, 0.8))
    evidence = measured(ID, learn)
    assert 0.5 <= evidence.get("learned") < 0.8
    assert evidence.get(REACH) is None
    assert check_of(ID).judge(evidence).status == "warn"


def test_judge():
    for learn in (digits(), siamese(), pair_scores()):
        evidence = measured(ID, learn)
        judge_never_raises(ID, evidence)
        nan_never_passes(ID, evidence, "learned")
