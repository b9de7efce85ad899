"""By which code a result was made, wherever the command was called."""

import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

import sslwang
from sslwang import circumstances
from sslwang.circumstances import commit, fingerprint, told

PACKAGE = Path(sslwang.__file__).parent


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A repository with a package in it."""
    folder = tmp_path / "project"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "code.py").write_text("x = 1\n")
    (folder / "notes.md").write_text("nothing\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def test_the_commit_is_that_of_the_code_and_not_of_the_current_folder(checkout, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    head = git(checkout, "rev-parse", "--short=12", "HEAD")
    assert commit(checkout / "package") == head
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.chdir(other)
    assert commit(checkout / "package") == head


def test_a_change_of_the_code_marks_it_and_one_of_something_else_does_not(checkout):
    head = commit(checkout / "package")
    (checkout / "notes.md").write_text("a page that was written\n")
    assert commit(checkout / "package") == head
    (checkout / "package" / "code.py").write_text("x = 2\n")
    assert commit(checkout / "package") == f"{head}-dirty"


def test_what_is_installed_has_none(checkout, tmp_path):
    installed = checkout / ".venv" / "lib" / "package"
    installed.mkdir(parents=True)
    (installed / "code.py").write_text("x = 1\n")
    assert commit(installed) is None
    assert commit(tmp_path) is None
    assert commit(tmp_path / "nowhere") is None


def test_without_git_there_is_none(monkeypatch):
    def run(*args, **kwargs):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", run)
    assert commit() is None


def test_circumstances_leave_out_what_there_is_not(monkeypatch):
    monkeypatch.setattr(circumstances, "commit", lambda: None)
    about = circumstances.circumstances("cpu")
    assert "commit" not in about
    assert about["code"] == fingerprint()
    assert f"code {fingerprint()}, diagnose 0.1.0, torch" in told(about)
    monkeypatch.setattr(circumstances, "commit", lambda: "abc")
    assert "commit abc, code" in told(circumstances.circumstances("cpu"))


def test_the_fingerprint_is_of_the_code_that_scores_depend_on(tmp_path):
    def of(name, end=""):
        folder = tmp_path / name / "sslwang"
        shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        if end:
            with (folder / end).open("a") as file:
                file.write("# another\n")
        return fingerprint(folder)

    assert of("same") == fingerprint()
    for k, name in enumerate(("evaluation/pages.py", "commands/study.py", "tasks/unmix.py")):
        assert of(f"shown {k}", name) == fingerprint(), name
    for k, name in enumerate(("finetune.py", "evaluation/frozen.py", "data/labelled.py", "evaluate.py")):
        assert of(f"counts {k}", name) != fingerprint(), name
    assert fingerprint().startswith(version("learner-diagnose"))


def test_it_is_of_the_code_that_was_loaded(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "sslwang", ignore=shutil.ignore_patterns("__pycache__"))
    first = fingerprint(tmp_path / "sslwang")
    (tmp_path / "sslwang" / "finetune.py").write_text("")
    assert fingerprint(tmp_path / "sslwang") == first
