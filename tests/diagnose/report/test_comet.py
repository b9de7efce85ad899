"""Comet without a network: archives read back, keys and servers that do not work, and what it must not touch."""

from __future__ import annotations

import collections
import json
import logging
import random
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from types import SimpleNamespace

import learners
import numpy as np
import pytest
import torch
import watched

from diagnose import report
from diagnose.errors import DiagnoseError
from diagnose.report import comet, trackers
from diagnose.watch import Watch

SUPPORT = Path(__file__).parents[2] / "support"


@pytest.fixture
def drawn():
    """Figures are drawn; the other tests have none, which take longer than all else."""


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path, request):
    """No key, no configuration of whoever runs the tests, and no server."""
    for name in ("COMET_API_KEY", "COMET_PROJECT_NAME", "COMET_WORKSPACE", "COMET_START_ONLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COMET_CONFIG", str(tmp_path / "none.config"))
    monkeypatch.setenv("COMET_URL_OVERRIDE", "http://127.0.0.1:9")
    monkeypatch.setattr(trackers, "BURST", float("inf"))
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(trackers.figures, "everything", lambda diagnosis, found: {})


def read(folder: Path) -> SimpleNamespace:
    """The one archive of a folder: metrics by name, parameters, others, and files by what they are."""
    (archive,) = folder.glob("*.zip")
    with zipfile.ZipFile(archive) as opened:
        messages = [json.loads(line) for line in opened.read("messages.json").decode().splitlines()]
        uploads = [m["payload"] for m in messages if m["type"] == "file_upload"]
        data = {u["file_path"]: opened.read(u["file_path"]) for u in uploads}
    metrics = collections.defaultdict(list)
    for m in messages:
        if m["type"] == "metric_msg":
            metric = m["payload"]["metric"]
            metrics[metric["metricName"]].append((metric["step"], metric["metricValue"]))
    parameters = {m["payload"]["param"]["paramName"]: m["payload"]["param"]["paramValue"] for m in messages
                  if m["type"] == "parameter_msg"}  # fmt: skip
    others = {m["payload"]["key"]: m["payload"]["value"] for m in messages if m["type"] == "log_other"}
    kinds = collections.defaultdict(list)
    for u in uploads:
        about = {**u["additional_params"], **u["metadata"]}
        kinds[u["upload_type"]].append(SimpleNamespace(about=about, data=data[u["file_path"]]))
    html = [m["payload"]["html"] for m in messages if m["type"] == "html"]
    return SimpleNamespace(metrics=metrics, parameters=parameters, others=others, files=kinds, html=html)


def test_a_live_run_becomes_an_archive(tmp_path, drawn):
    watch = watched.fit(learners.digits(), 20, folder=tmp_path / "run", comet=True)
    watch.close()
    found = read(tmp_path / "run" / "comet")
    frame = watch.frame("steps")
    assert [step for step, _ in found.metrics["loss/loss"]] == frame["step"].tolist()
    assert [value for _, value in found.metrics["loss/loss"]] == pytest.approx(frame["loss"].tolist())
    weights = watch.frame("weights")
    mine = weights[(weights["parameter"] == "3.weight") & (weights["step"] == 19)].iloc[0]
    assert found.metrics["weights std/3.weight"][-1] == (19, pytest.approx(mine["std"]))
    assert found.parameters["loss"] == "CrossEntropyLossFlat"
    assert found.parameters["batch size"] == 64
    shapes = {f.about["fileName"]: json.loads(f.data) for f in found.files["histogram3d"]}
    assert {"weights/3.weight", "activations/0.2 ReLU", "gradients/0.0.weight"} <= set(shapes)
    assert "figures" not in found.files
    assert {f.about["figName"] for f in found.files["visualization"]} >= {"loss", "layers", "histograms of weights"}
    assert all(f.data.startswith(b"\x89PNG") for f in found.files["visualization"])


def test_each_number_is_logged_once_beside_event_files(tmp_path):
    watch = watched.fit(learners.digits(), 10, folder=tmp_path / "run", comet=True, tensorboard=True)
    watch.close()
    metrics = read(tmp_path / "run" / "comet").metrics
    assert [step for step, _ in metrics["loss/loss"]] == list(range(10))
    assert not {name for name, told in metrics.items() if len(told) != len(dict(told))}
    assert set(metrics) - {n for n in metrics if "/" in n} <= {"process duration"}  # what Comet adds by itself


def test_alarms_are_texts_and_others(tmp_path):
    poison = watched.At("before_batch", lambda learn: learn.xb[0].fill_(float("nan")), steps=[2])
    watch = watched.fit(learners.digits(), 4, poison, folder=tmp_path / "run", comet=True)
    watch.close()
    found = read(tmp_path / "run" / "comet")
    first = watch.raised[0]
    said = [f.data.decode() for f in found.files["text-sample"]]
    assert any(first.message in s for s in said)
    assert any(key.startswith("alarm nonfinite-loss") for key in found.others)
    assert all(np.isfinite(v) for told in found.metrics.values() for _, v in told)


def test_training_with_it_gives_the_same_bits_and_draws_nothing(tmp_path):
    plain = learners.digits()
    watched.fit(plain, 25, every=10, first=5)
    drawn = torch.rand(3), random.random(), np.random.random()  # noqa: NPY002
    told = learners.digits()
    watched.fit(told, 25, folder=tmp_path / "run", comet=True, every=10, first=5).close()
    assert torch.equal(drawn[0], torch.rand(3))
    assert drawn[1:] == (random.random(), np.random.random())  # noqa: NPY002
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, told.model.state_dict()[name]), name


def test_the_first_import_draws_nothing_and_changes_no_training(tmp_path):
    """In a process where nobody has imported Comet yet: that is when it patches torch and draws."""
    code = f"""
        import random, sys, numpy as np, torch
        sys.path.insert(0, {str(SUPPORT)!r})
        torch.set_num_threads(1)
        import learners, watched
        def run(**settings):
            learn = learners.digits()
            watch = watched.fit(learn, 12, **settings)
            watch.close()
            bits = [p.sum().item() for p in learn.model.parameters()]
            return bits, random.random(), np.random.random(), torch.rand(1).item()
        plain = run()
        assert not any(m.startswith("comet_ml") for m in sys.modules)
        assert run(folder={str(tmp_path / "a")!r}, comet=True) == plain
        assert any(m.startswith("comet_ml") for m in sys.modules)
        assert run() == plain
        state = random.getstate()
        from comet_ml.connection import retry_with_full_jitter
        from comet_ml.streamer import fallback
        retry_with_full_jitter.random.random()
        fallback.random.choice("abc")
        assert random.getstate() == state
        print("same")
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=200
    )
    assert done.stdout.strip().endswith("same"), done.stderr
    assert "comet" not in done.stderr.lower(), done.stderr
    assert list((tmp_path / "a" / "comet").glob("*.zip"))


def test_a_process_that_just_ends_leaves_its_archive(tmp_path):
    code = f"""
        import sys
        sys.path.insert(0, {str(SUPPORT)!r})
        import learners, watched
        watch = watched.fit(learners.digits(), 3, folder={str(tmp_path / "run")!r}, comet=True)
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], check=True, timeout=200)
    assert [s for s, _ in read(tmp_path / "run" / "comet").metrics["loss/loss"]] == [0, 1, 2]


class Broken:
    """An experiment that fails at a method; the others only count."""

    def __init__(self, at: str = ""):
        self.at, self.calls = at, collections.Counter()

    def log_metrics(self, dic, step=None):
        self._called("log_metrics")

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self._called(name)

    def _called(self, name: str) -> None:
        self.calls[name] += 1
        if name == self.at:
            raise ConnectionError("the server is gone")


@pytest.mark.parametrize("at", ["log_metrics", "log_parameters", "log_histogram_3d"])
def test_a_failure_is_one_warning_and_the_fit_goes_on(caplog, at):
    experiment = Broken(at)
    with caplog.at_level(logging.WARNING, "diagnose"):
        watch = watched.fit(learners.digits(), 20, comet=experiment)
        watch.close()
    assert len(watch.frame("steps")) == 20
    told = [r.getMessage() for r in caplog.records if "Comet" in r.getMessage()]
    assert len(told) == 1
    assert "the server is gone" in told[0]
    assert experiment.calls[at] == 1


def test_an_experiment_of_the_user_is_used_and_left_open(drawn):
    experiment = Broken()
    watch = watched.fit(learners.digits(), 5, comet=experiment)
    watch.close()
    assert experiment.calls["log_metrics"] >= 5
    assert experiment.calls["log_figure"]
    assert experiment.calls["end"] == 0


def test_what_is_no_experiment_is_told():
    with pytest.raises(DiagnoseError, match="experiment of comet_ml"):
        Watch(comet="my-project")


def test_without_comet_the_way_out_is_told(monkeypatch):
    monkeypatch.setattr(comet, "find_spec", lambda name: None)
    with pytest.raises(DiagnoseError, match="pip install"):
        Watch(comet=True)
    with pytest.raises(DiagnoseError, match="pip install"):
        comet.write(Path("anywhere"))


def test_a_key_whose_server_is_silent_gives_an_archive_and_one_warning(tmp_path, monkeypatch, caplog):
    import comet_ml

    class Silent:
        alive = False

        def __init__(self, **settings):
            assert settings["auto_metric_logging"] is False

    monkeypatch.setenv("COMET_API_KEY", "x" * 25)
    monkeypatch.setattr(comet_ml, "Experiment", Silent)
    with caplog.at_level(logging.WARNING, "diagnose"):
        watched.fit(learners.digits(), 3, folder=tmp_path / "run", comet=True).close()
    assert len([r for r in caplog.records if "Comet is not reached" in r.getMessage()]) == 1
    assert len(read(tmp_path / "run" / "comet").metrics["loss/loss"]) == 3


def test_a_key_whose_server_answers_makes_an_experiment_online(tmp_path, monkeypatch):
    import comet_ml

    made = []

    class Online(Broken):
        alive = True

        def __init__(self, **settings):
            super().__init__()
            made.append(self)

    monkeypatch.setenv("COMET_API_KEY", "x" * 25)
    monkeypatch.setattr(comet_ml, "Experiment", Online)
    watched.fit(learners.digits(), 3, folder=tmp_path / "run", comet=True).close()
    (experiment,) = made
    assert experiment.calls["log_metrics"] >= 3
    assert experiment.calls["end"] == 1
    assert not (tmp_path / "run" / "comet").exists()


def test_several_fits_are_one_experiment(tmp_path):
    learn = learners.digits()
    watch = Watch(tmp_path / "run", every=1, comet=True)
    with learn.no_bar(), learn.no_logging():
        for _ in range(2):
            learn.fit(1, cbs=[watch, watched.StopAfter(3)])
    watch.close()
    assert [s for s, _ in read(tmp_path / "run" / "comet").metrics["loss/loss"]] == list(range(6))


def test_a_finished_run_is_logged_whole(samples, tmp_path, drawn):
    run = tmp_path / "unmix"
    diagnosis = samples.ALL["failing"]()
    report.write(diagnosis, run)
    where = comet.write(run)
    assert where == str(next((run / "comet").glob("*.zip")))
    found = read(run / "comet")
    assert found.others["verdict"] == "fail"
    assert found.others["cause"] == "lr-too-high"
    assert found.others["Name"] == "unmix"
    assets = {f.about["fileName"]: f.data for f in found.files["asset"]}
    assert assets["report.json"] == (run / "report.json").read_bytes()
    assert assets["report.html"] == (run / "report.html").read_bytes()
    assert found.html == [(run / "report.html").read_text()]
    assert found.metrics["proof lr-too-high/with the change"][3][1] == pytest.approx(
        diagnosis.cause.proof.after.loss[3]
    )
    assert found.metrics["result/causes proven"] == [(0, 1)]
    texts = {f.about["what"]: f.data.decode() for f in found.files["text-sample"]}
    assert texts["report/1 verdict"].startswith("## FAIL: unmix")
    pictures = {f.about["figName"] for f in found.files["visualization"]}
    assert {"proof lr-too-high", "learning-rate-ladder", "batch/row 0 source 1"} <= pictures


@pytest.mark.parametrize("name", ["empty", "hostile", "one_step"])
def test_odd_runs_are_logged(samples, name, tmp_path, caplog):
    run = tmp_path / "run"
    report.write(samples.ALL[name](), run)
    with caplog.at_level(logging.WARNING, "diagnose"):
        assert comet.write(run)
    assert [r for r in caplog.records if "Comet" in r.getMessage()] == []


def test_a_failure_over_a_finished_run_is_one_warning(samples, tmp_path, caplog, monkeypatch):
    run = tmp_path / "run"
    report.write(samples.ALL["passing"](), run)
    monkeypatch.setattr(comet, "started", lambda *_: Broken("log_asset"))
    with caplog.at_level(logging.WARNING, "diagnose"):
        assert comet.write(run) is None
    assert len([r for r in caplog.records if "did not take the run" in r.getMessage()]) == 1


def test_a_histogram_keeps_its_counts():
    from comet_ml.data_structure import Histogram

    told = []
    experiment = SimpleNamespace(log_histogram_3d=lambda shape, name, step: told.append((shape, name, step)))
    edges, counts = np.array([-2.0, -1.0, -0.1, 0.1, 4.0, 1e30]), np.array([3.0, 0, 5, 2, 1])
    comet.Experiment(experiment).histograms(7, {"h/a": (edges, counts)})
    (shape, name, step) = told[0]
    assert (name, step) == ("h/a", 7)
    assert isinstance(shape, Histogram)
    assert sum(shape.counts) == 11
    assert shape.counts[len(shape.counts) // 2] == 5  # exact zeros
