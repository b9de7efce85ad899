"""Cells side by side, and what is said of them: only what the intervals show."""

import dataclasses
import math

import numpy as np
import pytest
from evaluations import SETTINGS, cell, evaluation, predictions, start
from scipy import stats

from sslwang.evaluation.cells import read_cell
from sslwang.evaluation.comparison import sentences, verdicts
from sslwang.evaluation.starts import Budget
from sslwang.evaluation.store import write_json
from sslwang.scores import Interval, reliability
from sslwang.telling import points

RANDOM, SIMCLR, UNMIX = start("random", "random"), start("simclr", "baseline"), start("unmix")


def told(found):
    return "\n".join(sentences(found))


def test_means_have_the_t_interval_over_seeds():
    found = evaluation([(RANDOM, {"knn": [0.3, 0.4, 0.5]})]).mean("random", "knn", 0.01)
    low, high = stats.t.interval(0.95, 2, loc=0.4, scale=0.1 / math.sqrt(3))
    assert (found.mean, found.low, found.high) == pytest.approx((0.4, low, high))


def test_differences_are_paired_by_seed():
    found = evaluation([(RANDOM, {"knn": [0.2, 0.4, 0.6]}), (UNMIX, {"knn": [0.3, 0.5, 0.7]})])
    x = found.difference("unmix", "random", "knn", 0.01)
    assert (x.mean, x.low, x.high) == pytest.approx((0.1, 0.1, 0.1))  # unpaired the spread of the seeds would hide it


def test_only_seeds_that_both_have_are_compared():
    full = evaluation([(RANDOM, {"knn": [0.2, 0.4, 0.6]}), (UNMIX, {"knn": [0.3, 0.5, 0.7]})])
    cells = tuple(c for c in full.cells if (c["start"], c["seed"]) != ("random", 1))
    found = evaluation([(RANDOM, {"knn": [0.2, 0.4, 0.6]}), (UNMIX, {"knn": [0.3, 0.5, 0.7]})], cells=cells)
    assert found.difference("unmix", "random", "knn", 0.01).n == 2
    assert evaluation([(RANDOM, {"knn": [0.2] * 3})], cells=()).mean("random", "knn", 0.01) is None


def test_a_start_beats_random_weights_only_beyond_the_interval():
    better = [0.6, 0.65, 0.62]
    noisy = [0.2, 0.7, 0.5]  # better on the mean too, by chance
    found = evaluation(
        [(RANDOM, {"knn": [0.4, 0.42, 0.4]}), (UNMIX, {"knn": better}), (start("scale"), {"knn": noisy})]
    )
    by_name = {v.start: v for v in verdicts(found)}
    assert by_name["unmix"].beats
    assert not by_name["unmix"].worse
    assert by_name["scale"].difference.mean > 0
    assert not by_name["scale"].beats
    assert "1 beats random weights" in told(found)
    assert "beyond the 95 % interval: unmix." in told(found)
    assert "scale in points: not told apart from random weights: nearest neighbours" in told(found)


def test_a_start_below_random_weights_is_said_to_be():
    found = evaluation([(RANDOM, {"knn": [0.5, 0.525, 0.5]}), (UNMIX, {"knn": [0.3, 0.3, 0.325]})])
    assert verdicts(found)[0].worse
    assert "Below random weights beyond the interval by at least one method: unmix." in told(found)
    assert "0 beat random weights" in told(found)


@pytest.mark.parametrize(("behind", "close"), [(0.02, True), (0.06, False), (-0.05, True)])
def test_close_to_the_contrastive_baseline_is_within_three_points(behind, close):
    base = [0.6, 0.65, 0.7]
    found = evaluation(
        [(RANDOM, {"knn": [0.3] * 3}), (SIMCLR, {"knn": base}), (UNMIX, {"knn": [b - behind for b in base]})]
    )
    verdict = next(v for v in verdicts(found) if v.start == "unmix")
    assert verdict.close is close
    assert ("within 3 points of simclr" in told(found)) is close
    assert all(v.behind is None for v in verdicts(found) if v.start == "simclr")


@pytest.mark.parametrize("value", [0.5, 0.1, 0.3])
def test_of_a_difference_that_is_the_same_under_every_seed_nothing_follows(value):
    """A t-interval without a width excludes everything else, however many seeds there are."""
    found = evaluation([(RANDOM, {"knn": [0.3, 0.4, 0.5]}), (UNMIX, {"knn": [value, value + 0.1, value + 0.2]})])
    (verdict,) = verdicts(found)
    assert verdict.enough
    assert verdict.alike
    assert not verdict.beats
    assert not verdict.worse
    told_ = f"{100 * (value - 0.3):+.1f}" if value != 0.3 else "0.0"
    said = f"the same difference under every seed, which has no interval: nearest neighbours {told_} (3 alike)"
    assert said in told(found)
    assert "0 beat random weights" in told(found)
    assert "not told apart" not in told(found)
    assert "Below random" not in told(found)


def test_what_other_code_has_computed_is_said():
    rows = [(RANDOM, {"knn": [0.3, 0.4, 0.5]}), (UNMIX, {"knn": [0.3, 0.5, 0.4]})]
    found = evaluation(rows)
    assert "other code" not in told(found)
    cells = [dict(c) for c in found.cells]
    cells[0]["code"] = "0.1.0 of yesterday"
    del cells[1]["code"]
    said = told(evaluation(rows, cells=tuple(cells), other_code=("unmix, seed 1 (sslwang/losses.py changed)",)))
    assert "Of 12 cells, 2 computed by other code than this." in said
    assert "Pretrained by other code than this: unmix, seed 1 (sslwang/losses.py changed)." in said


@pytest.mark.parametrize("seeds", [1, 2])
def test_of_fewer_than_three_seeds_nothing_is_said(seeds):
    found = evaluation([(RANDOM, {"knn": [0.1] * seeds}), (UNMIX, {"knn": [0.9] * seeds})])
    assert len(sentences(found)) == 1
    assert sentences(found)[0].startswith("Nothing is said of differences")
    assert not any(v.beats or v.worse or v.close for v in verdicts(found))


def test_what_limits_a_claim_is_said():
    once = start("unmix", seeds=(0,))
    found = evaluation([(RANDOM, {"knn": [0.3] * 3}), (once, {"knn": [0.5] * 3})], baselines=False)
    assert "Pretrained once only" in told(found)
    assert "A quick look: no autoencode and no simclr" in told(found)
    assert "1 comparison; were no start any better" in told(found)
    fine = evaluation([(RANDOM, {"knn": [0.3] * 3}), (UNMIX, {"knn": [0.5] * 3})])
    assert "Pretrained once" not in told(fine)
    assert "quick look" not in told(fine)


def test_weights_that_are_judged_under_several_seeds_are_named():
    """Seeds 0, 1 and 2 of evaluation, but of pretraining 0 and 1, or others, or as many."""
    for seeds, said in (((0, 1), True), ((5, 6, 7), False), ((0, 1, 2), False)):
        found = evaluation([(RANDOM, {"knn": [0.3] * 3}), (start("unmix", seeds=seeds), {"knn": [0.5] * 3})])
        assert ("several seeds: unmix (2): the intervals are too narrow" in told(found)) is said, seeds
        assert "Pretrained once" not in told(found)


@pytest.mark.parametrize("with_val", [False, True])
def test_pretraining_that_saw_the_images_of_validation_is_said(with_val):
    seen = dataclasses.replace(UNMIX, budget=Budget(100, {**SETTINGS, "data.with_val": with_val}))
    found = evaluation([(RANDOM, {"knn": [0.3] * 3}), (seen, {"knn": [0.5] * 3})])
    assert ("images of validation were among the unlabelled ones" in told(found)) is with_val


def test_of_a_start_with_too_few_finished_cells_nothing_follows():
    full = [(RANDOM, {"knn": [0.3] * 3}), (UNMIX, {"knn": [0.5] * 3})]
    cells = tuple(c for c in evaluation(full).cells if (c["start"], c["seed"]) != ("unmix", 1))
    said = told(evaluation(full, cells=cells))
    assert "unmix in points: of fewer than 3 seeds, of which nothing follows: nearest neighbours +20.0" in said
    assert "not told apart" not in said


@pytest.mark.parametrize(
    ("score", "said"),
    [(0.26, "has hardly learned its own task"), (0.9, "has learned its own task"), (None, "")],
)
def test_whether_the_pretext_task_was_learned_is_said(score, said):
    flat = [(RANDOM, {"knn": [0.3] * 3}), (start("unmix", score=score), {"knn": [0.3] * 3})]
    assert said in told(evaluation(flat))
    assert ("yet that is not seen to help" in told(evaluation(flat))) is (score == 0.9)
    helped = [flat[0], (start("unmix", score=score), {"knn": [0.5, 0.525, 0.5]})]
    assert "yet that is not seen" not in told(evaluation(helped))
    assert ("its own task" in told(evaluation(helped))) is (score is not None)


def test_confusion_and_reliability_take_all_seeds_together():
    found = evaluation([(UNMIX, {"knn": [0.5, 0.7, 0.6]})], fractions=(0.1,))
    matrix = found.confusion("unmix", "knn", 0.1)
    assert matrix.sum() == 3 * 40
    assert np.trace(matrix) == round(0.5 * 40) + round(0.7 * 40) + round(0.6 * 40)
    assert (matrix[2] == 0).all()  # no row of validation has this class
    parts = [predictions(right, seed) for seed, right in enumerate([0.5, 0.7, 0.6])]
    expected = reliability(np.concatenate([p for p, _ in parts]), np.concatenate([y for _, y in parts]))
    curve = found.reliability("unmix", "knn", 0.1)
    np.testing.assert_array_equal(curve.count, expected.count)
    np.testing.assert_allclose(curve.accuracy, expected.accuracy)
    np.testing.assert_allclose(curve.confidence, expected.confidence)
    assert curve.error == pytest.approx(expected.error)


def test_cells_that_came_through_a_file_are_read_alike(tmp_path):
    one = cell("unmix", "knn", 0.1, 0, 0.5)
    found = read_cell(write_json(tmp_path / "cell.json", one))
    assert math.isnan(one["recalls"][2])
    assert found["recalls"][2] is None
    a = evaluation([(UNMIX, {"knn": [0.5]})], fractions=(0.1,), cells=(found,))
    assert a.reliability("unmix", "knn", 0.1).error == pytest.approx(found["scores"]["calibration error"])


@pytest.mark.parametrize(
    ("x", "sign", "said"),
    [
        (Interval(0.0625, 0.031, 0.094, 0.01, 3), False, "6.2 (3.1 to 9.4)"),
        (Interval(-0.0001, -0.05, 0.05, 0.01, 3), True, "0.0 (-5.0 to +5.0)"),
        (Interval(0.5, math.nan, math.nan, math.nan, 1), False, "50.0"),
        (Interval(0.05, 0.05, 0.05, 1e-17, 3), True, "+5.0 (3 alike)"),
    ],
)
def test_intervals_are_written_in_points(x, sign, said):
    assert points(x, sign) == said
