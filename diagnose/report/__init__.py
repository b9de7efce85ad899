"""Report writers: each reads a Diagnosis and computes nothing beyond layout.

`write` makes the run folder; every writer is a module of its own with a function `render`.

    report.json     all there is; the schema stands beside the code
    report.html     for people
    report.md       for pull requests, at most what a GitHub comment holds
    junit.xml       for CI servers
    report.sarif    for code scanning and editors
"""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from diagnose.errors import DiagnoseError

if TYPE_CHECKING:
    from diagnose.diagnosis import Diagnosis

JSON, HTML, MARKDOWN, JUNIT, SARIF = "report.json", "report.html", "report.md", "junit.xml", "report.sarif"
TIME = "%Y-%m-%dT%H-%M-%S"  # what a run folder is called by
PNG = b"\x89PNG\r\n\x1a\n"  # how every such file begins; a header of 25 bytes follows


def write(diagnosis: Diagnosis, folder: Path) -> None:
    """Make the run folder: the diagnosis in every format, and the files that belong to it.

    The folder appears whole or not at all: everything is written into a temporary sibling, which is then renamed.

    Raises:
        DiagnoseError: the folder exists already, cannot be written, or a file of the diagnosis would leave it.
    """
    from diagnose.report import html, junit, markdown, sarif

    folder = Path(os.path.abspath(folder))
    texts = {
        JSON: diagnosis.to_json(),
        HTML: html.render(diagnosis, previous=_previous(diagnosis, folder)),
        MARKDOWN: markdown.render(diagnosis),
        JUNIT: junit.render(diagnosis),
        SARIF: sarif.render(diagnosis),
    }
    content = {name: text.encode() for name, text in texts.items()}
    for name, data in diagnosis.files.items():
        if not _stays_inside(name) or name in content:
            raise DiagnoseError(f"the diagnosis names a file that may not be written into its run folder: {name!r}")
        content[name] = data
    missing = [p for p in folder.parents if not p.exists()]
    sibling = folder.parent / f".{secrets.token_hex(8)}.partial"
    try:
        if (folder.is_dir() and any(folder.iterdir())) or (folder.exists() and not folder.is_dir()):
            raise FileExistsError(f"{folder} exists already")
        sibling.mkdir(parents=True)
        for name, data in content.items():
            target = sibling / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        sibling.rename(folder)
    except BaseException as error:
        shutil.rmtree(sibling, ignore_errors=True)
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError):
            raise DiagnoseError(f"cannot write the run folder {folder}: {error.strerror or error}") from error
        raise


def write_run(diagnosis: Diagnosis, out: Path) -> Path:
    """Write a run folder of its own, `out`/subject/time, whole or not at all.

    Raises:
        DiagnoseError: it cannot be written.
    """
    from diagnose.diagnosis import folder_name

    name = folder_name(diagnosis.subject.name)
    stamp = datetime.now().strftime(TIME)
    folder = out / name / stamp
    count = 1
    while folder.exists():
        count += 1
        folder = out / name / f"{stamp}.{count}"
    try:
        write(diagnosis, folder)
    except OSError as e:
        raise DiagnoseError(f"--out {out}: cannot write the report ({e.strerror or e}); choose another folder") from e
    return folder


def _previous(diagnosis: Diagnosis, folder: Path) -> Diagnosis | None:
    """The newest earlier run of the same subject: its folder stands beside this one."""
    from diagnose.report import runs

    for run in runs.within(folder.parent):
        if not run.trouble and run.subject == diagnosis.subject.name:
            with suppress(DiagnoseError):
                return runs.load(run, type(diagnosis))
    return None


def _stays_inside(name: str) -> bool:
    """Whether a relative path with forward slashes names a file below its folder, on every system."""
    parts = name.split("/")
    plain = not any(c in name for c in "\\\0") and not PureWindowsPath(name).drive
    return plain and all(p not in ("", ".", "..") for p in parts)
