"""Run folders on disk: which there are, the newest first, and the one that a name means.

A run folder is `out`/subject/time. Reports of other versions, reports that were cut off and folders that a killed
command left are shown as what they are; reading them never raises.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnose.errors import DiagnoseError
from diagnose.report import HTML, JSON, TIME

if TYPE_CHECKING:
    from diagnose.diagnosis import Diagnosis

STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)(?:\.(\d+))?")
BASELINE = "overfit-one-batch"  # the check whose `learned` a history shows
VERDICTS = ("pass", "warn", "fail")


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        path: the folder. name: as it is asked for, subject/time.
        when: the time it was written, local.
        subject, verdict, summary, cause, learned, seconds, partial: of its report; `cause` is the first proven one,
            else the first suspected one with a "?"; `learned` is what was learned of one batch, of 1.
        trouble: why there is no report to read; then the fields above are empty.
    """

    path: Path
    when: datetime
    subject: str = ""
    verdict: str = ""
    summary: str = ""
    cause: str = ""
    learned: float | None = None
    seconds: float | None = None
    partial: bool = False
    trouble: str = ""

    @property
    def name(self) -> str:
        return _name(self.path)


def past(out: Path) -> list[Run]:
    """Every run folder in `out`, the newest first; none if there is no such folder."""
    return [_read(folder) for folder in _every(out)]


def within(subject: Path) -> Iterator[Run]:
    """The runs of one folder of a subject, the newest first; each report is read when it is asked for."""
    return map(_read, _of(subject))


def finished(place: Path) -> list[Path]:
    """The run folder that a path is, else those in it (of one subject, or of several), newest first, without what
    killed commands left."""
    return [folder for folder in _meant(place) if folder.suffix != ".partial"]


def _meant(place: Path) -> list[Path]:
    folder = _folder(place)
    return [folder] if folder else _of(place) or _every(place)


def _every(out: Path) -> list[Path]:
    return _newest_first(folder for subject in _folders(out) for folder in _of(subject))


def _of(subject: Path) -> list[Path]:
    return _newest_first(folder for folder in _folders(subject) if _is_run(folder))


def _newest_first(folders: Iterable[Path]) -> list[Path]:
    return sorted(folders, key=lambda f: (_when(f), _count(f), _name(f)), reverse=True)


def _name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def find(out: Path, name: str | None = None) -> Run:
    """The run that a name means: the newest that can be read.

    Args:
        name: None for any; a path of a run folder, of a file in it or of a folder of runs; else subject/time, the time
            or the subject, or the beginning of one of these.

    Raises:
        DiagnoseError: there is none, or none of them has a report that can be read.
    """
    folders = _meant(Path(name)) if name else []
    if not folders:
        folders = _every(out)
        if name:
            wanted = name.strip("/")
            exact = [f for f in folders if wanted in (_name(f), f.name, f.parent.name)]
            folders = exact or [f for f in folders if _name(f).startswith(wanted) or f.name.startswith(wanted)]
    newest: Run | None = None
    for folder in folders:
        run = _read(folder)
        if not run.trouble:
            return run
        newest = newest or run
    if newest is not None:
        raise DiagnoseError(f"{newest.path}: {newest.trouble}")
    raise DiagnoseError(f"no run {name or ''} in {out}: `diagnose list runs` shows them".replace("  ", " "))


def load(run: Run, kind: type[Diagnosis] | None = None) -> Diagnosis:
    """The diagnosis of a run, with the pictures it names; as a `kind` of Diagnosis, if given.

    Raises:
        DiagnoseError: its report has not the shape that this version reads.
    """
    from diagnose.diagnosis import Diagnosis

    try:
        return (kind or Diagnosis).load(run.path)
    except (OSError, ValueError) as e:  # also what pydantic raises, and what is no UTF-8
        raise DiagnoseError(f"{run.path / JSON} cannot be read: {str(e).splitlines()[0]}") from e


def _folder(path: Path) -> Path | None:
    """The run folder that a path is or lies in."""
    try:
        if path.is_file() and path.name in (HTML, JSON):
            return path.parent
        return path if path.is_dir() and ((path / JSON).exists() or (path / HTML).exists()) else None
    except (OSError, ValueError):  # e.g. a name too long for a file, or with a NUL
        return None


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir()]
    except (OSError, ValueError):  # e.g. with a NUL
        return []


def _is_run(folder: Path) -> bool:
    try:
        return bool(STAMP.fullmatch(folder.name)) or folder.suffix == ".partial" or (folder / JSON).exists()
    except OSError:
        return False


def _read(folder: Path) -> Run:
    folder = Path(os.path.abspath(folder)) if folder.name in ("", "..") else folder
    when = _when(folder)
    if folder.suffix == ".partial":
        return Run(folder, when, trouble="left by a command that was killed while it wrote")
    try:
        data = json.loads((folder / JSON).read_bytes())
    except FileNotFoundError:
        return Run(folder, when, trouble=f"no {JSON}")
    except OSError as e:
        return Run(folder, when, trouble=f"{JSON} cannot be read: {e.strerror or e}")
    except (ValueError, RecursionError):
        return Run(folder, when, trouble=f"{JSON} is cut off or no JSON")
    try:
        return _told(folder, when, data)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return Run(folder, when, trouble=f"{JSON} is no report")


def _told(folder: Path, when: datetime, data: dict[str, Any]) -> Run:
    if data["schema"] != 1:
        return Run(folder, when, trouble=f"a report of schema {str(data['schema'])[:20]}, written by another version")
    if data["verdict"] not in VERDICTS:
        raise ValueError(data["verdict"])
    causes = data.get("causes", [])
    cause = next((c["id"] for c in causes if c["proven"]), None) or next(
        (f"{c['id']}?" for c in causes if not c.get("refuted")), ""
    )
    baseline = next((c for c in data.get("checks", []) if c["id"] == BASELINE), {"evidence": []})
    learned = next((e["value"] for e in baseline["evidence"] if e["name"] == "learned"), None)
    return Run(
        folder, when, str(data["subject"]["name"]), data["verdict"], str(data["summary"]), str(cause),
        _number(learned), _number(data["seconds"]), data.get("partial") is True,
    )  # fmt: skip


def _number(value: Any) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return math.nan if value == "NaN" else None


def _when(folder: Path) -> datetime:
    if stamp := STAMP.fullmatch(folder.name):
        try:
            return datetime.strptime(stamp[1], TIME)
        except ValueError:
            pass
    try:
        return datetime.fromtimestamp(folder.stat().st_mtime).replace(microsecond=0)
    except (OSError, OverflowError, ValueError):
        return datetime.min


def _count(folder: Path) -> int:
    """The number of a run among those of the same second."""
    stamp = STAMP.fullmatch(folder.name)
    return int(stamp[2] or 1) if stamp else 0
