"""The time of a step is divided into its parts."""

import time

import pytest
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged, measured
from learners import HEALTHY, digits
from odd_subjects import ODD, Items, digit_items
from torch import nn

ID = "step-time"
PARTS = ("data", "forward", "backward", "step")


class Slow(nn.Module):
    def forward(self, x):
        time.sleep(0.02)
        return x


class SlowItems(Items):
    def __getitem__(self, i):
        time.sleep(0.002)
        return super().__getitem__(i)


@pytest.mark.parametrize("name", ["digits", "diabetes", "pair_scores"])
def test_healthy_subjects_pass(name):
    status, sentence = judged(ID, HEALTHY[name]())
    assert status == "pass"
    assert "ms a step of 64 rows" in sentence


@pytest.mark.parametrize(
    "name", ["two_workers", "list_of_batches", "torch_loaders", "clipped_and_accumulated", "mixup"]
)
def test_every_kind_of_loader_and_callback(name):
    evidence = measured(ID, ODD[name]())
    assert all(evidence.get("seconds", part) >= 0 for part in PARTS)
    assert evidence.get("steps") > 0


def test_a_slow_forward_pass_is_found_in_the_forward_pass():
    learn = digits()
    learn.model = nn.Sequential(Slow(), learn.model)
    evidence = measured(ID, learn)
    assert evidence.get("seconds", "forward") >= 0.02
    assert evidence.get("seconds", "data") < 0.02


def test_a_device_that_waits_for_data_is_said_to_wait():
    learn = digits()
    loader = DataLoader(SlowItems(digit_items(128)), bs=16)
    learn.dls = DataLoaders(loader, loader)
    status, sentence = judged(ID, learn)
    assert status == "pass"  # slow, and able to learn
    assert "the device waits for data" in sentence


@given(evidence_of(["seconds", "seconds a step", "share spent on data", "rows", "steps"]))
def test_judge_takes_anything(evidence):
    assert is_judgement(check_of(ID).judge(evidence))
