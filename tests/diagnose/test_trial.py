"""The scale of a loss, and trials on it."""

import math
from functools import partial

import pytest
import torch
from fastai.callback.core import Callback
from fastai.losses import BCEWithLogitsLossFlat, CrossEntropyLossFlat
from hypothesis import given, settings
from hypothesis import strategies as st
from learners import digits, probabilities, softmax_and_nll
from torch import nn

from diagnose.causes import paired_trial
from diagnose.changes import Change, learning_rate, rate_text, scaled_rate
from diagnose.checks._recorded import series, update_size
from diagnose.errors import NotApplicable, SubjectError
from diagnose.isolate import seed_everything, twin
from diagnose.lab import Lab, few_rows
from diagnose.subject import from_learner
from diagnose.trial import BudgetSpent, Scale, Trial, confined_by, measure_scale, run_trial, scale_of


def entropy(p):
    p = torch.tensor(p)
    return float(-(p * p.log()).sum())


def test_best_constant_of_cross_entropy_is_the_entropy_of_the_labels():
    y = torch.tensor([0, 0, 1, 2])
    scale = scale_of(lambda out: nn.functional.cross_entropy(out, y), torch.zeros(4, 3))
    assert scale.best_constant == pytest.approx(entropy([0.5, 0.25, 0.25]), abs=1e-4)
    assert scale.floor == pytest.approx(0, abs=1e-3)


def test_best_constant_of_binary_cross_entropy_of_two_thirds():
    y = torch.tensor([[1.0, 1, 0], [0, 1, 1], [1, 0, 1]])
    scale = scale_of(partial(lambda t, out: BCEWithLogitsLossFlat()(out, t), y), torch.zeros(3, 3))
    assert scale.best_constant == pytest.approx(0.6365, abs=1e-4)


def test_best_constant_of_squared_error_is_the_variance_at_any_scale():
    for size in (1e-3, 1, 1e4):
        y = torch.tensor([1.0, 2, 3, 6]) * size
        scale = scale_of(lambda out, y=y: nn.functional.mse_loss(out[:, 0], y), torch.zeros(4, 1))
        assert scale.best_constant == pytest.approx(float(y.var(unbiased=False)), rel=1e-3)
        assert scale.floor == pytest.approx(0, abs=1e-4 * size**2)


def test_best_constant_of_absolute_error_is_the_median():
    y = torch.tensor([0.0, 0, 1, 9, 2])
    scale = scale_of(lambda out: (out[:, 0] - y).abs().mean(), torch.zeros(5, 1))
    assert scale.best_constant == pytest.approx(2.2, abs=0.05)


def test_label_smoothing_has_a_floor_above_zero():
    y = torch.tensor([0, 1, 2, 3])
    loss = nn.CrossEntropyLoss(label_smoothing=0.2)
    scale = scale_of(lambda out: loss(out, y), torch.zeros(4, 4))
    assert scale.floor == pytest.approx(entropy([0.85, 0.05, 0.05, 0.05]), abs=1e-3)


def test_outputs_in_tuples_and_dicts():
    y = torch.tensor([1.0, -1.0])
    in_tuple = scale_of(
        lambda out: ((out[0][:, 0] - y) ** 2 + (out[1]["b"] + y) ** 2).mean(),
        (torch.zeros(2, 1), {"b": torch.zeros(2)}),
    )
    assert in_tuple.best_constant == pytest.approx(2, abs=1e-4)
    assert in_tuple.floor == pytest.approx(0, abs=1e-5)


def test_a_loss_without_lower_bound_has_no_floor():
    y = torch.tensor([3.0, 7.0])
    scale = scale_of(lambda out: nn.functional.binary_cross_entropy_with_logits(out[:, 0], y), torch.zeros(2, 1))
    assert scale.floor == -math.inf
    assert math.isnan(scale.learned(0.0))


def test_branches_that_agree_on_a_constant_are_targets_of_each_other_where_a_gradient_is_stopped():
    class Branches(nn.Module):
        def __init__(self, stop):
            super().__init__()
            self.net, self.stop = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8, affine=False)), stop

        def forward(self, x):
            z = self.net(x.flip(-1))
            return self.net(x), z.detach() if self.stop else z

    def apart(out, y):
        return nn.functional.mse_loss(*out)

    def scale(stop, loss):
        learn = digits(model=Branches(stop), loss_func=loss)
        return measure_scale(twin(learn, [first := learn.dls.one_batch()]), [first])

    stopped, free = scale(True, apart), scale(False, apart)
    assert stopped.taught
    assert stopped.best_constant == pytest.approx(1, abs=1e-3)  # the variance of what the norm gives
    assert stopped.floor == pytest.approx(0, abs=1e-4)
    assert not free.taught
    assert not free.room

    def labels(out, y):
        return nn.functional.cross_entropy(out[0], y % 8) + nn.functional.cross_entropy(out[1], y % 8)

    assert not scale(True, labels).taught  # a second head that gets no gradient is no target


def test_integer_outputs_are_refused_with_a_reason():
    with pytest.raises(NotApplicable, match="no floating-point"):
        scale_of(lambda out: out.float().mean(), torch.zeros(3, dtype=torch.long))


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(allow_nan=True, allow_infinity=True))
def test_learned_is_a_scale(constant, floor, loss):
    scale = Scale(max(constant, floor), min(constant, floor))
    learned = scale.learned(loss)
    if math.isnan(loss):
        assert math.isnan(learned)
    elif scale.room:
        assert scale.learned(scale.best_constant) == 0
        assert scale.learned(scale.floor) == pytest.approx(1)
    else:
        assert learned == 0


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (lambda x: x.softmax(1), "softmax"),
        (lambda x: x.log_softmax(1), "log_softmax"),
        (torch.sigmoid, "sigmoid"),
        (lambda x: torch.sigmoid(x).squeeze(-1), "sigmoid"),
        (lambda x: x, ""),
        (lambda x: torch.sigmoid(x) * 0.99 + 0.005, ""),
    ],
)
def test_what_confines_an_output(last, kind):
    x = torch.linspace(-2, 2, 12).reshape(4, 3).requires_grad_(True)
    assert confined_by(last(x)) == kind


def test_losses_that_expect_probabilities_keep_outputs_confined():
    for build in (probabilities, softmax_and_nll):
        scale = Lab(from_learner(build())).scale
        assert scale.confined
        assert scale.floor == scale.confined_floor
        assert scale.floor == pytest.approx(0, abs=1e-3)


def test_a_trial_is_repeatable_and_stops_when_enough_is_learned():
    lab = Lab(from_learner(digits()))
    a, b = lab.trial(scale=lab.scale), lab.trial(scale=lab.scale)
    assert a.loss == b.loss
    assert a.stopped == "learned"
    assert 50 <= len(a.loss) < 200
    assert a.learned >= 0.95
    assert a.steps == len(a.loss)
    assert a.recorded is None


def test_a_recorded_trial_is_the_same_trial():
    lab = Lab(from_learner(digits(dropout=0.3)))
    plain, recorded = lab.trial(scale=lab.scale, steps=40), lab.trial(scale=lab.scale, steps=40, record=True)
    assert plain.loss == recorded.loss
    steps = recorded.recorded.frame("steps")
    assert steps["loss"].tolist() == recorded.loss
    assert len(series(recorded, "gradient_norm")) == recorded.steps
    assert series(plain, "gradient_norm") == []
    sizes = update_size(recorded)
    assert len(sizes) == math.ceil(recorded.steps / 10)
    assert all(1e-5 < s < 0.5 for s in sizes)


def test_other_rows_are_others_and_as_many():
    lab = Lab(from_learner(digits()))
    first, second = lab.other_rows(1), lab.other_rows(2)
    assert len(first[0]) == len(second[0]) == lab.rows
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[0], lab.batch[0])
    assert lab.other_rows(4) is None  # 64 rows make 4 parts


class Pairs:
    """A lab whose trials give what a list says, pair by pair."""

    seed = 0

    def __init__(self, pairs):
        self.pairs, self.asked = list(pairs), 0

    def _trial(self, learned):
        return Trial("", Scale(1.0, 0.0), loss=[1 - learned], learned=learned)

    @property
    def baseline(self):
        return self._trial(self.pairs[0][0])

    def other_rows(self, number):
        return f"rows {number}" if number < len(self.pairs) else None

    def trial(self, change=None, batches=None, seed=0):
        self.asked += 1
        return self._trial(self.pairs[seed][change is not None])


@pytest.mark.parametrize(
    ("pairs", "outcome", "asked"),
    [
        ([(0.0, 0.95)], (True, False), 1),  # clear at once
        ([(0.3, 0.31)], (False, True), 1),
        ([(0.5, 0.85), (0.4, 0.9), (0.1, 0.1)], (True, False), 3),  # two agree: the third is not asked
        ([(0.5, 0.85), (0.4, 0.45), (0.2, 0.2)], (False, True), 5),
        ([(0.5, 0.85), (0.4, 0.45), (0.2, 0.9)], (True, False), 5),
        ([(0.5, 0.85)], (True, False), 1),  # no other rows: the one pair decides
        ([(0.5, 0.7), (0.5, 0.7), (0.0, 0.9)], (False, False), 3),
    ],
)
def test_where_one_pair_is_not_clear_others_decide(pairs, outcome, asked):
    lab = Pairs(pairs)
    settled = paired_trial(lab, Change("x", lambda learn: None))
    assert (settled.proven, settled.refuted) == outcome
    assert lab.asked == asked
    if asked > 1:
        assert settled.proof.before.numbers["pairs of trials"] == (asked + 1) // 2


def test_two_trials_differ_by_their_change_only():
    lab = Lab(from_learner(digits(dropout=0.5)))
    same, slower = lab.trial(steps=20), lab.trial(learning_rate(lab.learn, 0.1), steps=20)
    assert same.loss[0] == slower.loss[0]  # same weights, same batch, same dropout mask
    assert same.loss[1] != slower.loss[1]


def test_a_learning_rate_inside_a_partial_is_changed_too():
    from fastai.optimizer import Adam

    lab = Lab(from_learner(digits(opt_func=partial(Adam, lr=3e-3))))
    slow = lab.trial(learning_rate(lab.learn, 1e-6), steps=20)
    assert slow.loss[-1] == pytest.approx(slow.loss[0], rel=1e-2)


def test_a_loss_that_is_not_finite_ends_the_trial():
    lab = Lab(from_learner(digits()))
    trial = lab.trial(learning_rate(lab.learn, 1e30))
    assert trial.stopped == "not finite"
    assert math.isnan(trial.learned)
    assert not trial.is_learned


def test_the_deadline_breaks_a_trial_off():
    learn = digits()
    with pytest.raises(BudgetSpent):
        run_trial(learn, [Lab(from_learner(learn)).batch], deadline=0.0)


def test_an_exception_under_a_change_is_a_reason_and_not_a_crash():
    from diagnose.changes import Change

    def spoil(twin):
        twin.model = nn.Linear(3, 3)

    lab = Lab(from_learner(digits()))
    with pytest.raises(NotApplicable, match="under the change 'spoilt'"):
        lab.trial(Change("spoilt", spoil))


def test_the_users_own_exception_comes_through_fastai():
    class Asserts(Callback):
        def after_batch(self):
            raise AssertionError  # without a message: fastai turns it into an IndexError

    with pytest.raises(SubjectError) as caught:
        Lab(from_learner(digits(cbs=Asserts()))).trial()
    assert isinstance(caught.value.original, AssertionError)


def test_few_rows_have_more_than_one_label_if_there_are_any():
    x, y = torch.rand(64, 2), torch.cat([torch.zeros(60), torch.ones(4)])
    _, some = few_rows((x, y), 16)
    assert len(some) == 16
    assert len(some.unique()) == 2
    assert few_rows((x, y[:5]), 16)[0] is x  # no common first dimension: kept whole


def test_rates_as_text_and_slices():
    assert rate_text(0.002) == "0.002"
    assert rate_text(slice(1e-5, 1e-3)) == "slice(1e-05, 0.001)"
    assert scaled_rate(slice(1e-5, 1e-3), 10) == slice(pytest.approx(1e-4), pytest.approx(1e-2))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(2, 6), st.integers(0, 10**6))
def test_no_output_beats_the_floor_and_no_constant_the_best_one(rows, classes, seed):
    seed_everything(seed)
    y, out = torch.randint(classes, (rows,)), torch.randn(rows, classes) * 3
    loss = CrossEntropyLossFlat()
    scale = scale_of(lambda o: loss(o, y), torch.zeros(rows, classes))
    assert scale.floor <= float(loss(out, y)) + 1e-4
    assert scale.best_constant <= float(loss(out[:1].expand_as(out), y)) + 1e-3
