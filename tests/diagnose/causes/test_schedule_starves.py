"""Schedules that keep the rate away: named and proven; warm-up, one cycle and cosine annealing are left alone."""

import pytest
from fastai.callback.schedule import ParamScheduler, SchedCos, combined_cos
from learners import diabetes, digits
from naming import examined, findings_of, in_turn, is_left_alone, is_named, stands_any_evidence, with_fault

ID = "schedule-starves"


@in_turn(build=[digits, diabetes], fault=["rate-annealed-at-once", "warmup-longer-than-the-run"])
def test_a_rate_that_never_arrives_is_named(build, fault, seed):
    is_named(with_fault(fault, build, seed), ID)


@pytest.mark.parametrize(
    "schedule",
    [lambda: combined_cos(0.25, 1e-4, 3e-3, 3e-8), lambda: combined_cos(0.5, 0, 3e-3, 3e-3), lambda: SchedCos(3e-3, 0)],
    ids=["one cycle", "warm-up from zero", "cosine annealing"],
)
def test_usual_schedules_are_left_alone(schedule):
    is_left_alone(examined(digits(cbs=ParamScheduler({"lr": schedule()}))), ID)


def test_a_schedule_is_not_blamed_for_a_rate_that_is_too_low_anyway():
    learn = digits(lr=1e-8, cbs=ParamScheduler({"mom": SchedCos(0.9, 0.8)}))
    assert ID not in [c.id for c in examined(learn).causes]


def test_numbers_alone():
    stands_any_evidence(ID, findings_of(with_fault("rate-annealed-at-once", digits)))
