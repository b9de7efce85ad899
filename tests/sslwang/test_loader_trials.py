"""Loaders measured: what is timed, what hangs, dies or fills memory, and what is recommended."""

import io
import os
import tomllib

import psutil
import pytest
from rich.console import Console
from slow_loading import HOARD, slow

from diagnose.errors import DiagnoseError
from sslwang.commands._options import whole_numbers
from sslwang.commands.loaders import table
from sslwang.loader_trials import Measured, Sample, Trial, advice, measure, memory_of_tree, settings_text
from sslwang.pretrain import task_of

REST = 0.03  # seconds a row
AWAY = {"rest": REST, "items": 8, "valid_items": 8}


def of(trial, load=0.01, step=0.1, wait=0.0, spread=0.0, memory=2**28, rounds=3, gpu=0):
    """A trial measured in three rounds, the first as slow and the last as fast as the spread says."""
    parts = [1 + spread * (2 * k / max(rounds - 1, 1) - 1) for k in range(rounds)]
    return Measured(trial, [Sample(0.5, load * p, step * p, wait * p, memory, gpu) for p in parts])


# ---- measured --------------------------------------------------------------------------------------------------------


def test_loading_is_timed_apart_from_the_step_that_waits_for_it():
    told = []
    found = measure(slow(**AWAY), [Trial(0, 2), Trial(0, 4)], 2, 3, on_trial=lambda *what: told.append(what))
    for one in found:
        assert not one.failed
        assert len(one.samples) == 2
        for s in one.samples:
            assert s.load >= REST * one.trial.bs, "no batch comes sooner than its rows"
            assert s.wait >= REST * one.trial.bs
            assert s.first >= REST * one.trial.bs
            assert s.train == s.step + s.wait
            assert s.memory > 50 * 2**20
            assert s.gpu == 0
        assert one.speed <= 1 / REST
    assert [t[1:] for t in told] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert {t[0] for t in told[:2]} == {t[0] for t in told[2:4]} == {str(m.trial) for m in found}


def test_a_loader_that_hangs_is_ended_with_its_workers_and_the_others_go_on():
    found = measure(slow(fault="hang"), [Trial(0, 4), Trial(2, 4)], 2, 2, patience=8)
    by_workers = {m.trial.workers: m for m in found}
    assert len(by_workers[0].samples) == 2
    assert by_workers[2].failed == "hung: nothing came for 8 s; killed"
    assert by_workers[2].samples == []
    server = [p for p in psutil.Process().children() if "forkserver" in " ".join(p.cmdline())]
    assert all(not p.children(recursive=True) for p in server), "no worker is left"
    best = advice(found, 4, "cpu")
    assert best.trial.workers == 0
    assert any("workers=2 bs=4 pin=no is no choice: hung" in reason for reason in best.reasons)


@pytest.mark.parametrize(
    ("fault", "workers", "said"),
    [
        ("exit", 1, "DataLoader worker"),
        ("raise", 1, "ValueError: no such luck"),
        ("kill-alone", 0, "its process died (signal 9)"),
    ],
)
def test_a_loader_that_dies_is_told_with_its_reason(fault, workers, said):
    (found,) = measure(slow(fault=fault), [Trial(workers, 4)], 2, 2)
    assert said in found.failed
    assert found.samples == []
    with pytest.raises(DiagnoseError, match=r"every trial failed; workers=\d bs=4 pin=no: "):
        advice([found], 4, "cpu")


def test_what_no_loader_can_mend_ends_the_measuring():
    with pytest.raises(DiagnoseError, match="the data are gone"):
        measure(slow(fault="usage-alone"), [Trial(0, 4), Trial(1, 4)], 1, 2)


def test_memory_of_workers_counts():
    lean, full = (measure(slow(fault=f, rest=0.05), [Trial(1, 4)], 1, 4)[0] for f in ("", "hoard"))
    assert full.samples[0].memory - lean.samples[0].memory > 0.8 * HOARD


def test_memory_of_a_process_is_known_and_that_of_one_that_is_gone_is_none():
    assert memory_of_tree(os.getpid()) > 50 * 2**20
    assert memory_of_tree(2**22 + 1) == 0


# ---- recommended -----------------------------------------------------------------------------------------------------


def test_the_fastest_is_taken_if_it_is_so_by_more_than_the_spread():
    slow_one, fast = of(Trial(0, 48), load=0.2, wait=0.2), of(Trial(2, 48), load=0.08)
    best = advice([slow_one, fast], 48, "cpu")
    assert best.trial == Trial(2, 48)
    assert best.reasons[0] == "workers=2 bs=48 pin=no trains fastest, 480 images/s."
    assert "waits 0.000 s for its batch (0% of the time): the step bounds it" in best.reasons[1]
    assert "2 workers load a batch of 48 in 0.080 s, within a step of 0.100 s" in best.reasons[2]
    assert "take cores from the step" in best.reasons[2]


@pytest.mark.parametrize(("wait", "spread"), [(0.003, 0.0), (0.03, 0.2)])
def test_of_equals_the_simplest_is_taken(wait, spread):
    """Within 5 %, or within the spread of the rounds, more workers are no gain."""
    plain, more = of(Trial(0, 48), wait=wait, spread=spread), of(Trial(4, 48), spread=spread)
    best = advice([more, plain], 48, "cpu")
    assert best.trial == Trial(0, 48)
    assert "within 5 % or within the spread" in best.reasons[0]


def test_one_round_has_no_spread():
    found = [of(Trial(0, 48), wait=0.03, rounds=1), of(Trial(4, 48), rounds=1)]
    assert advice(found, 48, "cpu").trial == Trial(4, 48)


def test_the_batch_size_of_the_task_is_kept_if_another_is_no_faster():
    half, own = of(Trial(0, 24), step=0.05), of(Trial(0, 48), step=0.1)
    assert advice([half, own], 48, "cpu").trial == Trial(0, 48)
    large = of(Trial(0, 96), step=0.12)
    best = advice([own, large], 48, "cpu")
    assert best.trial == Trial(0, 96)
    assert any("Another batch size than 48 learns differently" in r for r in best.reasons)


def test_how_many_workers_a_step_needs_is_estimated_where_none_were_tried():
    best = advice([of(Trial(0, 48), load=0.35, step=0.1, wait=0.35)], 48, "cuda")
    assert "loading bounds it" in best.reasons[1]
    assert "about 4 workers would keep up" in best.reasons[2]
    assert not any("take cores" in r for r in best.reasons)
    lone = advice([of(Trial(2, 48), load=0.35, step=0.1, wait=0.25)], 48, "cuda")
    assert "No trial loads within a step of 0.100 s; 2 workers take 0.350 s" in lone.reasons[2]


def test_what_pinning_changes_is_said_where_there_is_a_gpu():
    found = [of(Trial(0, 48)), of(Trial(0, 48, True), step=0.101)]
    best = advice(found, 48, "cuda")
    assert best.trial == Trial(0, 48)
    assert "Pinned memory changes the speed by -1.0% (median of 1)." in best.reasons
    assert "Without a GPU pinned memory does nothing." in advice(found[:1], 48, "cpu").reasons


def test_settings_are_written_as_a_task_takes_them():
    text = settings_text(Trial(3, 24, True), ["sslwang loaders", "because"])
    assert text.startswith("# sslwang loaders\n# because\n")
    settings = task_of("unmix", tomllib.loads(text)).settings
    assert (settings.bs, settings.data.workers, settings.data.pin) == (24, 3, True)


def printed(found):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(found, "title"))
    return console.export_text()


def test_the_table_fits_and_shows_failures():
    found = [of(Trial(0, 48), load=0.0123, wait=0.1, spread=0.1), Measured(Trial(2, 48), failed="hung")]
    text = printed(found)
    assert "0.012 ±0.001" in text
    assert "240 ±24" in text
    assert "256" in text
    assert "failed" in text
    assert "pin" not in text
    text = printed([of(Trial(0, 48, True), gpu=2**30)])
    assert "yes" in text
    assert "1024" in text


# ---- the command -----------------------------------------------------------------------------------------------------


def test_numbers_are_read_once_each():
    assert whole_numbers("--workers", "0, 2,2,4", 0) == [0, 2, 4]
    for text, message in (("0,x", "whole numbers"), ("", "whole numbers"), ("-1", "-1 is below 0")):
        with pytest.raises(DiagnoseError, match=f"--workers {text}: .*{message}"):
            whole_numbers("--workers", text, 0)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """`sslwang` called in an empty folder: (exit code, stdout, stderr)."""
    from sslwang import cli

    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["sslwang", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, " ".join(captured.err.split())

    return call


def test_the_command_measures_recommends_and_writes(command, tmp_path):
    code, out, _ = command(
        "loaders", "--task", "quadrant-rotation", "--data", "faces", "--set", "size=32", "--bs", "4,8",
        "--workers", "0", "--batches", "2", "--rounds", "1", "--device", "cpu", "--write", "load.toml",
    )  # fmt: skip
    assert code == 0
    assert "quadrant-rotation on faces, cpu, 1 rounds of 2 batches" in out
    assert "Take workers=0 bs=" in out
    values = tomllib.loads((tmp_path / "load.toml").read_text())
    assert values["bs"] in (4, 8)
    assert values["data.workers"] == 0
    assert values["data.pin"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "no-such"], "no-such: no such task"),
        (["--set", "bs"], "--set bs: write NAME=VALUE"),
        (["--set", "no.such=1"], "no.such=1: no such setting"),
        (["--workers", "two"], "--workers two: write whole numbers"),
        (["--bs", "0"], "--bs 0: 0 is below 1"),
        (["--pin", "--device", "cpu"], "--pin: pinned memory is for copies to a GPU"),
        (["--write", "no/such/file.toml"], "no/such/file.toml: cannot be written"),
        (["--data", "nowhere", "--workers", "0"], "nowhere: no such folder"),
    ],
)
def test_bad_usage_is_one_clear_line(command, arguments, message):
    code, _, err = command("loaders", *arguments)
    assert code == 2
    assert message in err
