"""TensorBoard's event files, read back by its own reader: of finished runs, and written while a model trains."""

from __future__ import annotations

import importlib
import logging
import math
import random
from types import SimpleNamespace

import learners
import numpy as np
import pytest
import torch
import watched
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import FileWriter

from diagnose import report
from diagnose.diagnosis import Diagnosis, Fix
from diagnose.errors import DiagnoseError
from diagnose.report import figures, tensorboard, trackers
from diagnose.report.recorded import recorded
from diagnose.stats import histogram_edges, summary
from diagnose.store import Store
from diagnose.watch import Listener, Watch

ALL = dict.fromkeys(("scalars", "histograms", "images", "tensors", "compressedHistograms"), 0)  # no sampling


def read(folder) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance=ALL)
    found.Reload()
    return found


def text(found: EventAccumulator, name: str) -> list[str]:
    return [t.tensor_proto.string_val[0].decode() for t in found.Tensors(f"{name}/text_summary")]


@pytest.fixture
def unhurried(monkeypatch):
    """As if nothing took time: what is told does not depend on how busy the machine is."""
    monkeypatch.setattr(trackers, "BURST", math.inf)


def live(steps: int, folder, learn=None, **settings) -> Watch:
    return watched.fit(learn or learners.digits(), steps, folder=folder, tensorboard=True, **settings)


# ---- finished runs ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def failing(samples, tmp_path_factory):
    """The event files of a failing run, whose record is that of a small training."""
    learn = learners.digits()
    watch = watched.fit(learn, 12)
    run = tmp_path_factory.mktemp("runs") / "failing"
    diagnosis = samples.ALL["failing"]().model_copy(update={"gauges": "gauges"})
    diagnosis.files.update(samples.ALL["failing"]().files)
    diagnosis.files.update({f"gauges/{name}": data for name, data in watch.store.files().items()})
    report.write(diagnosis, run)
    assert tensorboard.write(run) == run / "tensorboard"
    return SimpleNamespace(diagnosis=diagnosis, store=watch.store, run=run, found=read(run / "tensorboard" / "failing"))


def test_scalars_are_the_numbers_of_the_store(failing):
    frame = failing.store.frame("steps")
    loss = failing.found.Scalars("loss/loss")
    assert [s.step for s in loss] == frame["step"].tolist()
    assert [s.value for s in loss] == pytest.approx(frame["loss"].tolist(), rel=1e-6)
    gradients = failing.store.frame("gradients")
    for name in ("0.0.weight", "3.bias"):
        mine = gradients[gradients["parameter"] == name]
        assert [s.value for s in failing.found.Scalars(f"gradients l2/{name}")] == pytest.approx(mine["l2"].tolist())
    assert failing.found.Scalars("activations std/0.0 Conv2d")[-1].step == frame["step"].max()
    assert failing.found.Scalars("updates ratio/0.0.weight")
    assert failing.found.Scalars("lr/lr_0")[0].value == pytest.approx(3e-3)


def test_histograms_have_the_counts_of_the_store(failing):
    rows = failing.store.frame("weights")
    mine = rows[rows["parameter"] == "3.weight"]
    told = failing.found.Histograms("weights/3.weight")
    assert [h.step for h in told] == mine["step"].tolist()
    for event, counts, top in zip(told, mine["histogram"], mine["top"]):
        histo = event.histogram_value
        assert histo.num == counts[:-1].sum() == 640
        assert sum(histo.bucket) == histo.num
        edges = histogram_edges(top)
        assert histo.max <= edges[-1]
        assert set(np.round(histo.bucket_limit[:-1], 12)) <= set(np.round([*edges, edges[30] / 2, edges[33] / 2], 12))


def test_verdict_checks_and_way_out_are_text(failing, samples):
    (verdict,) = text(failing.found, "report/1 verdict")
    cause = failing.diagnosis.cause
    assert verdict.startswith("## FAIL: unmix")
    assert "lr-too-high (proven" in verdict
    assert cause.fix.code in verdict
    (table,) = text(failing.found, "report/2 checks")
    assert len(table.splitlines()) == 2 + len(failing.diagnosis.checks) + len(failing.diagnosis.unchecked)
    (rows,) = text(failing.found, "report/3 batch")
    assert failing.diagnosis.samples[0].target in rows


def test_proof_settings_pictures_and_figures_are_there(failing):
    proof = failing.diagnosis.cause.proof
    after = failing.found.Scalars("proof lr-too-high/with the change")
    assert [s.value for s in after] == pytest.approx(proof.after.loss, rel=1e-6)
    assert math.isnan(failing.found.Scalars("proof lr-too-high/as it is")[-1].value)
    plugins = failing.found.SummaryMetadata("_hparams_/session_start_info").plugin_data
    assert plugins.plugin_name == "hparams"
    assert b"lr" in plugins.content
    assert failing.found.Scalars("result/causes proven")[0].value == 1
    images = failing.found.Tags()["images"]
    assert len([t for t in images if t.startswith("batch/row ")]) == len(failing.diagnosis.files) - len(
        failing.store.files()
    )
    shown = figures.everything(failing.diagnosis, recorded(failing.store))
    assert {f"figures/{n}" for n in shown} == {t for t in images if t.startswith("figures/")}
    picture = failing.found.Images("figures/loss")[0]
    assert (picture.width, picture.height) == (900, 460)
    assert picture.encoded_image_string.startswith(b"\x89PNG")


def test_event_files_are_written_once(failing):
    before = {f: f.stat().st_mtime_ns for f in (failing.run / "tensorboard").rglob("*")}
    tensorboard.write(failing.run)
    assert {f: f.stat().st_mtime_ns for f in (failing.run / "tensorboard").rglob("*")} == before
    assert not [p for p in failing.run.iterdir() if p.name.endswith(".partial")]


def test_every_sample_is_written_and_hostile_text_is_only_text(made, samples, tmp_path):
    run = tmp_path / "run"
    report.write(made, run)
    found = read(tensorboard.write(run) / "run")
    said = "".join(text(found, "report/1 verdict") + text(found, "report/2 checks"))
    for name in ("<script", "<img"):
        assert name not in said.split("```")[0]
    rows = text(found, "report/2 checks")[0].splitlines()
    assert all(r.count(" | ") == 3 for r in rows)


def test_a_way_out_without_code_is_only_text(samples):
    way_out = Fix(text="Use <b>*less*</b> of it.", code="")
    cause = samples.lr_too_high().model_copy(update={"fix": way_out})
    said = trackers.verdict(samples.diagnosis(causes=[cause]))
    assert "Use &lt;b&gt;&#42;less&#42;&lt;/b&gt; of it." in said


def test_a_run_that_cannot_be_written_leaves_nothing(samples, tmp_path, monkeypatch):
    run = tmp_path / "run"
    report.write(samples.ALL["passing"](), run)
    before = sorted(run.rglob("*"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FileWriter, "add_summary", full)
    with pytest.raises(DiagnoseError, match="No space left on device"):
        tensorboard.write(run)
    assert sorted(run.rglob("*")) == before


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(DiagnoseError, match="no record"):
        tensorboard.write(tmp_path)
    Store(tmp_path / "empty")
    with pytest.raises(DiagnoseError, match="nothing was recorded"):
        tensorboard.write(tmp_path / "empty")
    (tmp_path / report.JSON).write_text("{}")
    with pytest.raises(DiagnoseError, match="cannot be read"):
        tensorboard.write(tmp_path)


def test_the_record_of_a_watch_alone_is_enough(tmp_path):
    watched.fit(learners.digits(), 5, folder=tmp_path / "monday")
    found = read(tensorboard.write(tmp_path / "monday") / "monday")
    assert len(found.Scalars("loss/loss")) == 5
    assert found.Tags()["histograms"]
    assert len(Store.read(tmp_path / "monday").frame("steps")) == 5  # its folder is still a record


# ---- bins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_bins_hold_every_finite_number_where_it_belongs(seed):
    torch.manual_seed(seed)
    values = torch.cat([torch.randn(500) * 10.0**seed, torch.zeros(seed * 50), torch.tensor([math.nan] * seed)])
    s = summary(values)
    edges, counts = trackers.bins(s.histogram[0], int(s.top[0]))
    finite = values[torch.isfinite(values)].numpy()
    assert counts.sum() == len(finite)
    assert (np.diff(edges) > 0).all()
    assert edges[0] <= finite.min()
    assert edges[-1] >= finite.max()
    zero = np.flatnonzero((edges[:-1] < 0) & (edges[1:] > 0))
    if seed:
        assert counts[zero].sum() == seed * 50
    outer = np.abs(finite) > np.abs(edges).max() / 16
    coarse = np.histogram(finite[outer], edges)[0]
    far = (np.abs(edges[:-1]) >= np.abs(edges).max() / 16) & (np.abs(edges[1:]) >= np.abs(edges).max() / 16)
    assert np.array_equal(coarse[far], counts[far])


def test_zeros_alone_are_a_narrow_bin_and_nothing_finite_is_none():
    s = summary(torch.zeros(7))
    edges, counts = trackers.bins(s.histogram[0], int(s.top[0]))
    assert counts.tolist() == [7]
    assert edges[0] < 0 < edges[1] < 1e-30
    s = summary(torch.full((3,), math.inf))
    assert trackers.bins(s.histogram[0], int(s.top[0])) is None


def test_extreme_numbers_find_their_way(tmp_path):
    files = tensorboard.EventFiles(tmp_path)
    s = summary(torch.tensor([1e300, -1e300, 3.0], dtype=torch.float64))
    files.scalars(0, {"a/large": 1e300, "a/infinite": math.inf, "a/nan": math.nan})
    files.histograms(0, {"h/extreme": trackers.bins(s.histogram[0], int(s.top[0]))})
    files.close()
    found = read(tmp_path)
    assert found.Scalars("a/large")[0].value == pytest.approx(3.4e38)
    assert found.Scalars("a/infinite")[0].value == math.inf
    assert math.isnan(found.Scalars("a/nan")[0].value)
    histo = found.Histograms("h/extreme")[0].histogram_value
    assert np.isfinite([histo.min, histo.max, *histo.bucket_limit]).all()


# ---- while a model trains --------------------------------------------------------------------------------------------


def test_a_live_run_tells_what_is_recorded(tmp_path, unhurried):
    watch = live(30, tmp_path / "run")
    found = read(tmp_path / "run" / "tensorboard")
    frame = watch.frame("steps")
    assert [s.step for s in found.Scalars("loss/loss")] == frame["step"].tolist()
    assert [s.value for s in found.Scalars("loss/loss")] == pytest.approx(frame["loss"].tolist(), rel=1e-6)
    weights = watch.frame("weights")
    last = weights[(weights["parameter"] == "3.weight") & (weights["step"] == 29)].iloc[0]
    told = found.Scalars("weights std/3.weight")[-1]
    assert (told.step, told.value) == (29, pytest.approx(last["std"]))
    histo = found.Histograms("weights/3.weight")[-1]
    assert (histo.step, histo.histogram_value.num) == (29, 640)
    assert found.Histograms("activations/0.2 ReLU")
    assert found.Scalars("units dead/0.2 ReLU")
    assert b"CrossEntropyLossFlat" in found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert found.Tags()["images"] == []  # of a short fit figures are drawn when the Watch is closed
    watch.close()
    assert "figures/loss" in read(tmp_path / "run" / "tensorboard").Tags()["images"]


def test_training_with_it_gives_the_same_bits(tmp_path):
    plain = learners.digits()
    watched.fit(plain, 40, every=10, first=5)
    drawn = torch.rand(3), random.random(), np.random.random()  # noqa: NPY002
    told = learners.digits()
    live(40, tmp_path / "run", told, every=10, first=5).close()
    assert torch.equal(drawn[0], torch.rand(3))
    assert drawn[1:] == (random.random(), np.random.random())  # noqa: NPY002
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, told.model.state_dict()[name]), name


def test_alarms_are_text_at_their_step(tmp_path):
    learn = learners.digits()
    poison = watched.At("before_batch", lambda learn: learn.xb[0].fill_(math.nan), steps=[2])
    watch = watched.fit(learn, 4, poison, folder=tmp_path / "run", tensorboard=True)
    found = read(tmp_path / "run" / "tensorboard")
    told = found.Tensors("alarms/text_summary")
    assert [t.step for t in told] == [r.step for r in watch.raised]
    assert "nonfinite-loss" in watched.ids(watch)
    assert "**nonfinite-loss**" in "".join(text(found, "alarms"))


def test_several_fits_go_on_in_the_same_folder(tmp_path, unhurried):
    learn = learners.digits()
    watch = Watch(tmp_path / "run", every=1, tensorboard=True)
    with learn.no_bar(), learn.no_logging():
        for _ in range(2):
            learn.fit(1, cbs=[watch, watched.StopAfter(3)])
    assert [s.step for s in read(tmp_path / "run" / "tensorboard").Scalars("loss/loss")] == list(range(6))
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    watch.close()
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=[watch, watched.StopAfter(2)])
    told = [s.step for s in read(tmp_path / "run" / "tensorboard").Scalars("loss/loss")]
    assert sorted(told) == list(range(8))  # a second file, read in any order if it is of the same second


def test_a_fit_that_raises_leaves_whole_files(tmp_path, unhurried):
    learn = learners.digits()

    def fail(learn) -> None:
        raise ZeroDivisionError("in the user's code")

    failing = watched.At("before_batch", fail, steps=[5], order=-20)
    with pytest.raises(ZeroDivisionError):
        watched.fit(learn, 9, failing, folder=tmp_path / "run", tensorboard=True)
    assert [s.step for s in read(tmp_path / "run" / "tensorboard").Scalars("loss/loss")] == list(range(5))


def test_a_failing_writer_is_one_warning_and_the_fit_goes_on(tmp_path, caplog, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FileWriter, "add_summary", full)
    with caplog.at_level(logging.WARNING, "diagnose"):
        watch = live(20, tmp_path / "run")
    assert len(watch.frame("steps")) == 20
    told = [r.getMessage() for r in caplog.records if "TensorBoard" in r.getMessage()]
    assert len(told) == 1
    assert "No space left on device" in told[0]
    assert watch.recording.failed["TensorBoard"].startswith("OSError")


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path, caplog):
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING, "diagnose"):
        watch = watched.fit(learners.digits(), 5, tensorboard=tmp_path / "file")
    assert len(watch.frame("steps")) == 5
    assert len([r for r in caplog.records if "TensorBoard" in r.getMessage()]) == 1


@pytest.mark.parametrize("given", [True, "elsewhere"])
def test_where_the_files_go(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    watched.fit(learners.digits(), 2, tensorboard=given)
    (folder,) = {f.parent for f in tmp_path.rglob("events.out.tfevents.*")}
    parts = folder.relative_to(tmp_path).parts
    assert parts == ("elsewhere",) if given == "elsewhere" else (parts[0], parts[2:]) == ("runs", ("tensorboard",))
    shown = folder if given == "elsewhere" else folder.parent
    assert tensorboard.watched(shown)
    assert tensorboard.write(shown) == folder


def test_without_tensorboard_the_way_out_is_told(monkeypatch):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(DiagnoseError, match="pip install"):
        Watch(tensorboard=True)


def test_a_copied_watch_tells_nobody(tmp_path):
    import copy

    watch = Watch(tmp_path / "run", tensorboard=True)
    assert copy.deepcopy(watch).recording.listeners == {}


# ---- bounds ----------------------------------------------------------------------------------------------------------


class Slow(trackers.Tracker):
    """Takes a second of the fake clock for each telling, and counts."""

    pause, sparse, moments, limit = 2.0, 2, 5, 1_000_000

    def __init__(self, clock, cost: float):
        self.clock, self.cost, self.steps, self.layers, self.shapes = clock, cost, [], [], []

    def scalars(self, step, values):
        self.clock.wait(self.cost)
        (self.steps if "loss/loss" in values else self.layers).append(step)

    def histograms(self, step, values):
        self.clock.wait(self.cost)
        self.shapes.append(step)

    def figure(self, name, drawn, step=None):
        raise AssertionError("a figure takes long")

    def picture(self, name, png): ...
    def text(self, name, said, step=None): ...
    def settings(self, values, results): ...
    def flush(self): ...
    def close(self): ...


class Told(trackers.Live):
    """Live telling to a given tracker."""

    def __init__(self, tracker):
        super().__init__()
        self._given = tracker

    def open(self):
        return self._given


def blocks(told: Listener, clock, count: int, seconds: float) -> None:
    """So many blocks of 8 steps and two parameters, a block in so many seconds of the fake clock."""
    for b in range(count):
        clock.wait(seconds)
        steps = np.arange(b * 8, b * 8 + 8)
        told.on_rows("steps", {"step": steps, "loss": np.ones(8), "outcome": [""] * 8})
        rows = np.repeat(steps, 2)
        numbers = {c: np.ones(16, np.float32) for c in ("std", "l2", "distance")}
        shapes = {"histogram": np.ones((16, 64), np.uint16), "top": np.zeros(16, np.int16)}
        told.on_rows("weights", {"step": rows, "parameter": ["a", "b"] * 8, **numbers, **shapes})


@pytest.fixture
def clock(monkeypatch):
    made = watched.clock(tick=0.0)
    monkeypatch.setattr(trackers, "time", made)
    return made


def test_telling_takes_its_share_of_the_time_and_no_more(clock):
    told = Told(Slow(clock, cost=0.01))
    told.on_start(learners.digits())
    blocks(told, clock, 400, seconds=1.0)
    total = 400 * 1.0 + told.spent
    least = 400 * 0.01  # the last step of every block is always told
    assert told.spent <= trackers.BURST + trackers.SHARE * total + least
    assert told.tracker.steps[-1] == 400 * 8 - 1
    assert len(told.tracker.steps) >= 400
    assert 1 < len(told.tracker.layers) < 200


def test_what_costs_nothing_is_told_of_every_step(clock):
    told = Told(Slow(clock, cost=0.0))
    told.on_start(learners.digits())
    blocks(told, clock, 50, seconds=1.0)
    assert told.tracker.steps == list(range(400))
    assert np.diff(told.tracker.layers).tolist() == [16] * (len(told.tracker.layers) - 1)  # a pause is two blocks
    assert len(told.tracker.shapes) == -(-len(told.tracker.layers) // 2)
    told.on_end(Store())
    assert told.tracker.layers[-1] == 399


def test_the_fuller_the_rarer_and_never_over_the_limit(clock, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard.EventFiles, "limit", 200_000)
    told = Told(tensorboard.EventFiles(tmp_path))
    told.on_start(learners.digits())
    blocks(told, clock, 3_000, seconds=10.0)
    told.on_end(Store())
    size = sum(f.stat().st_size for f in tmp_path.iterdir())
    assert size <= 1.3 * 200_000  # an event's frame takes a few bytes more than what is in it
    steps = [s.step for s in read(tmp_path).Scalars("loss/loss")]
    gaps = np.diff(steps)
    assert gaps[0] == 1
    assert gaps[-1] > 4
    assert steps[-1] > 20_000


def test_only_the_first_process_of_a_distributed_training_tells(clock, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    told = Told(Slow(clock, cost=0.0))
    told.on_start(learners.digits())
    blocks(told, clock, 2, seconds=1.0)
    told.on_end(Store())
    assert told.tracker is None


def test_of_many_layers_some_are_told(tmp_path, unhurried):
    model = nn.Sequential(nn.Flatten(), *[nn.Linear(64, 64, bias=False) for _ in range(230)], nn.Linear(64, 10))
    live(1, tmp_path / "run", learners.digits(model=model))
    tags = read(tmp_path / "run" / "tensorboard").Tags()
    assert len([t for t in tags["scalars"] if t.startswith("weights std/")]) == trackers.PLACES
    assert "weights std/1.weight" in tags["scalars"]
    assert "weights std/231.bias" in tags["scalars"]


def test_odd_names_are_one_tag_each(tmp_path, samples, unhurried):
    names = [n.replace(".", "_") for n in samples.HOSTILE] + ["a b", "é" * 400, "\udcff"]
    model = nn.Sequential()
    for name in names:
        model.add_module(name, nn.Linear(64, 64))
    model = nn.Sequential(nn.Flatten(), model, nn.Linear(64, 10))
    watch = live(2, tmp_path / "run", learners.digits(model=model))
    assert watch.recording.failed == {}
    tags = [t for t in read(tmp_path / "run" / "tensorboard").Tags()["scalars"] if t.startswith("weights std/")]
    assert len(tags) == 2 * len(names) + 2
    assert max(map(len, tags)) < 250


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_event_files_and_an_archive_beside_the_report(tmp_path, monkeypatch, diagnose):
    """`diagnose run --tensorboard --comet` on a Learner of one's own; the verdict is that of the run without them."""
    (tmp_path / "own.py").write_text("import learners\ndef build():\n    return learners.digits()\n")
    monkeypatch.delenv("COMET_API_KEY", raising=False)
    monkeypatch.setenv("COMET_CONFIG", str(tmp_path / "none.config"))
    quick = ("--only", "initialisation,overfit-one-batch", "--format", "json", "--tensorboard", "--comet")
    code, out, err = diagnose("run", "--learner", "own.py:build", *quick)
    assert code == 0
    assert Diagnosis.from_json(out).check("overfit-one-batch").status == "pass"
    (run,) = tmp_path.glob("reports/*/*")
    assert f"tensorboard: {run / 'tensorboard'}" in err
    assert f"comet: {next(run.glob('comet/*.zip')).relative_to(tmp_path)}" in err
    found = read(run / "tensorboard" / run.name)
    assert found.Scalars("loss/loss")
    assert text(found, "report/1 verdict")


@pytest.mark.parametrize("option", ["--tensorboard", "--comet"])
def test_what_is_not_installed_is_told_before_any_time_is_spent(option, monkeypatch, diagnose):
    module = importlib.import_module(f"diagnose.report.{option[2:]}")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    code, _, err = diagnose("run", "--learner", "nothing.py:build", option)
    assert code == 2
    assert "pip install" in err
