"""The bench: what it counts, how it runs, what it survives, and the subjects it runs over."""

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from fastai.torch_core import to_device
from learners import HEALTHY as SUPPORT_HEALTHY
from odd_subjects import ODD as SUPPORT_ODD
from rich.console import Console
from scipy.stats import binomtest

from diagnose import bench, cli, registry
from diagnose.bench import HEALTHY, Bench, Case, Row, Told
from diagnose.errors import DiagnoseError, NotApplicable
from diagnose.faults import Fault
from diagnose.subject import Subject

ROOT = Path(__file__).parents[2]
SUBJECTS = ROOT / "tests" / "bench" / "subjects"


def row(fault="lr-too-high", verdict="fail", named=(), cause="lr-too-high", subject="digits", **kwargs):
    causes = [[n, "suspected"] if isinstance(n, str) else list(n) for n in named]
    cause = "" if fault == HEALTHY else cause
    own = {"seconds": 10.0, **kwargs}
    return Row(fault, subject, own.pop("seed", 0), 60.0, "f", cause=cause, verdict=verdict, causes=causes, **own)


# ---- counting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "of"), [(0, 1), (1, 1), (0, 10), (8, 10), (10, 10), (197, 200), (3, 1000)])
def test_the_interval_is_wilsons(count, of):
    found, known = bench.share(count, of), binomtest(count, of).proportion_ci(method="wilson")
    assert (found.share, found.low, found.high) == pytest.approx((count / of, known.low, known.high), abs=1e-6)


def test_the_interval_of_eight_in_ten_is_that_of_the_tables():
    found = bench.share(8, 10)
    assert (found.low, found.high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)


def test_a_share_of_nothing_is_no_number():
    assert math.isnan(bench.share(0, 0).share)
    assert str(bench.share(0, 0)) == "–"


@pytest.mark.parametrize("count", [1, 2, 7, 100])
@pytest.mark.parametrize("q", [0, 50, 95, 100])
def test_percentiles_are_numpys(count, q):
    values = np.random.default_rng(count).random(count)
    assert bench.percentile(values, q) == pytest.approx(np.percentile(values, q))


def test_a_fail_is_detected_whatever_it_names_and_a_warning_only_if_it_names_the_cause_first():
    assert row(named=["params-frozen"]).detected
    assert row(verdict="warn", named=["lr-too-high", "params-frozen"]).detected
    assert not row(verdict="warn", named=["params-frozen", "lr-too-high"]).detected
    assert not row(verdict="pass", named=["lr-too-high"]).detected
    assert not row(verdict="", outcome="crashed").detected


def test_first_within_three_and_proven_are_counted_strictly():
    third = row(named=["a", "b", "lr-too-high"])
    fourth = row(named=["a", "b", "c", "lr-too-high"])
    assert (third.first_right, third.within_three) == (False, True)
    assert (fourth.first_right, fourth.within_three) == (False, False)
    refuted = row(named=[("a", "refuted"), ("lr-too-high", "proven")])
    assert refuted.named == ["lr-too-high"]
    assert refuted.first_right
    assert refuted.proven
    suspected = row(named=["lr-too-high"])
    assert suspected.first_right
    assert not suspected.proven
    behind = row(named=["a", ("lr-too-high", "proven")])
    assert not behind.proven
    passed = row(verdict="pass", named=["lr-too-high"])
    assert not passed.first_right
    assert not passed.within_three


def test_the_same_defect_under_another_id_has_a_column_of_its_own():
    same = row(named=["lr-schedule", "x"], also=["lr-schedule"])
    assert (same.first_right, same.first_same) == (False, True)
    assert (same.within_three, same.same_within_three) == (False, True)
    assert not row(named=["lr-schedule"]).first_same


def test_the_summary_counts_each_part():
    rows = [
        row(named=[("lr-too-high", "proven")], seconds=10.0),
        row(named=["lr-too-low", "lr-too-high"], seed=1, seconds=20.0, held_out=True),
        row(verdict="pass", seed=2, seconds=30.0),
        row(verdict="", outcome="timed out", reason="no verdict after 120 s", seed=3, seconds=math.nan),
        row("nan-in-items", cause="inputs-nonfinite", verdict="", outcome="not applicable", reason="no floats"),
        row(HEALTHY, "pass", seconds=40.0),
        row(HEALTHY, "warn", ["lr-too-low"], seed=1, seconds=50.0, checks={"output-spread": "warn"}),
        row(HEALTHY, "fail", [("lr-too-low", "proven")], subject="byol", odd="why", seconds=60.0),
        row(HEALTHY, "", subject="broken", outcome="crashed", reason="SIGSEGV", seconds=math.nan),
        row(HEALTHY, "", subject="fashion", outcome="unavailable", reason="not installed", seconds=math.nan),
    ]
    summary = bench.summarise(rows)
    n = summary["parts"]["all"]
    assert n["faulty pairs detected"][:2] == (2, 4)
    assert n["of them with verdict fail"][:2] == (2, 4)
    assert n["the exact cause first"][:2] == (1, 4)
    assert n["the exact cause within three"][:2] == (2, 4)
    assert n["proven, of those named first"][:2] == (1, 1)
    assert n["healthy failed"][:2] == (2, 4)
    assert n["healthy warned"][:2] == (1, 4)
    assert n["odd but right, failed"][:2] == (1, 1)
    assert n["odd but right, warned"][:2] == (0, 1)
    assert n["seconds, median"] == 35.0
    assert n["seconds, 95th percentile"] == pytest.approx(np.percentile([10, 20, 30, 40, 50, 60], 95))
    assert summary["parts"]["held out"]["the exact cause first"][:2] == (0, 1)
    assert summary["parts"]["open"]["faulty pairs detected"][:2] == (1, 3)
    assert list(summary["by cause"]) == ["lr-too-high"]
    assert {(c["injected"], c["named first"], c["times"]) for c in summary["confusion"]} == {
        ("lr-too-high", "lr-too-low", 1),
        ("healthy", "lr-too-low", 2),
    }
    assert summary["misfires"] == [
        {"kind": "cause", "id": "lr-too-low", "times": 3},
        {"kind": "check", "id": "output-spread", "times": 1},
    ]
    assert [(m["subject"], m["seed"]) for m in summary["missed"]] == [("digits", 2)]
    assert [w["seed"] for w in summary["named wrongly"]] == [1]
    assert [(f["subject"], f["verdict"]) for f in summary["false"]] == [("byol", "fail"), ("digits", "warn")]
    assert {w["subject"] for w in summary["without a verdict"]} == {"digits", "broken"}
    assert summary["not applicable"] == [{"fault": "nan-in-items", "reason": "no floats", "subjects": ["digits"]}]
    assert summary["unavailable"] == {"fashion": "not installed"}
    json.loads(bench.to_json(summary, {"date": "today"}))


def test_the_page_says_how_it_was_made_and_no_text_breaks_its_tables(tmp_path):
    summary = bench.summarise([row(verdict="pass", summary="a | b\n<script>")])
    told = bench.about("diagnose bench --seeds 0", Bench(tmp_path / "rows.jsonl"))
    page = bench.page(summary, told)
    assert "command: `diagnose bench --seeds 0`" in page
    for name in ("date", "commit", "machine", "device", "versions"):
        assert f"- {name}: " in page
    assert "| faulty pairs detected | 0.0 % (0 of 1; 0.0 to 79.3) |" in page
    assert "a \\| b &lt;script>" in page
    widths = [line.replace("\\|", "").count("|") for line in page.splitlines() if line.startswith("|")]
    assert min(widths) >= 3


# ---- what is run -------------------------------------------------------------------------------------------------


def test_faults_go_into_ordinary_subjects_and_the_order_mixes_them():
    cases = [Case("plain", "plain.py:build"), Case("strange", "strange.py:build", odd="why")]
    faults = [HEALTHY, "a", "b", "c"]
    pairs = bench.pairs_of(cases, faults, [0, 1])
    assert {(p.fault, p.case.name) for p in pairs if p.case.odd} == {(HEALTHY, "strange")}
    assert len(pairs) == 4 * 2 + 2
    assert pairs == bench.pairs_of(cases[::-1], faults[::-1], [1, 0])
    assert [p.case.name for p in pairs] != sorted(p.case.name for p in pairs)
    assert len(bench.pairs_of(cases, faults, [0, 1], into_odd=True)) == 16


def test_of_each_fault_the_first_that_apply_are_taken(tmp_path):
    cases = [Case(f"s{i}", "x.py:build") for i in range(8)]
    pairs = bench.pairs_of(cases, [HEALTHY, "a", "b"], [0])
    runner = Bench(tmp_path / "rows.jsonl", each=2)
    assert runner.state(pairs) == (0, 8 + 2 + 2)
    of_a = [p for p in pairs if p.fault == "a"]
    outcomes = dict(zip(of_a, ["not applicable", "examined", "not applicable", "crashed", "examined"]))
    todo, begun, taken = list(pairs), Counter(), []
    while pair := runner._next(todo, begun):
        todo.remove(pair)
        taken.append(pair)
        found = runner.row(pair, outcome=outcomes.get(pair, "examined"))
        begun[pair.fault] += found.counts
        runner.rows[found.key] = found
    assert [p for p in taken if p.fault == "a"] == of_a[:4]
    assert [p for p in taken if p.fault == "b"] == [p for p in pairs if p.fault == "b"][:2]
    assert sum(p.fault == HEALTHY for p in taken) == 8
    assert runner.state(pairs) == (12, 12)
    for pair in of_a[4:]:
        assert pair not in taken


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1", "defines build"),
        ("def build(:", "cannot be read"),
        ("odd = f()\ndef build(seed): ...", "cannot be read"),
    ],
)
def test_a_file_that_is_no_subject_is_refused(tmp_path, text, told):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(DiagnoseError, match=told):
        bench.catalogue(tmp_path)


def test_what_a_result_is_kept_for(tmp_path):
    (tmp_path / "one.py").write_text('"""One."""\nodd = "why"\nheld_out = True\ndef build(seed): ...\n')
    runner = Bench(tmp_path / "rows.jsonl", 5.0)
    (pair,) = bench.pairs_of(bench.catalogue(tmp_path), [HEALTHY], [3])
    before = runner.row(pair)
    assert (before.subject, before.seed, before.budget, before.odd, before.held_out) == ("one", 3, 5.0, "why", True)
    (tmp_path / "one.py").write_text('"""One."""\ndef build(seed): return 1\n')
    (pair,) = bench.pairs_of(bench.catalogue(tmp_path), [HEALTHY], [3])
    assert runner.row(pair).key != before.key
    assert Bench(tmp_path / "rows.jsonl", 6.0).row(pair).key != runner.row(pair).key
    assert Bench(tmp_path / "rows.jsonl", 5.0, "cuda").row(pair).key != runner.row(pair).key
    runner.digest = "other source"
    assert runner.row(pair).key != before.key


def test_jobs_share_the_threads(tmp_path, monkeypatch):
    def of(jobs):
        return Bench(tmp_path / "rows.jsonl", jobs=jobs).threads

    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert [of(1), of(2), of(3), of(16)] == [8, 4, 2, 1]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert of(1) == bench.cores()


# ---- running -----------------------------------------------------------------------------------------------------

FAKES = {
    "crashes": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
    "exits": "import os, sys\nprint('last words', file=sys.stderr, flush=True)\nos._exit(7)",
    "raises": "raise ZeroDivisionError('in the subject')",
    "missing": "from diagnose.errors import NotApplicable\nraise NotApplicable('not installed')",
    "no_learner": "return 3",
    "tells": "import diagnose.registry\nraise ValueError(diagnose.registry.__file__)",
    "sleeps": """
        import subprocess, time
        from pathlib import Path
        child = subprocess.Popen(['sleep', '300'])
        Path(__file__).with_name('child.pid').write_text(str(child.pid))
        time.sleep(300)
        """,
}


def fakes(folder, *names):
    """A catalogue of subjects that end in other ways than with a Learner; each notes that it was built."""
    folder.mkdir(exist_ok=True)
    for name in names:
        body = textwrap.indent(textwrap.dedent(FAKES[name]).strip(), "    ")
        note = f"    with open({str(folder / 'calls')!r}, 'a') as f: f.write({name!r} + '\\n')\n"
        (folder / f"{name}.py").write_text(f'"""Fake."""\n\n\ndef build(seed):\n{note}{body}\n')
    return bench.catalogue(folder)


def calls(folder):
    return sorted((folder / "calls").read_text().split())


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_crash_exception_and_time_out_are_rows_and_not_the_end(tmp_path):
    runner = Bench(tmp_path / "rows.jsonl", budget=1.0, jobs=3)
    pairs = bench.pairs_of(fakes(tmp_path / "fakes", *(n for n in FAKES if n != "tells")), [HEALTHY], [0])
    runner.run(pairs)
    rows = {r.subject: r for r in runner.done(pairs)}
    assert {name: r.outcome for name, r in rows.items()} == {
        "crashes": "crashed",
        "exits": "crashed",
        "raises": "error",
        "missing": "unavailable",
        "no_learner": "error",
        "sleeps": "timed out",
    }
    assert rows["crashes"].reason.startswith("SIGSEGV while building the subject: File ")
    assert "crashes.py" in rows["crashes"].reason
    assert "exit code 7" in rows["exits"].reason
    assert "last words" in rows["exits"].reason
    assert rows["raises"].reason == "ZeroDivisionError: in the subject (raises.py:6)"
    assert rows["missing"].reason == "not installed"
    assert "not a fastai Learner" in rows["no_learner"].reason
    assert rows["sleeps"].reason == "no verdict after 2 s: building the subject"
    assert not alive(int((tmp_path / "fakes" / "child.pid").read_text())), "what the subject started is ended too"
    n = bench.summarise(rows.values())["parts"]["all"]
    assert n["healthy failed"][:2] == (5, 5), "no verdict counts against us, what is not installed does not count"


def test_what_is_there_is_not_run_again_and_a_line_cut_short_is(tmp_path):
    folder, file = tmp_path / "fakes", tmp_path / "rows.jsonl"
    pairs = bench.pairs_of(fakes(folder, "raises", "missing", "exits"), [HEALTHY], [0])
    Bench(file, 5.0).run(pairs)
    assert calls(folder) == ["exits", "missing", "raises"]
    again = Bench(file, 5.0)
    assert len(again.done(pairs)) == 3
    again.run(pairs)
    assert len(calls(folder)) == 3
    lines = file.read_text().splitlines()
    lost = json.loads(lines[-1])["subject"]
    file.write_text("\n".join([*lines[:-1], lines[-1][:40]]))
    cut = Bench(file, 5.0)
    assert len(cut.done(pairs)) == 2
    cut.run(pairs)
    assert len(calls(folder)) == 4
    assert {r.subject for r in bench.read_rows(file)} == {"raises", "missing", "exits"}
    assert json.loads(file.read_text().splitlines()[-1])["subject"] == lost
    Bench(file, 6.0).run(pairs)
    assert len(calls(folder)) == 7


def test_an_interrupt_keeps_what_is_there_and_leaves_no_worker(tmp_path):
    folder = tmp_path / "fakes"
    started = folder / "child.pid"

    class Interrupts(Told):
        def ended(self, row):
            until = time.monotonic() + 60
            while not (started.exists() and started.read_text()) and time.monotonic() < until:
                time.sleep(0.05)
            raise KeyboardInterrupt

    pairs = sorted(bench.pairs_of(fakes(folder, "sleeps", "raises"), [HEALTHY], [0]), key=lambda p: p.case.name)
    runner = Bench(tmp_path / "rows.jsonl", budget=100.0, jobs=2)
    before = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS")
    with pytest.raises(KeyboardInterrupt):
        runner.run(pairs, Interrupts())
    assert [r.subject for r in bench.read_rows(tmp_path / "rows.jsonl")] == ["raises"]
    assert not alive(int(started.read_text()))
    assert (os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS")) == before


def test_ctrl_c_on_the_command_exits_130_with_a_summary(tmp_path):
    folder = tmp_path / "fakes"
    fakes(folder, "sleeps")
    command = [sys.executable, "-m", "diagnose", "bench", "--catalogue", folder, "--faults", HEALTHY, "--jobs", "1"]
    process = subprocess.Popen(
        [*map(str, command), "--budget", "200s", "--out", str(tmp_path / "out")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )
    until = time.monotonic() + 120
    while not (folder / "child.pid").exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.1)
    while not (folder / "child.pid").read_text():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command goes on" in err
    assert not alive(int((folder / "child.pid").read_text()))
    assert (tmp_path / "out" / "results.json").exists()


# ---- the command -------------------------------------------------------------------------------------------------


def test_help_answers_without_torch():
    code = "import sys, diagnose.cli, diagnose.bench; sys.exit('torch' in sys.modules or 'fastai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_names_every_option(diagnose):
    code, out, _ = diagnose("bench", "--help")
    assert code == 0
    names = ("faults", "subjects", "learner", "seeds", "budget", "jobs", "out", "resume", "smoke", "min-recall", "page")
    assert not [n for n in names if f"--{n}" not in out]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--faults", "lr-to-high"), "lr-too-high"),
        (("--subjects", "digit"), "there is"),
        (("--seeds", "one"), "--seeds one"),
        (("--budget", "soon"), "--budget soon"),
        (("--smoke", "--subjects", "digits"), "--smoke is a fixed part"),
        (("--learner", "nothing.py:build"), "no file nothing.py"),
        (("--catalogue", "nowhere"), "no such folder"),
    ],
)
def test_a_wrong_option_is_told_and_exits_2(diagnose, args, told):
    where = () if "--learner" in args or "--catalogue" in args else ("--catalogue", SUBJECTS)
    code, _, err = diagnose("bench", *where, *args)
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1


def test_a_bound_that_is_missed_exits_1(diagnose, tmp_path):
    folder = tmp_path / "fakes"
    fakes(folder, "raises")
    args = ("bench", "--catalogue", folder, "--faults", HEALTHY, "--seeds", "0", "--jobs", "1", "--format", "json")
    code, out, _ = diagnose(*args)
    assert code == 0
    assert json.loads(out)["parts"]["all"]["healthy failed"]["share"] == 1.0
    code, _, err = diagnose(*args, "--max-false", "0.5", "--page", "page.md")
    assert code == 1
    assert "failed wrongly 100.0 % (1 of 1" in err
    assert "command: `diagnose bench --catalogue" in (tmp_path / "page.md").read_text()
    code, _, err = diagnose(*args, "--min-recall", "0.5")
    assert code == 1, "no faulty pair was run: that is not a recall of one half"
    assert calls(folder) == ["raises"]
    diagnose(*args, "--fresh")
    assert calls(folder) == ["raises", "raises"]


def test_on_a_learner_of_ones_own_it_says_what_is_caught_and_what_does_not_apply(diagnose, tmp_path):
    (tmp_path / "mine.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'tests' / 'support')!r})\nfrom learners import diabetes\n\n\n"
        "def build():\n    return diabetes()\n"
    )
    args = ("--faults", f"{HEALTHY},weights-frozen,scores-into-nll", "--seeds", "0", "--jobs", "1", "--budget", "none")
    code, out, err = diagnose("bench", "--learner", "mine.py:build", *args, "--min-recall", "1", "--max-false", "0")
    assert code == 0, (out, err)
    assert "On mine.py:build the gate would catch 1 of the 1 faults that apply to it." in out
    assert "scores-into-nll" in out
    rows = {r.fault: r for r in bench.read_rows(tmp_path / "reports" / "bench" / "rows.jsonl")}
    assert rows[HEALTHY].outcome == "examined"
    assert rows[HEALTHY].verdict != "fail"
    assert (rows["weights-frozen"].verdict, rows["weights-frozen"].named[0]) == ("fail", "params-frozen")
    assert rows["weights-frozen"].proven
    assert rows["weights-frozen"].seconds > 0
    assert rows["scores-into-nll"].outcome == "not applicable"
    assert rows["scores-into-nll"].reason in out


def test_a_learner_of_ones_own_that_is_ill_itself_and_what_is_missed_stand_first(capsys):
    rows = [row(HEALTHY, "fail", summary="It cannot learn."), row(verdict="pass"), row(named=["lr-too-high"], seed=1)]
    cli._print_own(Console(width=160), "mine.py:build", rows)
    out = capsys.readouterr().out
    assert "mine.py:build fails as it is" in out
    assert "It cannot learn." in out
    assert "would catch 0 of the 1 faults" in out
    assert "would miss, under one seed at least: lr-too-high" in out


def test_workers_import_the_package_as_it_was_when_the_bench_began(tmp_path):
    pairs = bench.pairs_of(fakes(tmp_path / "fakes", "tells"), [HEALTHY], [0])
    runner, path = Bench(tmp_path / "rows.jsonl", budget=30.0), list(sys.path)
    runner.run(pairs)
    (found,) = runner.done(pairs)
    assert str(bench.snapshot() / "diagnose" / "registry.py") in found.reason
    assert bench.snapshot() != Path(registry.__file__).parents[1]
    assert sys.path == path
    assert runner.digest == bench.package_digest()


def test_where_there_is_no_fork_workers_start_afresh(tmp_path, monkeypatch):
    monkeypatch.setattr(bench.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    pairs = bench.pairs_of(fakes(tmp_path / "fakes", "raises"), [HEALTHY], [0])
    runner = Bench(tmp_path / "rows.jsonl", budget=30.0)
    runner.run(pairs)
    (found,) = runner.done(pairs)
    assert (found.outcome, found.reason) == ("error", "ZeroDivisionError: in the subject (raises.py:6)")


# ---- the subjects ------------------------------------------------------------------------------------------------

CASES = bench.catalogue(SUBJECTS)
NAMES = [c.name for c in CASES]


@pytest.fixture
def built(monkeypatch):
    """Builds a subject of the catalogue."""
    monkeypatch.syspath_prepend(str(SUBJECTS))

    def build(name, seed=0):
        spec = importlib.util.spec_from_file_location(f"bench_subject_{name}", SUBJECTS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        try:
            made = module.build(seed)
        except NotApplicable as e:
            pytest.skip(str(e))
        return made.learner if isinstance(made, Subject) else made

    return build


@pytest.mark.parametrize("name", NAMES)
def test_subject_builds_and_gives_one_finite_loss(built, name):
    learn = built(name)
    batch = next(iter(learn.dls.train))
    learn._split(to_device(batch, next(learn.model.parameters()).device))
    with torch.no_grad():
        loss = learn.loss_func(learn.model.train()(*learn.xb), *learn.yb)
    assert torch.isfinite(loss).all()
    assert any(p.requires_grad for p in learn.model.parameters())


def test_the_seed_decides_the_weights(built):
    one, same, other = (next(built("group_norm", s).model.parameters()) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_there_are_subjects_of_every_kind():
    assert sum(not c.odd for c in CASES) >= 12
    assert sum(bool(c.odd) for c in CASES) >= 20
    assert all(c.doc for c in CASES)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_nobody_chose_what_is_held_out(case):
    text = (SUBJECTS / f"{case.name}.py").read_text()
    known = {*SUPPORT_HEALTHY, *SUPPORT_ODD}
    reused = any(f"return {prefix}{n}(seed)\n" in text for n in known for prefix in ("", "learners.", "odd_subjects."))
    measured = 'from_task("unmix", {"target"' in text  # by tests/bench/thresholds.py
    assert case.held_out == (registry.held_out(case.name) and not (reused or measured))


def test_a_third_of_the_faults_is_held_out():
    faults = registry.load_all("diagnose.faults", Fault)
    out = [f.held_out for f in faults.values()]
    assert 0.15 < sum(out) / len(out) < 0.5
    assert [f.held_out for f in faults.values()] == [registry.held_out(id) for id in faults]


def test_the_smoke_part_has_twelve_causes_and_six_healthy_subjects():
    faults = registry.load_all("diagnose.faults", Fault)
    pairs = bench.pairs_of(CASES, [HEALTHY, *faults], [0], smoke=True)
    named = {f for c in CASES for f in c.smoke}
    assert named <= {HEALTHY, *faults}
    causes = {faults[p.fault].cause for p in pairs if p.fault != HEALTHY}
    assert len(causes) >= 12
    assert sum(p.fault == HEALTHY for p in pairs) == 6
