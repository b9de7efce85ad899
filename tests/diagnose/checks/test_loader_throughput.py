"""The loader is read under several numbers of workers, and every worker is gone afterwards."""

import time

import psutil
import pytest
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged, measured
from learners import digits
from odd_subjects import ODD, Items, digit_items
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import IterableDataset, get_worker_info

from diagnose import runtime
from diagnose.errors import NotApplicable

ID = "loader-throughput"


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(runtime, "SETTING_SECONDS", 0.1)
    monkeypatch.setattr(runtime, "WORKERS", (0, 2))
    monkeypatch.setattr(runtime, "cores", lambda: 2)


class SlowItems(Items):
    def __getitem__(self, i):
        time.sleep(0.01)
        return super().__getitem__(i)


class NotInWorkers(Items):
    def __getitem__(self, i):
        if get_worker_info() is not None:
            raise OSError("the file is open in another process")
        return super().__getitem__(i)


class StuckInWorkers(Items):
    def __getitem__(self, i):
        if get_worker_info() is not None:
            time.sleep(60)
        return super().__getitem__(i)


def over(items):
    learn = digits()
    learn.dls = DataLoaders(DataLoader(items, bs=8, num_workers=0), DataLoader(items, bs=8))
    return learn


@pytest.mark.parametrize("name", ["two_workers", "torch_loaders", "typed_tensors"])
def test_healthy_subjects_pass_and_no_worker_stays(name):
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    status, sentence = judged(ID, ODD[name]())
    assert status == "pass"
    assert "items a second" in sentence
    assert {p.pid for p in psutil.Process().children(recursive=True) if p.status() != "zombie"} <= before


def test_every_setting_has_its_place():
    evidence = measured(ID, ODD["two_workers"]())
    places = ["workers=0, pin_memory=off", "workers=2, pin_memory=off"]
    assert [e.where for e in evidence.all("items per second")] == places
    assert [e.where for e in evidence.all("seconds per epoch")] == places
    assert evidence.get("configured workers") == 2


def test_workers_that_help_are_named():
    status, sentence = judged(ID, over(SlowItems(digit_items(96))))
    assert status == "pass"
    assert "with workers=2" in sentence
    assert "as configured (workers=0" in sentence


def test_a_setting_that_fails_is_said_and_the_others_count():
    status, sentence = judged(ID, over(NotInWorkers(digit_items(64))))
    assert status == "pass"
    assert "with workers=0, pin_memory=off, as configured" in sentence
    assert "1 settings did not work, the first with workers=2" in sentence


@pytest.mark.slow
def test_stuck_workers_do_not_hang_the_examination(monkeypatch):
    monkeypatch.setattr(runtime, "STUCK", 1)
    monkeypatch.setattr(runtime, "WORKERS", (0, 1))
    began = time.monotonic()
    evidence = measured(ID, over(StuckInWorkers(digit_items(64))))
    assert "timed out" in evidence.get("error")
    assert time.monotonic() - began < 30  # torch itself waits for a worker before it ends it


def test_what_has_no_workers_is_not_applicable():
    with pytest.raises(NotApplicable, match="has no workers"):
        measured(ID, ODD["list_of_batches"]())

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(digit_items(64))

    learn = digits()
    learn.dls = DataLoaders(TorchLoader(Stream(), 8), TorchLoader(Stream(), 8))
    with pytest.raises(NotApplicable, match="each worker would read all of it"):
        measured(ID, learn)


def test_random_state_of_a_torch_loader_is_not_needed_to_repeat():
    learn = ODD["torch_loaders"]()
    learn.dls.loaders[0].generator = torch.Generator().manual_seed(1)
    assert measured(ID, learn).get("items per second") > 0


@given(evidence_of(["seconds per epoch", "items per second", "configured workers", "error"]))
def test_judge_takes_anything(evidence):
    assert is_judgement(check_of(ID).judge(evidence))
