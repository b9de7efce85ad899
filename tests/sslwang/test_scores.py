"""Scores against scikit-learn and plain loops, on predictions of every kind; intervals against SciPy's tests."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from sslwang.scores import (
    NOTHING,
    accuracy,
    balanced_accuracy,
    calibration_error,
    confusion,
    elsewhere,
    interval,
    masked,
    paired,
    predicted,
    recalls,
    reliability,
    summary,
)


@st.composite
def judged(draw):
    """Probabilities with zeros, ties and certainties among them, labels that may miss classes, and allowed places."""
    rows, classes = draw(st.integers(1, 30)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    p = rng.integers(0, draw(st.sampled_from([1, 2, 9, 1000])) + 1, (rows, classes)).astype(np.float64)
    p[p.sum(1) == 0, 0] = 1
    p = (p / p.sum(1, keepdims=True)).astype(draw(st.sampled_from([np.float32, np.float64])))
    labels = rng.integers(0, draw(st.integers(1, classes)), rows)
    places = np.sort(rng.choice(classes, draw(st.integers(1, classes)), replace=False))
    return p, labels, places


@given(judged())
def test_scores_are_those_of_scikit_learn(given_):
    p, y, _ = given_
    said, classes = p.argmax(1), p.shape[1]
    assert accuracy(p, y) == pytest.approx(metrics.accuracy_score(y, said))
    assert confusion(p, y).tolist() == metrics.confusion_matrix(y, said, labels=range(classes)).tolist()
    present = np.unique(y)
    of_class = metrics.recall_score(y, said, labels=present, average=None, zero_division=0)
    assert recalls(p, y)[present] == pytest.approx(of_class)
    assert np.isnan(np.delete(recalls(p, y), present)).all()
    assert balanced_accuracy(p, y) == pytest.approx(of_class.mean())


@given(judged())
def test_masked_scores_are_those_of_a_network_without_the_other_outputs(given_):
    p, y, places = given_
    within = p[:, places].astype(np.float64)
    said = np.where(within.sum(1) > 0, places[within.argmax(1)], NOTHING)
    assert predicted(p, places).tolist() == said.tolist()
    assert accuracy(p, y, places) == pytest.approx(np.mean(said == y))
    assert confusion(p, y, places).sum() == (said != NOTHING).sum()
    assert not np.delete(confusion(p, y, places), places, axis=1).any()
    assert balanced_accuracy(p, y, places) == pytest.approx(np.mean([np.mean(said[y == c] == c) for c in np.unique(y)]))
    given_that = masked(p, places)
    assert not np.delete(given_that, places, axis=1).any()
    assert given_that.sum(1) == pytest.approx((within.sum(1) > 0).astype(float))


@given(judged())
def test_all_places_are_no_mask(given_):
    p, y, _ = given_
    whole = np.arange(p.shape[1])
    for score in (accuracy, balanced_accuracy):
        assert score(p, y, whole) == score(p, y)
    assert calibration_error(p, y, whole) == pytest.approx(calibration_error(p, y), abs=1e-6)
    assert elsewhere(p, whole).sum() == 0


@given(judged(), st.integers(1, 20))
def test_the_calibration_error_is_that_of_a_plain_loop(given_, bins):
    """Guo et al. 2017, eq. 3: bins ((m - 1) / M, m / M]."""
    p, y, _ = given_
    sure, right = p.astype(np.float64).max(1), p.argmax(1) == y
    edges = np.linspace(0, 1, bins + 1)
    error = 0.0
    for low, high in itertools.pairwise(edges):
        mine = (sure > low) & (sure <= high)
        if mine.any():
            error += mine.mean() * abs(right[mine].mean() - sure[mine].mean())
    assume(np.abs(sure[:, None] - edges[1:-1]).min(initial=1) > 1e-12 or bins in (1, 2, 4, 8))
    assert calibration_error(p, y, bins=bins) == pytest.approx(error, abs=1e-12)
    found = reliability(p, y, bins=bins)
    assert found.count.sum() == len(y)
    assert (np.isnan(found.confidence) == (found.count == 0)).all()


def test_by_hand():
    """Image-wang in small: class 1 is not in validation and takes one prediction of four."""
    p = np.array([[0.72, 0.18, 0.1], [0.1, 0.62, 0.28], [0.38, 0.0, 0.62], [0.5, 0.0, 0.5]])
    y, places = np.array([0, 2, 2, 2]), np.array([0, 2])
    assert predicted(p).tolist() == [0, 1, 2, 0]  # of equal probabilities the first
    assert accuracy(p, y) == 0.5
    assert accuracy(p, y, places) == 0.75
    assert elsewhere(p, places).tolist() == [0, 1, 0]
    assert balanced_accuracy(p, y) == pytest.approx((1 + 1 / 3) / 2)
    assert recalls(p, y, places)[2] == pytest.approx(2 / 3)
    found = summary(p, y, places)
    assert found["accuracy"] == 0.5
    assert found["accuracy masked"] == 0.75
    assert found["predictions elsewhere"] == 0.25
    confidence = (0.72 + 0.62 + 0.62 + 0.5) / 4
    assert calibration_error(p, y, bins=1) == pytest.approx(abs(confidence - 0.5))
    assert calibration_error(p, y, bins=10) == pytest.approx((1 * 0.28 + 2 * (0.62 - 0.5) + 1 * 0.5) / 4)


def test_one_certain_prediction():
    p, y = np.array([[0.0, 1.0]]), np.array([1])
    assert (accuracy(p, y), balanced_accuracy(p, y), calibration_error(p, y)) == (1, 1, 0)
    assert calibration_error(p, np.array([0])) == 1
    assert math.isnan(recalls(p, y)[0])


def test_a_row_without_any_probability_among_the_allowed_is_wrong_and_never_the_first_class():
    p, y, places = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.array([1, 1]), np.array([1, 2])
    assert predicted(p, places).tolist() == [NOTHING, 1]
    assert accuracy(p, y, places) == 0.5
    assert confusion(p, y, places).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert reliability(p, y, places).count[0] == 1


@pytest.mark.parametrize(
    ("p", "y"),
    [
        (np.array([[np.nan, 1.0]]), np.array([0])),
        (np.array([[-0.1, 1.1]]), np.array([0])),
        (np.zeros((0, 3)), np.zeros(0, int)),
        (np.array([0.5, 0.5]), np.array([0])),
        (np.array([[0.5, 0.5]]), np.array([2])),
        (np.array([[0.5, 0.5]]), np.array([-1])),
        (np.array([[0.5, 0.5]]), np.array([0.0])),
        (np.array([[0.5, 0.5]]), np.array([0, 1])),
    ],
)
def test_what_is_no_prediction_or_no_label_is_refused(p, y):
    with pytest.raises(ValueError, match="must be"):
        accuracy(p, y)


def test_no_allowed_class_is_refused():
    with pytest.raises(ValueError, match="no class may be predicted"):
        predicted(np.array([[0.5, 0.5]]), [])


# ---- over seeds ------------------------------------------------------------------------------------------------------

values = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=8)


@given(values, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_interval_is_students(x, level):
    assume(np.std(x) > 1e-6)
    found = interval(x, level)
    low, high = stats.t.interval(level, len(x) - 1, loc=np.mean(x), scale=stats.sem(x))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.mean == pytest.approx(np.mean(x))
    assert found.sd == pytest.approx(np.std(x, ddof=1))
    assert found.half == pytest.approx((high - low) / 2)


@given(values, st.integers(0, 2**32))
def test_a_paired_interval_excludes_zero_where_the_paired_test_finds_a_difference(x, seed):
    others = np.random.default_rng(seed).random(len(x))
    assume(np.std(np.subtract(x, others)) > 1e-6)
    p = stats.ttest_rel(x, others).pvalue
    assume(abs(p - 0.05) > 1e-6)
    assert paired(x, others).excludes(0) == (p < 0.05)


def test_three_seeds_by_hand():
    """The 97.5 % point of Student's t with 2 degrees of freedom is 4.303."""
    found = interval([0.70, 0.72, 0.74])
    assert found.mean == pytest.approx(0.72)
    assert found.sd == pytest.approx(0.02)
    assert found.half == pytest.approx(4.302653 * 0.02 / math.sqrt(3))


def test_pairs_cancel_what_seeds_have_in_common():
    """Both starts see the same seeds: a gain of 2 points in each is certain, however much the seeds differ."""
    scratch = [0.5, 0.7, 0.9]
    better = [0.52, 0.72, 0.921]
    assert paired(better, scratch).excludes(0)
    assert not (interval(better).low > interval(scratch).high)


def test_one_value_has_no_interval_and_proves_nothing():
    found = interval([0.9])
    assert (found.mean, found.n) == (0.9, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.sd)
    assert not found.excludes(0)
    assert not paired([0.9], [0.1]).excludes(0)


@pytest.mark.parametrize("x", [[], [0.5, math.nan], [math.inf]])
def test_no_interval_of_what_is_no_number(x):
    with pytest.raises(ValueError, match="finite values"):
        interval(x)


def test_unequal_numbers_of_runs_are_no_pairs():
    with pytest.raises(ValueError, match="3 and 2 values"):
        paired([1, 2, 3], [1, 2])
