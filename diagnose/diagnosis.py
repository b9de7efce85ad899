"""The diagnosis: verdict, causes in order, every check with its evidence, and what could not be checked and why.

`report.json` is `Diagnosis.to_json()`; its JSON Schema stands beside this file as `report.schema.json`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr

from diagnose.evidence import Evidence, Model, Number, Value

SCHEMA_VERSION = 1

Status = Literal["pass", "warn", "fail", "skip"]
Verdict = Literal["pass", "warn", "fail"]


class CheckResult(Model):
    """What one check measured and how it was judged."""

    id: str
    status: Status
    summary: str
    seconds: Number
    evidence: list[Evidence] = []


class Side(Model):
    """One half of a proof: the subject as it is, or under the change.

    Attributes:
        summary: one sentence with the number in it.
        learned: 0 = no better than the best constant output, 1 = the free-output floor; None for an inspection.
        loss: training loss of every step, in training mode.
        best_constant: loss of the best constant output under the loss of this side.
        floor: loss of freely chosen outputs under the loss of this side.
        numbers: anything else that was measured.
    """

    summary: str
    learned: Number | None = None
    loss: list[Number] = []
    best_constant: Number | None = None
    floor: Number | None = None
    numbers: dict[str, Value] = {}


class Proof(Model):
    """What settles a cause: a paired trial (same batch, same random numbers, one change) or a conclusive inspection."""

    change: str
    kind: Literal["trial", "inspection"]
    before: Side
    after: Side


class Fix(Model):
    """The way out: a sentence, and code that fits the user's Learner."""

    text: str
    code: str


class CauseResult(Model):
    """One suspected cause. `proven` has a proof that settles it; `refuted` was tried and made no difference."""

    id: str
    score: Number = Field(ge=0, le=1)
    proven: bool
    refuted: bool = False
    where: list[str] = []
    summary: str
    fix: Fix
    proof: Proof | None = None


QUESTIONS = {
    1: "Is it the loss function?",
    2: "Is it the network?",
    3: "Is it the network's last activation?",
    4: "Is it the data set: do the labels fit the loss?",
    5: "Is the task too complex?",
    6: "Is the learning rate far too high or too low?",
    7: "Do gradients explode or vanish?",
    8: "Do activations mix across the batch or other dimensions?",
    9: "Do several calls of the encoder spoil the computation graph?",
    10: "Is it the scale of the inputs?",
    11: "Are the items drawn from an unfit distribution?",
    12: "Is it the loader?",
    13: "Are the classes imbalanced?",
    14: "Does training on a tiny subset cause it?",
    15: "Does a small batch cause it?",
    16: "Is the network too small?",
    17: "Is it stuck on a plateau, or in a local minimum?",
    18: "Is an activation function broken or unfit?",
}
"""The checklist of the notes that this tool grew from: what a person asks whose net does not learn."""


class Answer(Model):
    """Whether it could be one cause.

    Attributes:
        id: of the cause. questions: numbers of `QUESTIONS` that it answers.
        answer: "yes" if proven, "no" if nothing measured points there, if the change that would cure it made no
            difference, or if it only looks like it; "suspected"; "not tested" if none of what it reads was measured.
        reason: the number behind it, or what was read.
    """

    id: str
    answer: Literal["yes", "suspected", "no", "not tested"]
    reason: str
    questions: list[int] = []


class Unchecked(Model):
    """A check or a cause that was not examined, and the reason."""

    id: str
    reason: str


def folder_name(subject: str) -> str:
    """The folder that holds the runs of a subject: its name with nothing in it that a path could trip over."""
    return re.sub(r"[^\w.-]+", "-", subject).strip(".-") or "subject"


class SubjectInfo(Model):
    """What was examined. `fingerprint` identifies code, settings and data shape; `settings` are the task's."""

    name: str
    source: str
    fingerprint: str
    task: str | None = None
    settings: dict[str, Value] = {}
    batch: str = ""
    model: str = ""
    loss: str = ""
    optimizer: str = ""


class SampleInput(Model):
    """One input of an item: a picture (`file` is a PNG in the run folder) or a text (`text`)."""

    title: str
    file: str = ""
    text: str = ""


class Sample(Model):
    """One row of the batch as a person looks at it. `rank` says where its loss stands among others, e.g. "hardest 1 of
    64 items of the first training batch"; empty for the first rows of the fixed batch."""

    inputs: list[SampleInput]
    target: str = ""
    prediction: str = ""
    loss: Number | None = None
    rank: str = ""


class Tool(Model):
    name: str
    version: str


class Diagnosis(Model):
    """The whole result of one examination.

    Attributes:
        summary: the verdict in one sentence.
        environment: device, memory, versions, git commit and the like, as text.
        partial: the examination was interrupted; what is here is what had been done.
        seconds: wall time from the built subject to the verdict. budget: the seconds allowed, None for no bound.
        checklist: every cause there is, with its answer.
        gauges: path of recorded data inside the run folder, if any.
    """

    schema_: Literal[1] = Field(default=SCHEMA_VERSION, alias="schema")
    tool: Tool
    subject: SubjectInfo
    environment: dict[str, Value] = {}
    seed: int
    verdict: Verdict
    summary: str
    partial: bool = False
    seconds: Number
    budget: Number | None = None
    causes: list[CauseResult] = []
    checklist: list[Answer] = []
    checks: list[CheckResult] = []
    unchecked: list[Unchecked] = []
    samples: list[Sample] = []
    gauges: str | None = None

    _files: dict[str, bytes] = PrivateAttr(default_factory=dict)  # pictures on their way to the run folder

    @property
    def files(self) -> dict[str, bytes]:
        """Files that belong beside report.json, by relative path (pictures of the batch)."""
        return self._files

    @property
    def cause(self) -> CauseResult | None:
        """The proven cause that stands first, if any."""
        return next((c for c in self.causes if c.proven), None)

    def check(self, id: str) -> CheckResult | None:
        """The result of one check."""
        return next((c for c in self.checks if c.id == id), None)

    def to_json(self) -> str:
        """The report as JSON text, indented."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Diagnosis:
        """The inverse of `to_json`. Raises pydantic.ValidationError if the text is no report of this schema version."""
        return cls.model_validate_json(text)

    @classmethod
    def load(cls, run: Path) -> Diagnosis:
        """The diagnosis of a run folder, with the pictures it names."""
        diagnosis = cls.from_json((run / "report.json").read_text(encoding="utf-8"))
        for sample in diagnosis.samples:
            for part in sample.inputs:
                if part.file and (run / part.file).is_file():
                    diagnosis.files[part.file] = (run / part.file).read_bytes()
        return diagnosis


def json_schema() -> dict[str, Any]:
    """JSON Schema of `report.json`."""
    schema = Diagnosis.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
