"""Equal draws of two workers or two epochs: named and proven; torch's own seeding and items' own streams are left."""

import numpy as np
import pytest
import torch
from data_subjects import digit, over
from learners import digits
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault

ID = "loader-repeats-random-numbers"


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("fault", "what"), [("workers-alike", "both workers"), ("epochs-alike", "both epochs")])
def test_repeated_draws_are_named(fault, what, seed):
    assert what in is_named(with_fault(fault, digits, seed, skip=["loader-throughput"]), ID).summary


def test_noise_from_streams_that_fastai_seeds_is_left_alone():
    def noisy(i):
        x, y = digit(i)
        return x + 0.01 * torch.as_tensor(np.random.standard_normal(tuple(x.shape))).float(), y  # noqa: NPY002

    is_left_alone(examined(over(noisy, workers=2), skip=["loader-throughput"]), ID)


def test_noise_from_a_generator_of_the_item_is_left_alone():
    def noisy(i):
        x, y = digit(i)
        return x + 0.01 * torch.as_tensor(np.random.default_rng([7, i]).standard_normal(tuple(x.shape))).float(), y

    is_left_alone(examined(over(noisy, workers=2), skip=["loader-throughput"]), ID)


def test_numbers_alone():
    found = findings_of(with_fault("workers-alike", digits, only=["worker-draws"]))
    stands_any_evidence(ID, found)
