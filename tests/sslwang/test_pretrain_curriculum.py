"""Pretraining through stages: they are told, and a run that was interrupted ends with the same bits."""

import os
import signal

import pytest
from pretrained_runs import Stopping, weights
from typer.testing import CliRunner

from diagnose.errors import DiagnoseError
from diagnose.report.recorded import recorded
from diagnose.store import Store
from sslwang.cli import app
from sslwang.curriculum import stages_of
from sslwang.pretrain import Interrupted, pretrain, resume, task_of
from sslwang.runs import open_run, unfinished

SMALL = {"size": 16, "bs": 8, "items": 32, "valid_items": 8}
FREE = {"gate": "skip", "epochs": 4, "curriculum": 0.0}  # every stage is passed after one epoch


def small(**changes):
    return task_of("unmix", {**SMALL, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return pretrain(small(), tmp_path_factory.mktemp("whole"), **FREE)


def test_stages_are_the_easier_versions_and_then_the_task():
    assert list(stages_of(small())) == ["dup_src", "dup_mix", "scale", "unmix"]
    assert list(stages_of(task_of("patchwork", {"room": 4}))) == ["n=2", "n=4"]
    assert list(stages_of(task_of("patchwork", {})))[-1] == "patchwork"


def test_each_stage_begins_when_the_one_before_is_passed_and_is_marked(whole):
    marks = [(m["stage"], m["step"], m["epoch"]) for m in whole.record["stages"]]
    assert marks == [("dup_src", 0, 0), ("dup_mix", 4, 1), ("scale", 8, 2), ("unmix", 12, 3)]
    assert whole.record["best"]["stage"] == "unmix"
    assert whole.record["best"]["epoch"] == 3
    found = recorded(Store.read(whole.path / "watch"))
    assert found.marks == [(0, "stage dup_src"), (4, "stage dup_mix"), (8, "stage scale"), (12, "stage unmix")]


def test_a_threshold_that_is_not_reached_keeps_the_first_stage(tmp_path):
    run = pretrain(small(), tmp_path, gate="skip", epochs=2, curriculum=1.1)
    assert [m["stage"] for m in run.record["stages"]] == ["dup_src"]
    assert run.record["best"]["stage"] == "dup_src"


def test_patience_begins_anew_with_each_stage(tmp_path):
    """Under a learning rate of next to nothing no epoch is better than the first of its stage."""
    task = small(lr=1e-12)
    run = pretrain(task, tmp_path, gate="skip", epochs=9, patience=1, curriculum=0.0)
    assert [m["stage"] for m in run.record["stages"]] == ["dup_src", "dup_mix", "scale", "unmix"]
    assert run.record["stopped"] == "early"
    assert len(run.record["history"]) == 5


def test_what_is_trained_on_is_the_easier_version(whole, tmp_path):
    plain = pretrain(small(), tmp_path, gate="skip", epochs=4)
    assert weights(plain) != weights(whole)
    assert "stages" not in plain.record
    assert plain.record["history"][0]["valid_loss"] != whole.record["history"][0]["valid_loss"]


@pytest.mark.parametrize("after", [3, 4, 10, 12])
def test_an_interrupted_run_goes_on_in_its_stage_and_ends_with_the_same_bits(whole, tmp_path, after):
    with pytest.raises(Interrupted):
        pretrain(small(), tmp_path, told=Stopping(after, lambda: os.kill(os.getpid(), signal.SIGTERM)), **FREE)
    run = resume(next(unfinished(tmp_path)).path)
    assert weights(run) == weights(whole)
    assert run.record["stages"] == whole.record["stages"]
    assert [r["valid_loss"] for r in run.record["history"]] == [r["valid_loss"] for r in whole.record["history"]]
    told = [m for folder in sorted(run.path.glob("watch*")) for m in recorded(Store.read(folder)).marks]
    assert sorted(told) == [(0, "stage dup_src"), (4, "stage dup_mix"), (8, "stage scale"), (12, "stage unmix")]


def test_a_task_without_easier_versions_is_refused(tmp_path, monkeypatch):
    task = small()
    monkeypatch.setattr(type(task), "easier", lambda self: {})
    with pytest.raises(DiagnoseError, match="unmix has no easier version to begin with"):
        pretrain(task, tmp_path, gate="skip", epochs=1, curriculum=0.5)
    assert not list(tmp_path.iterdir())


def test_the_command_takes_the_threshold(tmp_path):
    given = [x for name, value in SMALL.items() for x in ("--set", f"{name}={value}")]
    asked = ["pretrain", "--task", "unmix", *given, "--epochs", "2", "--no-gate", "--curriculum", "0"]
    done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "stage dup_mix begins with batch 4" in done.output
    run = open_run(next((tmp_path / "unmix").iterdir()))
    assert run.record["options"]["curriculum"] == 0.0
