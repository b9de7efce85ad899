"""Random transforms: those that leave nothing to recognise warn, usual augmentation passes, none is not judged."""

import math

import pytest
from fastai.vision.augment import Brightness, Rotate, Zoom
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import digits

from diagnose.checks import Evidence, EvidenceList
from diagnose.errors import NotApplicable
from diagnose.faults._transforms import augmented
from diagnose.faults.pictures_overexposed import PicturesOverexposed
from diagnose.faults.pictures_scrambled import PicturesScrambled

NAMES = ["items compared", "nearest to themselves", "moved by", "random transforms"]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("fault", [PicturesScrambled, PicturesOverexposed])
def test_pictures_with_nothing_left_to_see_warn(fault, seed):
    learn = digits(seed)
    fault().inject(learn)
    status, sentence = judged("transforms-keep-items", learn, seed)
    assert status == "warn"
    assert "of 64 items" in sentence


@pytest.mark.parametrize("transform", [Rotate(30, p=1.0), Brightness(0.4, p=1.0), Zoom(max_zoom=1.5, p=1.0)])
def test_usual_augmentation_passes(transform):
    learn, transform.split_idx = digits(), None
    augmented(learn, transform)
    assert judged("transforms-keep-items", learn).status == "pass"


def test_no_random_transform_is_not_judged():
    with pytest.raises(NotApplicable):
        judged("transforms-keep-items", digits())


@given(evidence_of(NAMES))
def test_any_evidence_is_judged(evidence):
    assert is_judgement(check_of("transforms-keep-items").judge(evidence))


def test_nan_never_passes():
    found = EvidenceList(Evidence(name=n, value=math.nan) for n in NAMES)
    assert check_of("transforms-keep-items").judge(found).status != "pass"
