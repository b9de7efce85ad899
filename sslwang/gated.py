"""The gate before pretraining: a pass of `diagnose run` for exactly this task, code, data and settings, or none.

How many items an epoch draws does not count, unless they are the same in every epoch: the items of a task are drawn
without end, from its seed. So the task is compared with what was examined at the length and seed of the examination,
and `diagnose run --task unmix` opens the gate for any number of epochs, items and seeds.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnose import gate
from diagnose.diagnosis import Diagnosis, folder_name
from diagnose.errors import DiagnoseError
from diagnose.examination import Progress, examine
from diagnose.identity import Identity
from diagnose.loads import recording
from diagnose.report import runs, write_run
from diagnose.subject import Subject, pick_device
from diagnose.task import flat_settings
from sslwang.pretext import Pretext

LENGTHS = ("items", "valid_items")  # settings that say how long an epoch is


@dataclass(frozen=True)
class Gate:
    """Where passes are, and which hold.

    Args:
        reports: folder of the runs of `diagnose run`.
        max_age: seconds that a pass may be old; None for no bound.
        allow_warnings: accept a verdict of warn.
        budget: seconds of an examination; None for no bound. It ends when everything was asked.
    """

    reports: Path = Path("reports")
    max_age: float | None = None
    allow_warnings: bool = False
    budget: float | None = 600.0

    def verified(self, task: Pretext, device: str = "auto") -> dict[str, Any]:
        """The newest pass that holds for this task, as a run's record keeps it. Nothing is written.

        Raises:
            GateRefused: there is none; one line says why and offers the command that makes one.
        """
        refused: gate.GateRefused | None = None
        known: dict[tuple, Identity] = {}
        for folder, report in self._examined(task):
            key = (report.seed, *(report.subject.settings.get(n) for n in LENGTHS))
            try:
                if key not in known:
                    known[key] = subject_of(_at_length_of(task, report), report.seed, device).identity()
                held = gate.verify(folder, known[key], self.max_age, self.allow_warnings)
                return noted(folder, held)
            except gate.GateRefused as e:
                refused = refused or e
        why = str(refused) if refused else f"{task.id} was not examined yet below {self.reports}"
        hint = " (--allow-warnings);" if refused and "the verdict was warn" in why else ""
        raise gate.GateRefused(
            f"no pretraining without a pass: {why}{hint or ';'} run `{examining(task, self.reports, device)}`, or add "
            "--examine (--no-gate does without, and the run says so)"
        )

    def examined(
        self, task: Pretext, seed: int = 0, device: str = "auto", progress: Progress | None = None
    ) -> dict[str, Any]:
        """Examine the task as `diagnose run` does, write the run folder, and return its pass as `verified` does.

        Raises:
            GateRefused: the examination gave no pass, with its summary.
            SubjectError: the task's own code raised.
        """
        subject = subject_of(task, seed, device)
        return self.grant(subject, subject.identity(), seed, progress, "; --allow-warnings accepts that")

    def grant(
        self, subject: Subject, identity: Identity, seed: int = 0, progress: Progress | None = None, hint: str = ""
    ) -> dict[str, Any]:
        """Examine any subject, write the run folder, and return its pass as `verified` does.

        Args:
            identity: of the code that is loaded, whatever is edited while it is examined.
            hint: what accepts a verdict of warn, for the message.

        Raises:
            GateRefused: the examination gave no pass that holds, with its summary; exit code 130 if it was interrupted.
            SubjectError: the subject's own code raised.
        """
        diagnosis = examine(subject, seed, self.budget, progress=progress)
        signed = gate.issue(diagnosis, identity)
        if signed is not None:
            diagnosis.files[gate.PASS] = signed
        folder = write_run(diagnosis, self.reports)
        if diagnosis.partial:
            ended = gate.GateRefused(f"the examination was interrupted, which gives no pass; its report is in {folder}")
            ended.exit_code = 130
            raise ended
        try:
            return noted(folder, gate.verify(folder, identity, self.max_age, self.allow_warnings))
        except gate.GateRefused as e:
            raise gate.GateRefused(
                f"{subject.name} was examined: {diagnosis.verdict}: {diagnosis.summary} See {folder / 'report.html'}"
                f"{hint if diagnosis.verdict == 'warn' else ''}"
            ) from e

    def _examined(self, task: Pretext) -> Iterator[tuple[Path, Diagnosis]]:
        "Run folders of this task with their reports, the newest first."
        for folder in runs.finished(self.reports / folder_name(task.id)):
            try:
                yield folder, Diagnosis.load(folder)
            except (OSError, ValueError):
                continue


def subject_of(task: Pretext, seed: int, device: str) -> Subject:
    """The task as `diagnose run` would examine it: the same identity, and the weights that were loaded are seen."""
    with recording() as record:
        learn = task.learner(seed, pick_device(device))
    module = sys.modules[type(task).__module__]
    return Subject(task.id, f"task {task.id}", learn, task, [module], record.loads(learn.model))


def examining(task: Pretext, reports: Path, device: str = "auto") -> str:
    """The command that examines this task under its settings."""
    plain = flat_settings(type(task)().settings)
    changed = {n: v for n, v in flat_settings(task.settings).items() if plain[n] != v}
    lengths = () if task.settings.rows == "frozen" else LENGTHS
    sets = [part for n, v in changed.items() if n not in lengths for part in ("--set", f"{n}={v}")]
    where = [] if reports == Path("reports") else ["--out", str(reports)]
    on = [] if device == "auto" else ["--device", device]
    return shlex.join(["diagnose", "run", "--task", task.id, *sets, *where, *on])


def _at_length_of(task: Pretext, report: Diagnosis) -> Pretext:
    "The task with as many items as were examined, where it draws new ones in every epoch."
    given = report.subject.settings
    if task.settings.rows == "frozen" or not all(isinstance(given.get(n), int) for n in LENGTHS):
        return task
    try:
        return task.under(**{n: given[n] for n in LENGTHS})
    except (ValueError, DiagnoseError):  # that report is of a task under other rules
        return task


def noted(folder: Path, held: gate.Pass) -> dict[str, Any]:
    """A pass as the record of a run or a result keeps it."""
    return {"pass": str(folder), "issued": held.date, "verdict": held.verdict}
