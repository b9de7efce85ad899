"""A last bias that is far off is named; targets that are not standardised and learned all the same are not."""

from learners import diabetes, digits, pair_scores
from naming import CauseTests
from odd_subjects import far_targets

ID = "init-output-bias"

NAMED = [("last-bias-far", digits), ("last-bias-far", diabetes)]
HEALTHY = {"targets around 2": far_targets, "scores of pairs": pair_scores}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
