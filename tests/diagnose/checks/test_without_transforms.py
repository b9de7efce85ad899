"""without-transforms: an augmentation that leaves nothing of the image."""

import pytest
import torch
from fastai.callback.core import Callback
from fastai.data.core import Pipeline
from fastai.vision.augment import RandTransform
from judging import judge_never_raises, judged, measured, nan_never_passes
from learners import digits

from diagnose.errors import NotApplicable

ID = "without-transforms"


class Blank(RandTransform):
    "Blanks the whole image."

    split_idx = None

    def __init__(self, kept):
        super().__init__(p=1.0)
        self.kept = kept

    def encodes(self, x: torch.Tensor):
        return x * self.kept if x.is_floating_point() else x


def augmented(kept):
    learn = digits()
    for dl in learn.dls.loaders:
        dl.after_batch = Pipeline([Blank(kept)])
    return learn


def test_healthy_augmentation():
    status, summary = judged(ID, augmented(0.9))
    assert status == "pass"
    assert "no Blank" in summary


def test_augmentation_that_leaves_nothing():
    status, summary = judged(ID, augmented(0.0))
    assert status == "warn"
    assert "no Blank" in summary


def test_no_random_transform():
    with pytest.raises(NotApplicable, match="no random transform"):
        measured(ID, digits(cbs=Callback()))


def test_judge():
    evidence = measured(ID, augmented(0.9))
    judge_never_raises(ID, evidence)
    nan_never_passes(ID, evidence)
