"""The command as a user meets it: what it prints, writes and exits with."""

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jsonschema
import pytest

from diagnose import cli
from diagnose.diagnosis import Diagnosis, json_schema

HERE = Path(__file__).parent
SUPPORT = HERE.parent / "support"
SCHEMA = Path(cli.__file__).with_name("report.schema.json")


@pytest.fixture
def project(tmp_path):
    """A user's project with builders of all kinds."""
    (tmp_path / "train.py").write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {str(SUPPORT)!r})
            from learners import digits

            def build():
                return digits()

            def too_high():
                return digits(lr=30.0)

            def nothing():
                return None

            def raises():
                return broken_helper()

            def broken_helper():
                raise ZeroDivisionError("in the user's code")

            def frozen():
                learn = digits()
                learn.model.requires_grad_(False)
                return learn

            def few_items():
                return digits(bs=5000)

            def with_arguments(lr):
                return digits(lr=lr)

            def forward_raises():
                learn = digits()
                learn.model[3] = learn.model[0]
                return learn
            """
        )
    )
    return tmp_path


QUICK = ("--only", "initialisation,overfit-one-batch")


def test_a_learner_of_ones_own_passes(diagnose, project):
    code, out, _ = diagnose("run", "--learner", "train.py:build", "--budget", "none")
    assert code == 0
    assert "PASS" in out
    folders = list((project / "reports" / "train-build").iterdir())
    assert len(folders) == 1
    reports = {"report.json", "report.html", "report.md", "report.sarif", "junit.xml", "pass.json"}
    assert {p.name for p in folders[0].iterdir()} == {*reports, "samples", "gauges"}
    report = json.loads((folders[0] / "report.json").read_text())
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    assert report["verdict"] == "pass"
    assert report["subject"]["source"] == "train.py:build"
    again = Diagnosis.load(folders[0])
    assert again.files
    assert again.verdict == "pass"


def test_a_fault_exits_1_and_names_the_cause(diagnose, project):
    code, out, _ = diagnose("run", "--learner", "train.py:too_high", "--budget", "none")
    assert code == 1
    assert "lr-too-high" in out
    page = next((project / "reports").glob("*/*/report.html")).read_text()
    assert "lr-too-high" in page


def test_json_on_standard_output_is_the_report_and_nothing_else(diagnose, project):
    code, out, _ = diagnose("run", "--learner", "train.py:build", *QUICK, "--format", "json")
    assert code == 0
    assert Diagnosis.from_json(out).check("initialisation").status == "pass"


@pytest.mark.parametrize(("format", "begins"), [("markdown", "## "), ("junit", "<?xml"), ("sarif", "{")])
def test_any_format_on_standard_output_is_the_file_of_the_run_folder(diagnose, project, format, begins):
    code, out, _ = diagnose("run", "--learner", "train.py:build", *QUICK, "--format", format)
    assert code == 0
    assert out.startswith(begins)
    name = {"markdown": "report.md", "junit": "junit.xml", "sarif": "report.sarif"}[format]
    assert out == next(project.glob(f"reports/*/*/{name}")).read_text("utf-8")
    if format == "sarif":
        place = '"uri": "train.py"'
        assert (place in out) == bool(json.loads(out)["runs"][0]["results"])


def test_strict_makes_a_warning_an_error(diagnose, project):
    quick = ("run", "--learner", "train.py:build", "--only", "initialisation")
    assert diagnose(*quick)[0] == 0
    assert diagnose(*quick, "--strict")[0] == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["run"], "name one subject"),
        (["run", "--task", "unmix", "--learner", "a.py:b"], "name one subject"),
        (["run", "--task", "umnix"], "--task umnix: no such task; did you mean unmix? known: "),
        (["run", "--task", "unmix", "--set", "lrr=1"], "did you mean lr?"),
        (["run", "--task", "unmix", "--set", "lr"], "NAME=VALUE"),
        (["run", "--task", "unmix", "--set", "lr=fast"], "--set lr=fast: Input should be a valid number"),
        (["run", "--task", "unmix", "--set", "n=2"], "degenerate"),
        (["run", "--task", "unmix", "--set", "items=10"], "fewer than one batch"),
        (["run", "--task", "unmix", "--set", "data.source=no_such_folder"], "no_such_folder"),
        (["run", "--task", "unmix", "--budget", "soon"], "60s, 5m, 1h or none"),
        (["run", "--task", "unmix", "--only", "overfit"], "no check overfit"),
        (["run", "--task", "unmix", "--device", "cuda:7"], "--device cuda:7: not available"),
        (["run", "--learner", "train.py"], "path/file.py:function"),
        (["run", "--learner", "absent.py:build"], "no file absent.py"),
        (["run", "--learner", "no.such.module:build"], "no module no.such.module"),
        (["run", "--learner", "train.py:absent"], "has no function absent; it defines build"),
        (["run", "--learner", "train.py:nothing"], "gave a NoneType, not a fastai Learner"),
        (["run", "--learner", "train.py:frozen"], "no trainable parameter"),
        (["run", "--learner", "train.py:few_items"], "1497 items are fewer than one batch of 5000"),
        (["run", "--learner", "train.py:with_arguments"], "needs arguments (lr)"),
        (["run", "--learner", "train.py:build", "--out", "train.py"], "is a file, not a folder"),
        (["explain", "lr-too-hi"], "did you mean lr-too-high"),
        (["view"], "no run in reports"),
        (["list", "runs"], "no runs in reports"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(diagnose, project, args, says):
    code, out, err = diagnose(*args)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert not (project / "reports").exists()


def test_an_empty_folder_of_images_is_named(diagnose, project):
    (project / "empty").mkdir()
    code, _, err = diagnose("run", "--task", "unmix", "--set", "data.source=empty")
    assert code == 2
    assert "empty" in err


@pytest.mark.parametrize(("function", "error"), [("raises", "ZeroDivisionError"), ("forward_raises", "RuntimeError")])
def test_an_error_of_the_users_own_is_shown_with_its_traceback_and_exits_3(diagnose, project, function, error):
    code, _, err = diagnose("run", "--learner", f"train.py:{function}")
    assert code == 3
    assert "Traceback" in err
    assert error in err
    assert "the subject's own code raised while" in err
    if function == "raises":
        assert "broken_helper" in err
        assert "diagnose/subject.py" not in err
        assert not (project / "reports").exists()
    else:  # a check explains it: the report is written beside the traceback
        report = json.loads(next(project.glob("reports/*/*/report.json")).read_text())
        assert report["verdict"] == "fail"
        assert {"shape-trace"} <= {c["id"] for c in report["checks"] if c["status"] == "fail"}


def test_a_file_with_a_syntax_error_is_the_users_own(diagnose, project):
    (project / "bad.py").write_text("def build(:\n")
    code, _, err = diagnose("run", "--learner", "bad.py:build")
    assert code == 3
    assert "SyntaxError" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_refused_before_any_work(diagnose, project):
    (project / "locked").mkdir(mode=0o500)
    code, _, err = diagnose("run", "--learner", "train.py:build", "--out", "locked/runs")
    assert code == 2
    assert "cannot write" in err


def test_a_report_that_cannot_be_written_leaves_nothing_half_written(diagnose, project, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, err = diagnose("run", "--learner", "train.py:build", *QUICK)
    assert code == 2
    assert "No space left" in err
    assert not list(project.glob("reports/*/*"))


def test_interrupting_keeps_the_partial_report_and_exits_130(diagnose, project, monkeypatch):
    from diagnose.checks.overfit_one_batch import OverfitOneBatch

    def interrupt(self, lab):
        raise KeyboardInterrupt

    monkeypatch.setattr(OverfitOneBatch, "measure", interrupt)
    code, _, _ = diagnose("run", "--learner", "train.py:build")
    assert code == 130
    report = json.loads(next(project.glob("reports/*/*/report.json")).read_text())
    assert report["partial"] is True
    assert report["checks"]


def test_a_budget_that_is_too_short_is_kept_and_what_was_left_out_is_listed(diagnose, project):
    began = time.monotonic()
    code, out, _ = diagnose("run", "--learner", "train.py:build", "--budget", "0.01s", "--format", "json")
    assert code == 0
    report = Diagnosis.from_json(out)
    assert report.verdict == "warn"
    assert any("budget" in u.reason for u in report.unchecked)
    assert time.monotonic() - began < 60


def test_runs_are_listed_explained_and_viewed(diagnose, project, monkeypatch):
    diagnose("run", "--learner", "train.py:build", *QUICK)
    code, out, _ = diagnose("list", "runs")
    assert code == 0
    assert "train-build/" in out
    opened = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cli.typer, "launch", lambda address: opened.append(address) or 0)
    code, out, _ = diagnose("view", out.split()[-1])
    assert code == 0
    assert opened[0].startswith("file:///")
    assert Path(out.strip()).is_file()


@pytest.mark.parametrize("what", ["tasks", "checks", "causes", "gauges", "alarms", "faults"])
def test_lists(diagnose, what):
    code, out, _ = diagnose("list", what)
    assert code == 0
    shown = {"tasks": "unmix", "checks": "row-independence", "causes": "batch-mixing", "faults": "wrong-view"}
    shown |= {"gauges": "gradient-norm", "alarms": "nothing-moves"}
    assert shown[what] in out


@pytest.mark.parametrize(
    "id", ["unmix", "lr-too-high", "overfit-one-batch", "wrong-view", "gradient-norm", "layer-died"]
)
def test_explain(diagnose, id):
    code, out, _ = diagnose("explain", id)
    assert code == 0
    assert id in out
    assert len(out.splitlines()) > 2


def test_explain_shows_everything_of_that_name(diagnose):
    code, out, _ = diagnose("explain", "activations")
    assert code == 0
    assert "activations (check)" in out
    assert "activations (gauge)" in out
    assert "What is recorded" in out


def test_listing_imports_no_torch():
    program = (
        "import sys; sys.argv = ['diagnose', 'list', 'checks']\n"
        "from diagnose import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'fastai', 'numpy', 'pandas'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True)


def test_help_has_examples(diagnose):
    code, out, err = diagnose("run", "--help")
    assert code == 0
    assert "diagnose run --task unmix" in out + err
    assert "Exit codes" in out + err


def test_the_exported_schema_is_the_one_of_the_models():
    assert json.loads(SCHEMA.read_text()) == json_schema()


def test_python_dash_m():
    done = subprocess.run(
        [sys.executable, "-m", "diagnose", "list", "tasks"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "unmix" in done.stdout
