"""A healthy subject passes: every odd-but-right Learner, over several seeds, with what it looks like and is not."""

import pytest
from learners import HEALTHY

from diagnose.examination import examine
from diagnose.subject import from_learner

# each looks ill to one check, which says why it is not
LOOKS = {"summed_loss_under_adam": "loss-contract", "no_grad_body": "gradient-flow", "pair_scores": "overfit-one-batch"}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_subject_passes(name, seed):
    diagnosis = examine(from_learner(HEALTHY[name](seed)), seed=seed, budget=None)
    assert [(c.id, c.status, c.summary) for c in diagnosis.checks if c.status != "pass"] == []
    assert diagnosis.verdict == "pass", (diagnosis.summary, [c.summary for c in diagnosis.causes])
    assert not [c.id for c in diagnosis.causes if c.proven]
    odd = [c.id for c in diagnosis.checks if c.summary.startswith("looks like ") and "; is fine because " in c.summary]
    assert odd == ([LOOKS[name]] if name in LOOKS else [])
