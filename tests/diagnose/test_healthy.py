"""A healthy subject is never failed: every odd-but-right Learner, over several seeds."""

import pytest
from learners import HEALTHY

from diagnose.examination import examine
from diagnose.subject import from_learner

# odd enough for a remark, never for a failure: pair_scores starts far above the best constant
WARNED = {"summed_loss_under_adam", "fine_tuning_rate", "no_grad_body", "pair_scores"}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_subject_is_not_failed(name, seed):
    diagnosis = examine(from_learner(HEALTHY[name](seed)), seed=seed, budget=None)
    assert diagnosis.verdict != "fail", (diagnosis.summary, [c.summary for c in diagnosis.causes])
    assert not [c.id for c in diagnosis.causes if c.proven]
    if name not in WARNED:
        assert diagnosis.verdict == "pass", diagnosis.summary
