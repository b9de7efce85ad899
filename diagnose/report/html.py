"""The diagnosis as one self-contained page: no request leaves it, it reads without JavaScript, and it prints."""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from diagnose.diagnosis import Diagnosis, Proof, Side
from diagnose.evidence import Evidence
from diagnose.report import PNG, charts, words
from diagnose.report.compare import Comparison, Section, compare, sections
from diagnose.report.curves import Curve, Frame, frame
from diagnose.report.experiments import experiments
from diagnose.report.recorded import recorded_of
from diagnose.report.training import Training, training

HERE = Path(__file__).parent
PICTURES = 1_500_000  # bytes of pictures that are embedded at most; base64 makes 4 of 3
SHORT = 6  # values of a list that are spelled out in its cell
ROWS = 1_000  # evidence rows of one check that are shown at most
VALUES = 200  # values of one list that are spelled out at most


def render(diagnosis: Diagnosis, run: Path | None = None, previous: Diagnosis | None = None) -> str:
    """The page.

    Args:
        run: the folder that holds the record, if the diagnosis does not carry its files.
        previous: of the same subject; what changed since is shown.
    """
    style, script = _read("report.css"), _read("report.js")
    proven = [c for c in diagnosis.causes if c.proven]
    return _template().render(
        d=diagnosis,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        proven=proven,
        suspected=[c for c in diagnosis.causes if not c.proven and not c.refuted],
        refuted=[c for c in diagnosis.causes if not c.proven and c.refuted],
        checks=words.by_severity(diagnosis.checks),
        states={c.status for c in diagnosis.checks},
        questions=words.questions(diagnosis),
        slowest=max([c.seconds for c in diagnosis.checks if math.isfinite(c.seconds)], default=0.0),
        pictures=_embedded(diagnosis.files),
        t=_training(diagnosis, run),
        experiments=experiments(diagnosis),
        past=_compared(diagnosis, previous),
    )


def _training(diagnosis: Diagnosis, run: Path | None) -> Training | None:
    found = recorded_of(diagnosis, run)
    return training(found) if found else None


@dataclass(frozen=True)
class Compared:
    """What changed since the run before."""

    comparison: Comparison
    sections: list[Section]


def _compared(diagnosis: Diagnosis, previous: Diagnosis | None) -> Compared | None:
    if previous is None:
        return None
    comparison = compare(previous, diagnosis)
    return Compared(comparison, sections(comparison))


@dataclass(frozen=True)
class Half:
    """One side of a proof, ready to be shown."""

    name: str
    kind: str
    side: Side
    curve: Curve
    figure: Markup | None


@dataclass(frozen=True)
class Shown:
    """A proof, ready to be shown: both halves, the numbers of both by name, and what to know of the axis."""

    halves: list[Half]
    numbers: list[tuple[str, str, str]]
    frame: Frame


def shown(proof: Proof) -> Shown:
    """Lay out a proof."""
    laid_out = frame(proof.before, proof.after)
    drawn = bool(proof.before.loss or proof.after.loss)
    halves = [
        Half(name, kind, side, curve, _panel(curve, laid_out, kind, name) if drawn else None)
        for name, kind, side, curve in (
            ("As it is", "before", proof.before, laid_out.before),
            ("With the change", "after", proof.after, laid_out.after),
        )
    ]
    before, after = proof.before.numbers, proof.after.numbers
    names = dict.fromkeys([*before, *after])
    numbers = [(n, *(words.value(s[n]) if n in s else "–" for s in (before, after))) for n in names]
    return Shown(halves, numbers, laid_out)


def spark(item: Evidence) -> Markup | None:
    """A list of numbers as a small line."""
    numbers = words.numeric(item.value)
    if len(numbers) < 2:
        return None
    finite = [v for v in numbers if math.isfinite(v)]
    ends = f", lowest {words.number(min(finite))}, highest {words.number(max(finite))}" if finite else ", none finite"
    return charts.spark(numbers, f"{item.name}: {len(numbers)} values{ends}")


def listed(item: list[Any]) -> str:
    """A list of values as text, shortened in the middle if it is long."""
    if len(item) <= VALUES:
        return words.value(item)
    half = VALUES // 2
    left_out = f"… {len(item) - 2 * half:,} values left out, they stand in report.json …"
    return f"{words.value(item[:half])}, {left_out}, {words.value(item[-half:])}"


def _panel(curve: Curve, laid_out: Frame, kind: str, name: str) -> Markup:
    loss = f"{laid_out.title} over {len(curve.values)} steps"
    finite = [v for v in curve.values if math.isfinite(v)]
    ends = f", first {words.number(curve.values[0])}, last {words.number(curve.values[-1])}" if curve.values else ""
    marks = [
        f"{n} {words.number(v)}"
        for n, v in (("best constant", curve.constant), ("floor", curve.floor))
        if v is not None
    ]
    lowest = f", lowest {words.number(min(finite))}" if finite else ""
    return charts.panel(curve, laid_out, kind, f"{name}: {loss}{ends}{lowest}. {', '.join(marks)}")


def _embedded(files: dict[str, bytes]) -> dict[str, str]:
    """PNG files as data URIs by name, as many as the page may hold."""
    pictures, room = {}, PICTURES
    for name, data in files.items():
        if data.startswith(PNG) and len(data) <= room:
            room -= len(data)
            pictures[name] = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return pictures


def _cleaned(item: Any) -> Any:
    """What the template puts onto the page, before it is escaped."""
    return words.safe(item) if isinstance(item, str) and not isinstance(item, Markup) else item


def _hash(text: str) -> str:
    """The source expression by which the page's policy allows exactly this inline block."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    env = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_cleaned,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"number": words.number, "learned": words.learned, "value": words.value, "duration": words.seconds}
    env.globals |= {
        "shown": shown, "spark": spark, "listed": listed, "bar": charts.bar, "tally": words.tally,
        "checklist": words.checklist, "ranked": words.ranked,
        "answers": words.ANSWERS, "verdicts": words.VERDICTS, "max_rows": ROWS, "short": SHORT,
    }  # fmt: skip
    return env.get_template("report.html.j2")
