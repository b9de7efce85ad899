"""Inputs in raw units or next to nothing: named and proven; norm layers and models that scale are left alone."""

from learners import diabetes, digits
from naming import examined, findings_of, in_turn, is_left_alone, is_named, stands_any_evidence, with_fault
from odd_subjects import byte_pictures, flat_regression
from torch import nn

from diagnose.faults._items import alter

ID = "inputs-not-normalised"


def plain_digits(seed=0):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return digits(seed, model=model)


@in_turn(build=[diabetes, flat_regression, plain_digits], fault=["raw-units", "inputs-divided-again"])
def test_inputs_of_an_odd_size_are_named(build, fault, seed):
    is_named(with_fault(fault, build, seed), ID)


def test_bytes_under_norm_layers_are_left_alone():
    learn = digits()
    alter(learn, lambda inputs, targets, i: ([inputs[0] * 255], targets))
    is_left_alone(examined(learn), ID)


def test_a_model_that_scales_its_bytes_is_left_alone():
    is_left_alone(examined(byte_pictures()), ID)


def test_large_inputs_are_not_blamed_for_a_rate_of_next_to_nothing():
    learn = diabetes(lr=1e-8)
    alter(learn, lambda inputs, targets, i: ([inputs[0] * 30], targets))
    found = next(c for c in examined(learn).causes if c.id == ID)
    assert found.refuted


def test_numbers_alone():
    stands_any_evidence(ID, findings_of(with_fault("raw-units", diabetes)))
