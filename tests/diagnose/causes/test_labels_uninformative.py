"""Labels in another order than their inputs: named, and proven by a control; noisy and hard labels are left alone."""

from functools import cache, partial

import pytest
import torch
from fastai.callback.core import Callback
from learners import diabetes, digits
from naming import cause_of, examined, fault_of, findings_of, settled, stands_any_evidence
from odd_subjects import several_images, tabular, text
from watched import digits as by_mlp

from diagnose.causes import Suspicion
from diagnose.errors import NotApplicable
from diagnose.faults._items import alter, indexed
from diagnose.isolate import untouched
from diagnose.lab import Lab
from diagnose.subject import from_learner, from_task

ID, CHECK = "labels-uninformative", "labels-informative"
wide = partial(by_mlp, widths=(64, 256, 10))  # digits, of which it learns any labels by heart


def control(learn, seed=0, **facts):
    with untouched(learn):
        return cause_of(ID).settle(Lab(from_learner(learn), seed), Suspicion(1.0, "asked by a test", facts=facts))


@cache
def with_labels_shuffled(build, seed):
    "A faulty Learner and its diagnosis."
    learn = build(seed)
    fault_of("labels-shuffled").inject(learn)
    return learn, examined(learn, seed, only=[CHECK, "label-histogram"])


@pytest.mark.parametrize(("build", "seed"), [(wide, 1), (wide, 2), (diabetes, 0), (tabular, 1), (tabular, 2)])
def test_labels_in_another_order_are_named(build, seed):
    learn, diagnosis = with_labels_shuffled(build, seed)
    assert diagnosis.causes[0].id == ID
    proof = settled(ID, learn, diagnosis, seed)
    assert proof.proven
    assert proof.proof.before.numbers["chance of the held-out loss"] > 0.02


@pytest.mark.parametrize("build", [digits, diabetes, several_images, text])
def test_true_labels_are_refuted_by_the_control(build):
    proof = control(build())
    assert proof.refuted
    assert not proof.proven
    assert proof.proof.before.numbers["chance of the held-out loss"] <= 0.01


def test_half_of_the_labels_at_random_are_left_alone():
    learn = digits()
    data = indexed(learn, 0)[0].dataset
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    alter(learn, lambda inputs, targets, i: (inputs, [data[order[i]][1]] if i % 2 else targets), splits=(0,))
    assert ID not in [c.id for c in examined(learn).causes]
    assert not control(learn).proven


class NeighboursLabel(Callback):
    "Gives every item the label of the one before it."

    def before_batch(self):
        self.learn.yb = tuple(y.roll(1) for y in self.yb)


class Scrambles(Callback):
    "Gives other targets to labels that mean nothing as it is."

    def before_batch(self):
        self.learn.yb = tuple(y.flip(0) for y in self.yb)


def test_a_callback_that_moves_targets_alone_is_named():
    learn = wide(1)
    learn.lr = 3 * learn.lr  # it learns by heart faster
    learn.add_cb(NeighboursLabel())
    diagnosis = examined(learn, 1, only=[CHECK, "label-histogram"])
    assert diagnosis.verdict == "fail"
    cause = diagnosis.causes[0]
    assert (cause.id, cause.proven) == (ID, True)
    assert "callback NeighboursLabel" in cause.where
    assert cause.fix.text.startswith("Look first at what the callback NeighboursLabel does")
    assert cause.proof.change == "without the callback NeighboursLabel"
    held = "chance of the held-out loss"
    assert cause.proof.after.numbers[held] <= 0.01 < 0.02 < cause.proof.before.numbers[held]


def test_a_callback_without_which_nothing_changes_is_no_proof():
    learn = wide(1)
    fault_of("labels-shuffled").inject(learn)
    learn.add_cb(Scrambles())
    found = control(learn, 1, callbacks=["Scrambles"])
    assert found.proven
    assert found.proof.change == "the same labels, permuted once"


def test_a_registered_task_is_not_asked():
    learn = from_task("unmix", {}, seed=0, device="cpu")
    with untouched(learn.learner), pytest.raises(NotApplicable):
        cause_of(ID).settle(Lab(learn, 0), Suspicion(1.0, "asked by a test"))


def test_numbers_alone():
    stands_any_evidence(ID, findings_of(with_labels_shuffled(wide, 1)[1]))
