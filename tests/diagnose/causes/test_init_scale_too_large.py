"""Weights that drown everything are named; large ones that a norm layer divides out are not."""

import torch
from learners import diabetes, digits, fine_tuning_rate
from naming import CauseTests

ID = "init-scale-too-large"


def large_before_norm(seed):
    learn = digits(seed)
    with torch.no_grad():
        learn.model[0][0].weight *= 30
    return learn


NAMED = [("weights-huge", digits), ("weights-of-unit-variance", digits), ("weights-huge", diabetes)]
HEALTHY = {"large before batch norm": large_before_norm, "fine-tuned": fine_tuning_rate}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
