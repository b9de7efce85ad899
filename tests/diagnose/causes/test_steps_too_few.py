"""A run of a few steps: named and proven; short runs that got somewhere, and untrained Learners, are left alone."""

from learners import diabetes, digits
from naming import cause_of, examined, findings_of, in_turn, is_left_alone, is_named, stands_any_evidence, with_fault
from odd_subjects import flat_regression

from diagnose.faults.broken_off_early import _StopAt

ID = "steps-too-few"


def fitted(learn, steps, lr=None):
    with learn.no_bar(), learn.no_logging():
        learn.fit(steps // len(learn.dls.train) + 1, lr, cbs=_StopAt(steps))
    return learn


@in_turn(build=[digits, flat_regression])
def test_a_run_broken_off_after_four_steps_is_named(build, seed):
    proof = is_named(with_fault("broken-off-early", build, seed), ID).proof
    assert len(proof.before.loss) == 4
    assert len(proof.after.loss) >= 50


def test_a_short_run_that_got_somewhere_is_left_alone():
    learn = fitted(digits(), 60)
    diagnosis = examined(learn)
    assert findings_of(diagnosis).value("past-run", "learned by its end") > 0.1
    is_left_alone(diagnosis, ID)


def test_an_untrained_learner_is_left_alone():
    diagnosis = examined(digits())
    assert not diagnosis.check("past-run")
    is_left_alone(diagnosis, ID)


def test_a_long_run_that_came_to_nothing_is_another_cause():
    diagnosis = examined(fitted(digits(lr=1e-9), 210))
    assert findings_of(diagnosis).value("past-run", "steps") >= 210
    assert cause_of(ID).suspect(findings_of(diagnosis)) is None


def test_a_rate_of_next_to_nothing_refutes_it():
    found = {c.id: c for c in examined(fitted(diabetes(lr=1e-9), 10)).causes}
    assert found[ID].refuted


def test_numbers_alone():
    stands_any_evidence(ID, findings_of(with_fault("broken-off-early", digits)))
