"""Layers in a plain list are named; random features in a list under a head that learns are not."""

import pytest
import torch
from learners import diabetes, digits
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from torch import nn

ID = "params-outside-module"


class Hidden(nn.Module):
    "Keeps a body out of the model on purpose, as people do with a loss network or a teacher."

    def __init__(self):
        super().__init__()
        self.body, self.head = [nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU())], nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body[0](x))


def random_features(seed):
    return digits(seed, model=Hidden(), lr=3e-2)


NAMED = [("layers-in-a-list", digits), ("layers-in-a-list", diabetes)]
HEALTHY = {"random features in a list": random_features}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("fault", "subject"), NAMED)
def test_the_fault_is_named_first_and_proven(fault, subject, seed):
    is_named(with_fault(fault, subject(seed), seed), ID)


@pytest.mark.parametrize("subject", HEALTHY)
def test_the_look_alike_is_left_alone(subject):
    is_left_alone(examined(HEALTHY[subject](0)), ID)


def test_suspicion_stands_any_evidence():
    fault, subject = NAMED[0]
    findings = findings_of(with_fault(fault, subject(0)))
    stands_any_evidence(ID, findings)
