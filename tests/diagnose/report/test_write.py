"""The run folder appears whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from diagnose import report
from diagnose.diagnosis import Diagnosis, json_schema
from diagnose.errors import DiagnoseError
from diagnose.report import junit, markdown, sarif


def everything(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_everything_is_there_and_reads_back(made, tmp_path):
    folder = tmp_path / "reports" / "unmix" / "now"
    report.write(made, folder)
    jsonschema.validate(json.loads((folder / "report.json").read_text("utf-8")), json_schema())
    back = Diagnosis.load(folder)
    assert back.to_json() == made.to_json()
    assert set(back.files) <= set(made.files)
    for name, data in made.files.items():
        assert (folder / name).read_bytes() == data
    assert everything(folder.parent)[0] == "now"
    for name, writer in ((report.MARKDOWN, markdown), (report.JUNIT, junit), (report.SARIF, sarif)):
        assert (folder / name).read_text("utf-8") == writer.render(made)
    if set(back.files) == set(made.files):
        assert (folder / "report.html").read_text("utf-8") == report.html.render(back)


def test_permissions_are_the_ordinary_ones(samples, tmp_path):
    report.write(samples.empty(), tmp_path / "run")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "run").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    "name",
    [
        "../x.png",
        "/etc/x.png",
        "a/../../x.png",
        "a\\..\\x.png",
        "C:x.png",
        "C:/x",
        "",
        ".",
        "a//b",
        "a/",
        "x\0",
        "report.json",
        "junit.xml",
    ],
)
def test_files_that_leave_the_folder_are_refused(samples, tmp_path, name):
    made = samples.passing()
    made.files[name] = b"x"
    with pytest.raises(DiagnoseError, match="may not be written"):
        report.write(made, tmp_path / "deep" / "run")
    assert everything(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError(28, "No space left on device"), MemoryError])
@pytest.mark.parametrize("after", [0, 1, 5])
def test_an_exception_leaves_nothing(samples, tmp_path, monkeypatch, error, after):
    written, real = [], Path.write_bytes

    def fail_late(self, data):
        if len(written) == after:
            raise error
        written.append(self)
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", fail_late)
    expected = DiagnoseError if isinstance(error, OSError) else error
    with pytest.raises(expected):
        report.write(samples.passing(), tmp_path / "new" / "deep" / "run")
    assert len(written) == after
    assert everything(tmp_path) == []


def test_an_exception_at_the_last_moment_leaves_nothing(samples, tmp_path, monkeypatch):
    def interrupted(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    (tmp_path / "kept").mkdir()
    with pytest.raises(KeyboardInterrupt):
        report.write(samples.passing(), tmp_path / "kept" / "run")
    assert everything(tmp_path) == ["kept"]


def test_an_existing_run_is_not_touched(samples, tmp_path):
    report.write(samples.passing(), tmp_path / "run")
    before = everything(tmp_path)
    with pytest.raises(DiagnoseError, match="exists already"):
        report.write(samples.failing(), tmp_path / "run")
    assert everything(tmp_path) == before
    assert Diagnosis.load(tmp_path / "run").verdict == "pass"


def test_an_unwritable_place_is_one_line(samples, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiagnoseError, match=r"^cannot write the run folder .*file/run") as caught:
        report.write(samples.passing(), tmp_path / "file" / "run")
    assert "\n" not in str(caught.value)
    assert everything(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_refused(samples, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DiagnoseError, match="Permission denied"):
        report.write(samples.passing(), tmp_path / "run")
    tmp_path.chmod(0o700)


def test_the_package_is_light_to_import():
    code = (
        "import sys, diagnose.report; print([m for m in ('jinja2', 'rich', 'pydantic', 'torch') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
        == "[]\n"
    )


def test_the_page_compares_with_the_newest_earlier_run_of_the_same_subject(samples, tmp_path):
    report.write(samples.failing(), tmp_path / "unmix" / "2026-01-01T00-00-00")
    assert 'id="before"' not in (tmp_path / "unmix" / "2026-01-01T00-00-00" / "report.html").read_text()
    other = samples.passing().model_copy(update={"subject": samples.subject(name="other")})
    report.write(other, tmp_path / "unmix" / "2026-01-02T00-00-00")
    (tmp_path / "unmix" / "2026-01-03T00-00-00").mkdir()
    (tmp_path / "unmix" / "2026-01-03T00-00-00" / "report.json").write_text("{broken")
    report.write(samples.passing(), tmp_path / "unmix" / "2026-01-04T00-00-00")
    page = (tmp_path / "unmix" / "2026-01-04T00-00-00" / "report.html").read_text()
    assert "The verdict was fail and is pass" in page
    assert ">lr-too-high</bdi>" in page[page.index('id="before"') : page.index('id="checks"')]


def test_the_newest_of_one_second_is_compared_and_not_what_a_killed_command_left(samples, tmp_path):
    subject = tmp_path / "unmix"
    report.write(samples.failing(), subject / ".0123456789abcdef.partial")
    report.write(samples.passing(), subject / "2026-01-01T00-00-00")
    assert 'id="before"' not in (subject / "2026-01-01T00-00-00" / "report.html").read_text()
    report.write(samples.passing(), subject / "2026-01-02T00-00-00.2")
    report.write(samples.failing(), subject / "2026-01-02T00-00-00.10")
    report.write(samples.passing(), subject / "2026-01-03T00-00-00")
    assert "The verdict was fail and is pass" in (subject / "2026-01-03T00-00-00" / "report.html").read_text()


def test_an_earlier_report_that_is_no_utf8_is_passed_over(samples, tmp_path):
    subject = tmp_path / "unmix"
    report.write(samples.failing(), subject / "2026-01-01T00-00-00")
    report.write(samples.passing(), subject / "2026-01-02T00-00-00")
    file = subject / "2026-01-02T00-00-00" / "report.json"
    file.write_bytes(file.read_text("utf-8").encode("utf-16"))
    report.write(samples.passing(), subject / "2026-01-03T00-00-00")
    assert "The verdict was fail and is pass" in (subject / "2026-01-03T00-00-00" / "report.html").read_text()
