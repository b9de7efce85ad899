"""Transforms that leave nothing to see: named and proven on plain rows; augmentation that is learned is left alone."""

from fastai.vision.augment import Flip, Rotate
from learners import digits
from naming import cause_of, examined, findings_of, in_turn, is_left_alone, is_named, stands_any_evidence, with_fault

from diagnose.causes import Suspicion
from diagnose.faults._transforms import augmented
from diagnose.isolate import untouched
from diagnose.lab import Lab
from diagnose.subject import from_learner

ID = "inputs-destroyed-by-transforms"


def rotated(degrees):
    learn, transform = digits(), Rotate(degrees, p=1.0)
    transform.split_idx = None
    augmented(learn, transform)
    return learn


@in_turn(fault=["pictures-scrambled", "pictures-overexposed"])
def test_pictures_with_nothing_left_to_see_are_named(fault, seed):
    proof = is_named(with_fault(fault, digits, seed, skip=["inputs-differ-between-splits"]), ID).proof
    known = "learned on plain rows held out"
    assert proof.after.numbers[known] >= 0.3
    assert not proof.before.numbers[known] >= proof.after.numbers[known] - 0.3


def test_mild_augmentation_is_left_alone():
    learn, transform = digits(), Flip(p=0.5)
    transform.split_idx = None
    augmented(learn, transform)
    diagnosis = examined(learn)
    is_left_alone(diagnosis, ID)
    assert diagnosis.check("transforms-keep-items").status == "pass"


def test_strong_augmentation_that_is_learned_is_not_proven():
    learn = rotated(180)
    with untouched(learn):
        proof = cause_of(ID).settle(Lab(from_learner(learn)), Suspicion(1.0, "asked by a test"))
    assert not proof.proven
    assert proof.proof.before.numbers["learned on plain rows held out"] >= 0.2


def test_numbers_alone():
    found = with_fault("pictures-scrambled", digits, only=["transforms-keep-items"])
    stands_any_evidence(ID, findings_of(found))
