"""Pretraining: its folder, when it ends, what it goes on from, and what it refuses."""

import errno
import functools
import json
import os
import pathlib
import random
import signal
from importlib.metadata import version

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from pretrained_runs import Stopping, weights

from diagnose import gate
from diagnose.diagnosis import Diagnosis, SubjectInfo, Tool
from diagnose.errors import DiagnoseError
from diagnose.gate import GateRefused
from diagnose.store import Store
from diagnose.subject import from_task
from diagnose.task import flat_settings
from sslwang import checkpoint, gated, runs
from sslwang.checkpoint import Checkpoints
from sslwang.gated import Gate, examining, subject_of
from sslwang.launch import Launch
from sslwang.pretrain import Interrupted, Keeper, Told, lower_is_better, pretrain, resume, task_of
from sslwang.runs import PretrainRun, open_run, unfinished
from sslwang.state import GoOn, Position, put_back, taken

SMALL = {"size": 16, "bs": 8, "items": 32, "valid_items": 8, "head.kind": "fastai", "encoder.norm": "batch"}
FREE = {"gate": "skip", "epochs": 2}


def small(**changes):
    return task_of("quadrant", {**SMALL, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two epochs of four batches that nothing disturbed."""
    return pretrain(small(), tmp_path_factory.mktemp("whole"), **FREE)


def interrupted(out, after=3, number=signal.SIGTERM, **changes):
    """A run that a signal ended after a batch."""
    told = Stopping(after, lambda: os.kill(os.getpid(), number))
    with pytest.raises(Interrupted) as caught:
        pretrain(small(**changes), out, told=told, **FREE)
    return next(unfinished(out)), caught.value


# ---- the folder ------------------------------------------------------------------------------------------------------


def test_the_run_holds_what_is_said_of_it(whole):
    record = json.loads((whole.path / "run.json").read_text())
    assert record == whole.record
    assert (record["schema"], record["task"], record["epochs"], record["steps"]) == (1, "quadrant", 2, 8)
    assert (record["arch"], record["norm"], record["size"], record["source"]) == ("small", "batch", 16, "photos")
    assert record["settings"] == flat_settings(small().settings)
    assert record["gate"] == {"skipped": 'gate="skip"'}
    assert record["versions"]["torch"] == version("torch")
    assert record["finished"]
    assert record["stopped"] is None
    assert not record["with_val"]
    assert [row["epoch"] for row in record["history"]] == [0, 1]
    assert set(record["history"][0]) == {"epoch", "steps", "train_loss", "valid_loss", "accuracy"}
    assert record["best"]["value"] == max(row["accuracy"] for row in record["history"])
    frame = Store.read(whole.path / "watch").frame("steps")
    assert frame["step"].tolist() == list(range(8))


def test_the_encoder_comes_back_whole(whole):
    before = torch.get_rng_state()
    last, best = whole.encoder(), whole.encoder("best")
    assert torch.equal(torch.get_rng_state(), before)
    assert last.loaded == len(last.state_dict()) == 24  # four blocks of convolution and batch norm
    model = checkpoint.load((whole.path / "model.safetensors").read_bytes())
    for name, t in last.state_dict().items():
        assert torch.equal(t, model[f"encoder.{name}"]), name
    ended = whole.record["history"][-1]["accuracy"] > whole.record["history"][0]["accuracy"]
    assert ended == torch.equal(last[0][0].weight, best[0][0].weight)


def test_the_same_seed_gives_the_same_weights_and_another_others(whole, tmp_path):
    assert weights(pretrain(small(), tmp_path, **FREE)) == weights(whole)
    assert weights(pretrain(small(), tmp_path, seed=1, **FREE)) != weights(whole)


def test_watching_and_saving_change_no_bit(whole, tmp_path):
    run = pretrain(small(), tmp_path, watch=False, save_every=1, save_steps=True, **FREE)
    assert weights(run) == weights(whole)
    assert not (run.path / "watch").exists()


def test_the_callers_random_streams_are_left_alone(tmp_path):
    torch.manual_seed(7), np.random.seed(7), random.seed(7)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    pretrain(small(), tmp_path, gate="skip", epochs=1)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


@pytest.mark.parametrize(("steps", "epochs", "each"), [(3, 1, 3), (8, 2, 4), (12, 3, 4), (13, 1, 13)])
def test_steps_are_exact_in_equal_epochs(tmp_path, steps, epochs, each):
    run = pretrain(small(), tmp_path, steps=steps, gate="skip", watch=False)
    assert run.steps == steps
    assert [row["steps"] for row in run.record["history"]] == [each * (k + 1) for k in range(epochs)]


def test_the_schedule_spans_the_training(tmp_path):
    rates = {}

    for name in ("one-cycle", "flat-cosine"):
        run = pretrain(small(), tmp_path, schedule=name, gate="skip", epochs=3)
        rates[name] = checkpoint_rates(run)
    lr = small().settings.lr
    assert max(rates["one-cycle"]) == pytest.approx(lr, rel=0.05)
    assert rates["one-cycle"][0] == pytest.approx(lr / 25)
    assert rates["flat-cosine"][:8] == pytest.approx([lr] * 8)
    for found in rates.values():
        assert len(found) == 12
        assert found[-1] < lr / 3


def checkpoint_rates(run):
    return Checkpoints(run.path / "state").newest().tensors["recorder|lrs"].tolist()


def test_gradients_of_several_batches_make_one_step(tmp_path):
    run = pretrain(small(), tmp_path, accumulate=4, gate="skip", epochs=1)
    found = Checkpoints(run.path / "state").newest()
    counts = {s["step"] for s in found.rest["optimizer"]["state"].values() if "step" in s}
    assert counts == {1}
    assert run.steps == 4


# ---- when it ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "lower"),
    [
        *((m, True) for m in ("train_loss", "valid_loss", "valid loss", "absolute_error", "error_rate", "mse")),
        *((m, False) for m in ("accuracy", "R2", "r2", "exact_pair", "cells_right", "ranked", "lossless_share")),
    ],
)
def test_which_side_is_better(metric, lower):
    assert lower_is_better(metric) == lower


class Scripted(Callback):
    """Puts numbers in place of the metrics of each epoch."""

    order = 51  # after the Recorder

    def __init__(self, **columns):
        self.columns = columns

    def after_epoch(self):
        names = [n for n in self.recorder.metric_names[1:] if n != "time"]
        for name, values in self.columns.items():
            self.learn.final_record[names.index(name)] = values[self.epoch]


@pytest.fixture
def scripted(monkeypatch):
    """Makes the metrics of what is trained from now on."""

    def script(**columns):
        learner = type(small()).learner

        def build(self, *args, **kwargs):
            made = learner(self, *args, **kwargs)
            made.add_cb(Scripted(**columns))
            return made

        monkeypatch.setattr(type(small()), "learner", build)

    return script


RISING, FALLING = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]


@pytest.mark.parametrize(
    ("metric", "values", "epochs", "best"),
    [
        ("accuracy", RISING, 6, 5),
        ("accuracy", FALLING, 3, 0),
        ("valid_loss", FALLING, 6, 5),
        ("valid_loss", RISING, 3, 0),
        ("accuracy", [0.1, 0.3, 0.3, 0.3, 0.9, 0.9], 4, 1),
        ("valid_loss", [0.5, float("nan"), 0.4, float("nan"), 0.3, 0.2], 6, 5),
        ("accuracy", [float("nan")] * 6, 2, None),
    ],
)
def test_patience_knows_the_right_side(tmp_path, scripted, metric, values, epochs, best):
    scripted(**{metric: values})
    run = pretrain(small(items=8), tmp_path, gate="skip", epochs=6, patience=2, metric=metric, watch=False)
    assert len(run.record["history"]) == epochs
    assert run.record["stopped"] == ("early" if epochs < 6 else None)
    assert run.finished
    assert (run.record["best"] or {}).get("epoch") == best
    assert (run.path / "encoder-best.safetensors").exists() == (best is not None)
    json.loads((run.path / "run.json").read_text(), parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after", [1, 3, 4, 7])
def test_a_signal_saves_and_names_the_command_that_goes_on(whole, tmp_path, number, after):
    before = signal.getsignal(signal.SIGINT)  # ignored where pytest runs in the background
    run, error = interrupted(tmp_path, after, number)
    assert error.exit_code == 128 + number
    assert f"{after} batches" in str(error)
    assert f"sslwang pretrain --resume {run.path}" in str(error)
    assert run.steps == after
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == before
    went_on = resume(run.path)
    assert weights(went_on) == weights(whole)
    assert went_on.record["history"] == whole.record["history"]
    assert went_on.record["best"] == whole.record["best"]
    assert went_on.record["resumed"] == [{"step": after, "changed": []}]
    steps = Store.read(run.path / "watch-2").frame("steps")["step"].tolist()
    assert steps == list(range(after, 8))


def state_of(run):
    """Everything in the newest checkpoint but the seconds it took."""
    found = Checkpoints(run.path / "state").newest()
    rest = json.loads(json.dumps(found.rest))
    rest["kept"].pop("seconds")
    return found.tensors, rest, found.kept


LONG = {"gate": "skip", "epochs": 3, "accumulate": 2, "watch": False}


@pytest.fixture(scope="module")
def fifteen(tmp_path_factory):
    """A run of three epochs of five batches, gradients of two added up, so that at its end one waits for another."""
    return pretrain(small(items=40), tmp_path_factory.mktemp("fifteen"), **LONG)


class Between(Told):
    """Sends SIGTERM between two epochs."""

    def __init__(self, ended):
        self.ended = ended

    def epoch(self, row):
        if row["epoch"] == self.ended:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("after", [3, 4, 5, 10, 14, "epoch 0", "epoch 1"])
def test_all_that_was_saved_at_the_end_is_what_it_would_have_been(fifteen, tmp_path, after):
    """Within an epoch and between two, with a gradient that waits and without: every tensor and number of the state."""
    told = Stopping(after, lambda: os.kill(os.getpid(), signal.SIGTERM))
    if isinstance(after, str):
        told = Between(int(after.split()[1]))
    with pytest.raises(Interrupted):
        pretrain(small(items=40), tmp_path, told=told, **LONG)
    where = Checkpoints(next(unfinished(tmp_path)).path / "state").newest().rest["position"]
    assert (where["batch"] == 0) is isinstance(after, str)
    tensors, rest, kept = state_of(resume(next(unfinished(tmp_path)).path))
    wanted, expected, files = state_of(fifteen)
    assert rest == expected
    assert kept == files
    assert tensors.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(tensors[name], wanted[name])] == []
    assert expected["waiting"] == 8
    assert any(name.startswith("grad|") for name in wanted)
    assert len(expected["recorder"]["values"]) == 3


class Drawing(Callback):
    """A user's callback that draws from a stream and puts what it drew into the weights."""

    def __init__(self, stream):
        self.stream = stream

    def before_batch(self):
        if not self.training:
            return
        draw = {
            "torch": lambda: torch.randn(()).item(),
            "numpy": lambda: np.random.standard_normal(),  # noqa: NPY002
            "python": lambda: random.gauss(0, 1),
        }[self.stream]
        with torch.no_grad():
            next(self.learn.model.parameters()).add_(1e-3 * draw())


class Growing(Callback):
    """A user's callback by which weights decay the more the longer the training."""

    def after_batch(self):
        if self.training:
            for hyper in self.learn.opt.hypers:
                hyper["wd"] *= 1.5


@pytest.mark.parametrize("after", [3, 4])
@pytest.mark.parametrize(
    "callback",
    [*(functools.partial(Drawing, stream) for stream in ("torch", "numpy", "python")), Growing],
    ids=["torch", "numpy", "python", "decay"],
)
def test_every_random_stream_and_what_callbacks_set_goes_on_where_it_was(tmp_path, monkeypatch, callback, after):
    learner = type(small()).learner

    def build(self, *args, **kwargs):
        made = learner(self, *args, **kwargs)
        made.add_cb(callback())
        return made

    monkeypatch.setattr(type(small()), "learner", build)
    never_stopped = pretrain(small(), tmp_path / "whole", watch=False, **FREE)
    run, _ = interrupted(tmp_path / "stopped", after)
    assert weights(resume(run.path)) == weights(never_stopped)


class Warming(torch.nn.Module):
    """A loss that counts its calls in a buffer and grows with them."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, *args):
        self.calls += 1
        return self.loss(*args) * (1 + 0.1 * self.calls)


def test_what_the_loss_holds_goes_on_where_it_was(tmp_path, monkeypatch):
    learner = type(small()).learner

    def build(self, *args, **kwargs):
        made = learner(self, *args, **kwargs)
        made.loss_func = Warming(made.loss_func)
        return made

    monkeypatch.setattr(type(small()), "learner", build)
    never_stopped = pretrain(small(), tmp_path / "whole", watch=False, **FREE)
    run, _ = interrupted(tmp_path / "stopped")
    assert weights(resume(run.path)) == weights(never_stopped)


def test_the_seconds_of_before_are_counted(tmp_path):
    run, _ = interrupted(tmp_path)
    kept = Checkpoints(run.path / "state")
    found = kept.newest()
    found.rest["kept"]["seconds"] = 1000.0
    for name, data in found.kept.items():
        kept.keep(name, data)
    kept.write(found.tensors, found.rest, found.kept)
    assert resume(run.path).record["seconds"] >= 1000


def trained(scale=64.0):
    """A Learner after one batch, with a scaler as mixed precision has it; there is one on a CPU too."""
    learn = small(items=8).learner(0)
    learn.create_opt()
    with learn.no_logging(), learn.no_bar():
        learn.fit(1)
    learn.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return learn


def test_the_scale_of_the_loss_and_its_mean_go_on_where_they_were():
    first, learn = trained(64.0), trained(1024.0)
    tensors, rest = taken(first, Position(1, 0))
    learn.smooth_loss = None
    again = GoOn(Position(1, 0), tensors, json.loads(json.dumps(rest)))
    again.learn = learn
    again.before_epoch()
    assert learn.scaler.get_scale() == 64.0
    assert learn.smooth_loss == first.smooth_loss


def test_a_gradient_of_zeros_is_no_missing_one():
    """The optimizer steps where there is a gradient, by momentum and decay if that is 0."""
    first, learn = trained(), trained()
    given = [None, torch.zeros, torch.ones]
    for k, p in enumerate(first.model.parameters()):
        make = given[k % 3]
        p.grad = None if make is None else make(p.shape)
    tensors, rest = taken(first, Position(1, 0))
    put_back(learn, tensors, json.loads(json.dumps(rest)), "here")
    for k, p in enumerate(learn.model.parameters()):
        make = given[k % 3]
        assert p.grad is None if make is None else torch.equal(p.grad, make(p.shape)), k


def test_with_workers_it_goes_on_bit_for_bit_too(whole, tmp_path):
    run, _ = interrupted(tmp_path, 3, **{"data.workers": 2})
    assert weights(resume(run.path)) == weights(whole)


def test_patience_counts_over_an_interruption(tmp_path, scripted):
    scripted(accuracy=FALLING)
    options = {"epochs": 6, "patience": 3, "gate": "skip", "watch": False}
    told = Stopping(3, lambda: os.kill(os.getpid(), signal.SIGTERM))  # in the fourth epoch it would have ended
    with pytest.raises(Interrupted):
        pretrain(small(items=8), tmp_path, told=told, **options)
    run = resume(next(unfinished(tmp_path)).path)
    assert [row["accuracy"] for row in run.record["history"]] == FALLING[:4]
    assert run.record["best"]["epoch"] == 0


def test_the_best_weights_are_those_of_the_checkpoint_and_not_of_an_epoch_that_was_lost(tmp_path, scripted):
    scripted(accuracy=FALLING)
    told = Stopping(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        pretrain(small(items=8), tmp_path, told=told, gate="skip", epochs=4, watch=False)
    run = next(unfinished(tmp_path))
    best = run.path / "encoder-best.safetensors"
    first = best.read_bytes()
    best.write_bytes((run.path / "encoder.safetensors").read_bytes())
    assert best.read_bytes() != first
    resume(run.path)
    assert best.read_bytes() == first


def test_what_had_ended_early_and_was_killed_before_it_said_so_trains_no_more(tmp_path, scripted, monkeypatch):
    scripted(accuracy=FALLING)

    def killed(self, learn):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "finish", killed)
        with pytest.raises(RuntimeError, match="killed"):
            pretrain(small(items=8), tmp_path, epochs=6, patience=2, gate="skip", watch=False)
    run = resume(next(unfinished(tmp_path)).path)
    assert [row["accuracy"] for row in run.record["history"]] == FALLING[:3]
    assert (run.finished, run.record["stopped"]) == (True, "early")


# ---- going on --------------------------------------------------------------------------------------------------------


def test_a_finished_run_has_nothing_to_go_on_with(whole):
    with pytest.raises(DiagnoseError, match="finished after 8 batches"):
        resume(whole.path)


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(DiagnoseError, match="no run is there"):
        resume(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record.pop("options"), "it lacks options; start a new run"),
        (lambda record: record["options"].update(warmup=3), "it knows options warmup; start a new run"),
    ],
)
def test_a_record_of_another_version_is_refused(tmp_path, change, said):
    run, _ = interrupted(tmp_path)
    record = dict(run.record)
    change(record)
    (run.path / "run.json").write_text(json.dumps(record))
    with pytest.raises(DiagnoseError, match=said):
        resume(run.path)


def test_a_damaged_checkpoint_is_passed_over_and_said(whole, tmp_path):
    run, _ = interrupted(tmp_path, 6)
    newest = max((run.path / "state").glob("0*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:1000])
    told = Stopping(None, None)
    assert weights(resume(run.path, told=told)) == weights(whole)
    assert any("passed over a checkpoint" in line and "is damaged" in line for line in told.lines)


def test_if_no_checkpoint_is_left_it_says_so(tmp_path):
    run, _ = interrupted(tmp_path)
    for path in (run.path / "state").glob("*.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(DiagnoseError, match="no checkpoint can be read"):
        resume(run.path)


def altered(run, **changes):
    record = json.loads((run.path / "run.json").read_text())
    for name, value in changes.items():
        record[name] = {**record[name], **value}
    (run.path / "run.json").write_text(json.dumps(record))


def test_other_code_is_refused_by_name_and_can_be_allowed(whole, tmp_path):
    run, _ = interrupted(tmp_path)
    altered(run, identity={"code sslwang/losses.py": "of another day"})
    with pytest.raises(DiagnoseError, match=r"sslwang/losses\.py changed since it began.*--changed-code"):
        resume(run.path)
    went_on = resume(run.path, changed_code=True)
    assert weights(went_on) == weights(whole)
    assert went_on.record["resumed"][-1]["changed"] == ["sslwang/losses.py changed"]


@pytest.mark.parametrize("allowed", [False, True])
def test_other_settings_are_refused_by_name_whatever_is_allowed(tmp_path, allowed):
    run, _ = interrupted(tmp_path)
    altered(run, settings={"lr": 0.5})
    with pytest.raises(DiagnoseError, match=r"setting lr: 0\.002, now 0\.5"):
        resume(run.path, changed_code=allowed)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    run, _ = interrupted(tmp_path / "a")
    other, _ = interrupted(tmp_path / "b", **{"encoder.norm": "group"})
    for path in (run.path / "state").iterdir():
        path.unlink()
    for path in (other.path / "state").iterdir():
        (run.path / "state" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DiagnoseError, match=r"checkpoint \d+, is a checkpoint of another network: \d+ missing"):
        resume(run.path)


def test_what_a_killed_process_left_half_written_goes(tmp_path):
    run, _ = interrupted(tmp_path)
    (run.path / ".encoder.safetensors.77.part").write_bytes(b"half")
    (run.path / "watch" / "steps" / "00000001-00000013.0-0.0.part").write_bytes(b"half")
    resume(run.path)
    assert list(run.path.rglob("*.part")) == []


def test_two_processes_do_not_train_one_run(tmp_path):
    run, _ = interrupted(tmp_path)
    with run.alone(), pytest.raises(DiagnoseError, match="another process is training"):
        resume(run.path)


# ---- what cannot be written ------------------------------------------------------------------------------------------


def full(monkeypatch, after):
    """The disk is full from the n-th file on."""
    written, count = checkpoint.put, iter(range(10_000))

    def put(path, data):
        if next(count) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(path, data)

    for module in (checkpoint, runs):
        monkeypatch.setattr(module, "put", put)


@pytest.mark.parametrize("after", [8, 10, 12, 14])
def test_a_full_disk_ends_it_with_one_clear_error_and_nothing_lost(whole, tmp_path, after):
    options = {"save_every": 1, "save_steps": True}
    with pytest.MonkeyPatch.context() as patch:
        full(patch, after)
        with pytest.raises(DiagnoseError, match=r"No space left.*last complete checkpoint.*--resume") as caught:
            pretrain(small(), tmp_path, **FREE, **options)
    assert "\n" not in str(caught.value)
    run = next(unfinished(tmp_path))
    assert str(run.path) in str(caught.value)
    assert weights(resume(run.path)) == weights(whole)


def test_a_full_disk_at_the_start_is_told_as_such(tmp_path, monkeypatch):
    full(monkeypatch, 0)
    with pytest.raises(DiagnoseError, match=r"cannot be written \(No space left"):
        pretrain(small(), tmp_path, **FREE)


def test_out_that_cannot_be_written_is_told_before_anything_is_trained(tmp_path):
    place = tmp_path / "file"
    place.write_text("not a folder")
    with pytest.raises(DiagnoseError, match="is a file, not a folder"):
        pretrain(small(), place, **FREE)


def test_a_read_only_folder_is_told_as_such(tmp_path, monkeypatch):
    opened = pathlib.Path.open

    def refuse(path, mode="r", *args, **kwargs):
        if "w" in mode:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, mode, *args, **kwargs)

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with pytest.raises(DiagnoseError, match=r"cannot write there \(Read-only file system\); choose another folder"):
        pretrain(small(), tmp_path / "out", **FREE)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_is_closed_is_told_in_one_line(tmp_path, monkeypatch, code):
    """There every question fails, that for a file which is not there too."""

    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    for name in ("open", "unlink", "mkdir"):
        monkeypatch.setattr(pathlib.Path, name, refuse)
    with pytest.raises(DiagnoseError, match=rf"cannot write there \({os.strerror(code)}\); choose another folder"):
        runs.writable(tmp_path / "closed" / "out")


# ---- options that make no sense --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 4}, "give --epochs or --steps"),
        ({"epochs": 0}, "--epochs 0: must be at least 1"),
        ({"patience": 0}, "--patience 0: must be at least 1"),
        ({"accumulate": 0}, "--accumulate 0: must be at least 1"),
        ({"schedule": "cyclic"}, "--schedule cyclic: one of one-cycle, flat-cosine"),
        ({"metric": "f1"}, "--metric f1: no such metric; known: train_loss, valid_loss, accuracy"),
        ({"precision": "fp16"}, "mixed precision needs a CUDA GPU"),
        ({"save_every": 0.0}, "--save-every"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_written(tmp_path, options, said):
    with pytest.raises(DiagnoseError, match=said):
        pretrain(small(), tmp_path / "out", **{**FREE, "device": "cpu", **options})
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_of_images_is_told(tmp_path):
    with pytest.raises(DiagnoseError, match="nowhere"):
        pretrain(small(**{"data.source": str(tmp_path / "nowhere")}), tmp_path / "out", **FREE)
    assert not (tmp_path / "out").exists()


# ---- the gate --------------------------------------------------------------------------------------------------------


def passed(reports, task, seed=0, verdict="pass", **changed):
    """A run folder of `diagnose run` with a pass for a task, as it would have been examined.

    Args:
        changed: parts of the identity that were others then.
    """
    subject = subject_of(task, seed, "cpu")
    info = SubjectInfo(
        name=task.id, source=f"task {task.id}", fingerprint="f", task=task.id, settings=flat_settings(task.settings)
    )
    tool = Tool(name="diagnose", version="0")
    found = Diagnosis(tool=tool, subject=info, seed=seed, verdict=verdict, summary="So it is.", seconds=1.0)
    folder = reports / task.id / "2026-11-24T09-30-00"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(found.to_json(), encoding="utf-8")
    content = gate.issue(found, {**subject.identity(), **changed})
    if content is not None:
        (folder / gate.PASS).write_bytes(content)
    return folder


def test_without_a_pass_nothing_is_trained_and_the_command_is_offered(tmp_path):
    task = small(items=16)
    with pytest.raises(GateRefused) as caught:
        pretrain(task, tmp_path / "out", gates=Gate(tmp_path / "reports"), epochs=1, device="cpu")
    said = str(caught.value)
    assert caught.value.exit_code == 4
    assert "\n" not in said
    assert "not examined yet" in said
    assert (
        "diagnose run --task quadrant --set size=16 --set bs=8 --set encoder.norm=batch --set head.kind=fastai" in said
    )
    assert "items" not in said.split("`")[1]
    assert not (tmp_path / "out").exists()


def test_what_is_asked_of_the_gate_is_what_the_command_examines():
    pairs = {name: str(value) for name, value in SMALL.items()}
    assert from_task("quadrant", pairs, 3, "cpu").identity() == subject_of(small(), 3, "cpu").identity()


@pytest.mark.parametrize("changes", [{}, {"items": 16}, {"valid_items": 16}, {"items": 72, "valid_items": 4}])
@pytest.mark.parametrize("seed", [0, 5])
def test_a_pass_holds_for_every_seed_and_length(tmp_path, changes, seed):
    folder = passed(tmp_path / "reports", small(), seed=2)
    run = pretrain(
        small(**changes), tmp_path / "out", gates=Gate(tmp_path / "reports"), epochs=1, seed=seed, device="cpu"
    )
    assert run.record["gate"]["pass"] == str(folder)
    assert run.record["gate"]["verdict"] == "pass"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 0.5}, "setting lr: 0.002, now 0.5"),
        ({"encoder.norm": "group"}, "setting encoder.norm: batch, now group"),
        ({"size": 24}, "setting size: 16, now 24"),
        ({"bs": 4}, "setting batch size: 8, now 4"),
        ({"rows": "frozen", "items": 16}, "setting items: 32, now 16"),
    ],
)
def test_a_pass_of_other_settings_is_refused_by_name(tmp_path, changes, said):
    examined = small(rows="frozen") if "rows" in changes else small()
    passed(tmp_path / "reports", examined)
    with pytest.raises(GateRefused) as caught:
        pretrain(small(**changes), tmp_path / "out", gates=Gate(tmp_path / "reports"), epochs=1, device="cpu")
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_pass_of_other_code_is_refused_by_name(tmp_path):
    """Signed as it should be: what was examined was other code."""
    folder = passed(tmp_path / "reports", small(), **{"code sslwang/losses.py": "another"})
    with pytest.raises(GateRefused, match=r"sslwang/losses\.py changed"):
        pretrain(small(), tmp_path / "out", gates=Gate(tmp_path / "reports"), epochs=1, device="cpu")
    assert (folder / gate.PASS).is_file()
    assert not (tmp_path / "out").exists()


def test_a_pass_that_was_edited_is_refused(tmp_path):
    folder = passed(tmp_path / "reports", small())
    content = json.loads((folder / gate.PASS).read_text())
    content["identity"]["code sslwang/losses.py"] = "another"
    (folder / gate.PASS).write_text(json.dumps(content))
    with pytest.raises(GateRefused, match="edited after it was issued"):
        pretrain(small(), tmp_path / "out", gates=Gate(tmp_path / "reports"), epochs=1, device="cpu")


def test_a_warning_is_accepted_only_where_that_is_asked_for(tmp_path):
    passed(tmp_path / "reports", small(), verdict="warn")
    with pytest.raises(GateRefused, match="--allow-warnings"):
        pretrain(small(), tmp_path / "out", gates=Gate(tmp_path / "reports"), epochs=1, device="cpu")
    gates = Gate(tmp_path / "reports", allow_warnings=True)
    assert pretrain(small(), tmp_path / "out", gates=gates, epochs=1, device="cpu").record["gate"]["verdict"] == "warn"


def examined(verdict):
    """An examination that comes to this verdict."""

    def examine(subject, seed=0, budget=None, progress=None):
        info = subject.describe()
        tool = Tool(name="diagnose", version="0")
        summary = "The rate is 1000 times too high."
        return Diagnosis(tool=tool, subject=info, seed=seed, verdict=verdict, summary=summary, seconds=1.0)

    return examine


def test_examining_writes_a_run_folder_and_goes_on_if_it_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(gated, "examine", examined("pass"))
    gates = Gate(tmp_path / "reports")
    run = pretrain(small(), tmp_path / "out", gate="examine", gates=gates, epochs=1, device="cpu")
    folder = run.record["gate"]["pass"]
    assert (tmp_path / "reports" / "quadrant") in pathlib.Path(folder).parents
    assert pathlib.Path(folder, "report.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    monkeypatch.setattr(gated, "examine", lambda *a, **k: pytest.fail("a pass holds, nothing is to be examined"))
    again = pretrain(small(items=16), tmp_path / "out", gate="examine", gates=gates, epochs=1, device="cpu")
    assert again.record["gate"]["pass"] == folder


def test_an_examination_that_fails_ends_it_with_its_summary(tmp_path, monkeypatch):
    monkeypatch.setattr(gated, "examine", examined("fail"))
    gates = Gate(tmp_path / "reports")
    with pytest.raises(GateRefused, match=r"fail: The rate is 1000 times too high.*report\.html$"):
        pretrain(small(), tmp_path / "out", gate="examine", gates=gates, epochs=1, device="cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("allowed", [False, True])
def test_an_examination_that_warns_is_a_pass_only_where_that_is_accepted(tmp_path, monkeypatch, allowed):
    monkeypatch.setattr(gated, "examine", examined("warn"))
    gates = Gate(tmp_path / "reports", allow_warnings=allowed)
    if allowed:
        assert gates.examined(small(), device="cpu")["verdict"] == "warn"
    else:
        with pytest.raises(GateRefused, match=r"examined: warn: .*report\.html; --allow-warnings accepts that$"):
            gates.examined(small(), device="cpu")


def test_the_command_that_is_offered_names_place_and_device():
    assert examining(small(rows="frozen"), pathlib.Path("a b"), "cpu").endswith(
        "--set items=32 --set valid_items=8 --set bs=8 --set rows=frozen --set encoder.norm=batch "
        "--set head.kind=fastai --out 'a b' --device cpu"
    )


# ---- runs in a folder ------------------------------------------------------------------------------------------------


def test_the_newest_finished_run_is_opened(whole, tmp_path):
    out = whole.path.parent.parent
    assert open_run(out).path == open_run(out / "quadrant").path == open_run(whole.path).path == whole.path
    assert open_run(whole.path / "run.json").path == whole.path
    run, _ = interrupted(tmp_path)
    assert open_run(run.path).finished is False
    with pytest.raises(DiagnoseError, match=rf"none of its 1 runs is finished; go on with .*--resume {run.path}"):
        open_run(tmp_path)
    with pytest.raises(DiagnoseError, match="no epoch of this run was finished"):
        run.encoder()


def test_why_there_is_no_best_encoder_is_told(tmp_path):
    record = {"finished": True, "metric": "accuracy", "best": None}
    with pytest.raises(DiagnoseError, match="accuracy was a finite number in no epoch, so none is the best; take the"):
        PretrainRun(tmp_path, record).encoder("best")
    for which, best in (("last", None), ("best", {"epoch": 1})):
        with pytest.raises(DiagnoseError, match="not there; it was removed; pretrain again"):
            PretrainRun(tmp_path, {**record, "best": best}).encoder(which)


def test_the_command_that_goes_on_can_be_pasted(tmp_path):
    assert PretrainRun(tmp_path / "my runs", {}).resuming == f"sslwang pretrain --resume '{tmp_path}/my runs'"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}', '{"schema": 99}'])
def test_a_record_that_is_none_is_told(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DiagnoseError, match=r"run\.json"):
        open_run(tmp_path)


def test_no_run_at_all_is_told(tmp_path):
    with pytest.raises(DiagnoseError, match="no pretraining run in there"):
        open_run(tmp_path)
    with pytest.raises(DiagnoseError, match="no such run"):
        open_run(tmp_path / "nowhere")


def test_an_encoder_of_another_architecture_is_refused(whole, tmp_path):
    other = pretrain(small(**{"encoder.norm": "group"}), tmp_path, gate="skip", epochs=1)
    altered(other)
    (other.path / "encoder.safetensors").write_bytes((whole.path / "encoder.safetensors").read_bytes())
    with pytest.raises(DiagnoseError, match="left over"):
        open_run(other.path).encoder()


# ---- several processes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [2, 3])
def test_shares_of_an_epoch_are_whole_batches_that_nobody_else_has(processes):
    loader = small(items=56).loaders(0).train
    loader.before_iter()
    alone = loader.get_idxs()
    shares = []
    for rank in range(processes):
        loader.share = (rank, processes)
        assert len(loader) == 7 // processes
        shares.append(loader.get_idxs())
        loader.begin = 1
        assert loader.get_idxs() == shares[-1][8:]
    batches = [share[i : i + 8] for i in range(0, len(shares[0]), 8) for share in shares]
    assert [i for b in batches for i in b] == alone[: 8 * (7 // processes) * processes]


def test_the_launch_is_read_from_the_environment(monkeypatch):
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    launch = Launch.of_environment()
    assert (launch.rank, launch.processes, launch.local, launch.first) == (3, 4, 1, False)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Launch.of_environment().first
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(DiagnoseError, match="something else than numbers"):
        Launch.of_environment()


def test_every_process_must_have_a_batch(tmp_path, monkeypatch):
    """Else it would train on nothing and end with the weights it began with."""
    monkeypatch.setenv("WORLD_SIZE", "5")
    monkeypatch.setenv("RANK", "4")
    with pytest.raises(DiagnoseError, match="32 training items are fewer than one batch of 8 for each of 5 processes"):
        pretrain(small(), tmp_path / "out", **FREE)


def test_keeper_is_the_last_to_see_a_batch():
    learn = small().learner(0)
    assert Keeper.order > max(cb.order for cb in learn.cbs)
