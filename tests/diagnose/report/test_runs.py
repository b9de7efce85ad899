"""Runs on disk: the history, the run that a name means, and the commands that show and compare them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import jsonschema
import pytest

from diagnose import cli, report
from diagnose.diagnosis import Diagnosis
from diagnose.errors import DiagnoseError
from diagnose.report import runs

OLD, MIDDLE, NEW = "2026-11-22T10-00-00", "2026-11-23T10-00-00", "2026-11-24T10-00-00"


@pytest.fixture
def out(samples, tmp_path, monkeypatch):
    """Two runs of one subject, and one of another in between."""
    monkeypatch.chdir(tmp_path)
    folder = Path("reports")
    report.write(samples.passing(), folder / "unmix" / OLD)
    report.write(samples.failing(), folder / "unmix" / NEW)
    report.write(samples.warning(), folder / "rotate" / MIDDLE)
    return folder


def test_the_history_is_the_newest_first(out):
    found = runs.past(out)
    assert [r.name for r in found] == [f"unmix/{NEW}", f"rotate/{MIDDLE}", f"unmix/{OLD}"]
    new, middle, old = found
    assert (new.verdict, new.cause, new.learned, new.seconds) == ("fail", "lr-too-high", 0.957, 41.2)
    assert (middle.verdict, middle.cause) == ("warn", "init-bias?")
    assert (old.verdict, old.cause, old.subject, old.partial) == ("pass", "", "unmix", False)
    assert new.when == datetime(2026, 11, 24, 10)


def test_two_runs_of_one_second_stand_in_their_order(samples, tmp_path):
    for name in (f"{NEW}.2", NEW, f"{NEW}.10"):
        report.write(samples.passing(), tmp_path / "unmix" / name)
    assert [r.path.name for r in runs.past(tmp_path)] == [f"{NEW}.10", f"{NEW}.2", NEW]


def test_to_find_the_newest_run_no_other_report_is_read(out, monkeypatch):
    read, real = [], Path.read_bytes

    def counted(self):
        read.append(self)
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", counted)
    assert runs.find(out).name == f"unmix/{NEW}"
    assert [p.parent.name for p in read] == [NEW]


BROKEN = {
    "cut off": (b'{"schema": 1, "verdict": "pa', "cut off or no JSON"),
    "empty": (b"", "cut off or no JSON"),
    "binary": (b"\xff\xfe\x00", "cut off or no JSON"),
    "deep": (b"[" * 100_000, "cut off or no JSON"),
    "list": (b"[]", "is no report"),
    "null": (b"null", "is no report"),
    "verdict": (
        b'{"schema": 1, "verdict": "<b>", "subject": {"name": ""}, "summary": "", "seconds": 1}',
        "is no report",
    ),
    "causes": (
        b'{"schema": 1, "verdict": "pass", "subject": {"name": ""}, "summary": "", "seconds": 1, "causes": [7]}',
        "is no report",
    ),
    "newer": (b'{"schema": 2, "verdict": "pass"}', "a report of schema 2, written by another version"),
}


@pytest.mark.parametrize(("content", "trouble"), BROKEN.values(), ids=BROKEN)
def test_a_broken_report_is_shown_as_such_and_is_not_what_is_meant(out, content, trouble):
    broken = out / "unmix" / "2026-11-25T10-00-00"
    broken.mkdir()
    (broken / "report.json").write_bytes(content)
    newest = runs.past(out)[0]
    assert newest.path == broken
    assert trouble in newest.trouble
    assert runs.find(out).name == f"unmix/{NEW}"
    with pytest.raises(DiagnoseError, match=r"2026-11-25T10-00-00: .*report"):
        runs.find(out, "2026-11-25")


def test_what_a_killed_command_left_is_shown_and_other_folders_are_not(out):
    (out / "unmix" / ".0a1b2c.partial").mkdir()
    (out / "unmix" / "2026-11-25T10-00-00").mkdir()
    (out / "unmix" / "notes").mkdir()
    (out / "bench").mkdir()
    (out / "img.png").write_bytes(b"")
    found = {r.path.name: r.trouble for r in runs.past(out) if r.trouble}
    assert found == {
        ".0a1b2c.partial": "left by a command that was killed while it wrote",
        "2026-11-25T10-00-00": "no report.json",
    }


def test_a_report_that_is_a_folder_or_a_dangling_link_is_broken(out):
    (out / "unmix" / "2026-11-25T10-00-00" / "report.json").mkdir(parents=True)
    (out / "unmix" / "2026-11-26T10-00-00").mkdir()
    (out / "unmix" / "2026-11-26T10-00-00" / "report.json").symlink_to("nowhere")
    dangling, folder = runs.past(out)[:2]
    assert "cannot be read" in folder.trouble
    assert dangling.trouble == "no report.json"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        (None, f"unmix/{NEW}"),
        ("unmix", f"unmix/{NEW}"),
        ("unmix/", f"unmix/{NEW}"),
        (f"unmix/{OLD}", f"unmix/{OLD}"),
        (OLD, f"unmix/{OLD}"),
        ("rot", f"rotate/{MIDDLE}"),
        ("unmix/2026-11-22", f"unmix/{OLD}"),
        ("2026-11-23T1", f"rotate/{MIDDLE}"),
        ("2026-11", f"unmix/{NEW}"),
        (f"reports/unmix/{OLD}", f"unmix/{OLD}"),
        (f"./reports/unmix/{OLD}/", f"unmix/{OLD}"),
        (f"reports/unmix/{OLD}/report.html", f"unmix/{OLD}"),
        (f"reports/unmix/{OLD}/report.json", f"unmix/{OLD}"),
        ("reports/unmix", f"unmix/{NEW}"),
        ("reports/rotate/", f"rotate/{MIDDLE}"),
        ("./reports", f"unmix/{NEW}"),
    ],
)
def test_the_run_that_a_name_means(out, name, meant):
    assert runs.find(out, name).name == meant


def test_a_folder_without_runs_is_no_hindrance(out):
    (Path("unmix") / "src").mkdir(parents=True)
    assert runs.find(out, "unmix").name == f"unmix/{NEW}"


def test_a_subject_whose_name_begins_anothers_is_itself(out, samples):
    report.write(samples.passing(), out / "unmix-2" / "2026-11-30T10-00-00")
    assert runs.find(out, "unmix").name == f"unmix/{NEW}"
    assert runs.find(out, "unmix-").name == "unmix-2/2026-11-30T10-00-00"


@pytest.mark.parametrize("name", ["absent", "../..", "/etc", "a\0b", "x" * 5000, "*", "unmix/*", "[u]nmix", "~"])
def test_no_such_run_is_one_line(out, name, tmp_path, monkeypatch):
    project = tmp_path / "home" / "project"  # "../.." holds nothing of other tests
    project.mkdir(parents=True)
    out.rename(project / out)
    monkeypatch.chdir(project)
    with pytest.raises(DiagnoseError, match=r"^no run .* in reports: `diagnose list runs` shows them$"):
        runs.find(out, name)


def test_the_folder_one_stands_in_is_a_run(out, monkeypatch):
    monkeypatch.chdir(out / "unmix" / OLD)
    assert runs.load(runs.find(Path("reports"), ".")).verdict == "pass"


def test_a_report_of_another_shape_is_refused_in_one_line(out):
    path = out / "unmix" / NEW / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"unknown": 1}))
    with pytest.raises(DiagnoseError, match="cannot be read") as caught:
        runs.load(runs.find(out))
    assert "\n" not in str(caught.value)


# ---- the commands ------------------------------------------------------------------------------------------------


def test_list_runs_shows_a_row_each(out, diagnose):
    (out / "unmix" / "2026-11-25T10-00-00").mkdir()
    code, said, _ = diagnose("list", "runs")
    assert code == 0
    head, broken, new, middle, old = said.splitlines()
    assert head.split() == ["when", "subject", "verdict", "cause", "learned", "time", "run"]
    assert "broken" in broken
    assert "no report.json" in broken
    cells = ["2026-11-24", "10:00:00", "unmix", "✗", "fail", "lr-too-high", "0.96", "41.2", "s", f"reports/unmix/{NEW}"]
    assert new.split() == cells
    assert "init-bias?" in middle
    assert old.split()[3:5] == ["✓", "pass"]


def test_list_runs_marks_an_interrupted_one_and_obeys_no_name(out, diagnose, samples):
    report.write(samples.interrupted(), out / "x" / "2026-11-26T10-00-00")
    report.write(samples.hostile(), out / "[bold]y" / "2026-11-27T10-00-00")
    _, said, _ = diagnose("list", "runs")
    assert "interrupted" in said.splitlines()[2]
    assert "[bold]y" in said.splitlines()[1]
    assert not set("\x1b\x07\x9b\u202e") & set(said)


def test_list_runs_of_an_empty_place(diagnose, tmp_path):
    code, _, err = diagnose("list", "runs", "--out", tmp_path / "none")
    assert code == 2
    assert err.count("\n") == 1


def test_compare_prints_what_changed(out, diagnose):
    code, said, _ = diagnose("compare", f"unmix/{OLD}", f"unmix/{NEW}")
    assert code == 0
    rows = [line.split() for line in said.splitlines()]
    assert ["lr", "0.003", "30"] in rows
    assert ["lr-too-high", "–", "proven"] in rows
    assert ["overfit-one-batch", "pass", "fail"] in rows
    assert said.startswith("✓ PASS -> ✗ FAIL  unmix")


@pytest.mark.parametrize(
    ("old", "new", "code"), [(OLD, NEW, 1), (NEW, OLD, 0), (NEW, NEW, 0), (OLD, OLD, 0), (MIDDLE, NEW, 1)]
)
def test_compare_strict_exits_1_where_it_got_worse(out, diagnose, old, new, code):
    assert diagnose("compare", old, new, "--strict")[0] == code
    assert diagnose("compare", old, new)[0] == 0


def test_compare_for_programs_and_for_pull_requests(out, diagnose):
    _, said, _ = diagnose("compare", OLD, NEW, "--format", "json")
    read = json.loads(said)
    assert read["worse"] is True
    assert {"name": "lr", "old": 0.003, "new": 30, "worse": None} in read["settings"]
    _, said, _ = diagnose("compare", OLD, NEW, "--format", "markdown")
    assert "| `lr` | 0.003 | 30 |" in said


def test_compare_of_no_run_is_one_line(out, diagnose):
    code, said, err = diagnose("compare", OLD, "absent")
    assert (code, said) == (2, "")
    assert err == "diagnose: no run absent in reports: `diagnose list runs` shows them\n"


def test_view_opens_the_page_where_there_is_a_display(out, diagnose, monkeypatch):
    opened = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cli.typer, "launch", lambda address: opened.append(address) or 0)
    code, said, _ = diagnose("view", "unmix/2026-11-22")
    assert code == 0
    page = (out / "unmix" / OLD / "report.html").resolve()
    assert said == f"{page}\n"
    assert opened == [page.as_uri()]


@pytest.mark.parametrize("why", ["no display", "asked for", "no browser"])
def test_view_serves_it_where_no_browser_opens(out, diagnose, monkeypatch, why):
    served = []

    def interrupted(folder, ready, port, idle):
        served.append((folder, port, idle))
        ready("http://127.0.0.1:1/secret/report.html")
        raise KeyboardInterrupt

    monkeypatch.setattr("diagnose.report.serve.serve", interrupted)
    monkeypatch.setattr(cli.typer, "launch", lambda address: 3)
    monkeypatch.setattr(cli.sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if why == "no display":
        monkeypatch.delenv("DISPLAY", raising=False)
    else:
        monkeypatch.setenv("DISPLAY", ":0")
    code, said, err = diagnose("view", "--idle", "2m", *(["--serve"] if why == "asked for" else []))
    assert code == 0
    assert served == [(Path("reports/unmix") / NEW, 0, 120.0)]
    assert said.splitlines()[-1] == "http://127.0.0.1:1/secret/report.html"
    assert "Ctrl-C ends it" in err


@pytest.mark.parametrize(("args", "says"), [(["--idle", "soon"], "--idle soon"), (["absent"], "no run absent")])
def test_view_of_nothing_is_one_line(out, diagnose, args, says):
    code, _, err = diagnose("view", *args)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1


def test_view_without_a_page_says_so(out, diagnose):
    (out / "unmix" / NEW / "report.html").unlink()
    code, _, err = diagnose("view")
    assert code == 2
    assert err.endswith("no report.html\n")


@pytest.mark.parametrize("command", ["run", "view", "compare", "list"])
def test_help_has_examples(diagnose, command):
    code, said, _ = diagnose(command, "--help")
    assert code == 0
    assert "Examples:" in said
    assert f"diagnose {command}" in said


def test_every_format_of_run_is_printed_as_it_stands_in_the_folder(out, samples, capsysbinary):
    made = Diagnosis.load(out / "unmix" / NEW)
    for format, name in (
        ("json", report.JSON),
        ("markdown", report.MARKDOWN),
        ("junit", report.JUNIT),
        ("sarif", report.SARIF),
    ):
        cli._print(cli._rendered(made, cli.Format(format)))
        printed = capsysbinary.readouterr()[0]
        assert printed.strip() == (out / "unmix" / NEW / name).read_bytes().strip(), name
    jsonschema.validate(json.loads((out / "unmix" / NEW / report.JSON).read_text("utf-8")), {"required": ["schema"]})
