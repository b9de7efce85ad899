"""What changed between two runs: settings, verdict, causes, and the numbers that the checks measured.

Under the same seed an examination gives the same numbers, so whatever differs here was changed by what differs in the
settings; only what a clock or the machine's load decides (`NOISY`) is left out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from diagnose.diagnosis import CauseResult, Diagnosis
from diagnose.evidence import Evidence, Model, Value, spell_out
from diagnose.report import words

NOISY = {"s", "ms", "1/s", "MiB", "GiB"}
"""Units of what the clock or the rest of the machine decides."""

GRAVITY = {"pass": 0, "warn": 1, "fail": 2}
"""`skip` has no place among these: what was not measured got neither better nor worse."""

SHOWN = 40  # rows of measured numbers that a table shows at most; JSON has all


class Change(Model):
    """One thing that differs. `old` or `new` is None where only one of the runs has it.

    Attributes:
        worse: True or False where one of the two is the better, None where nothing says so.
    """

    name: str
    old: Value = None
    new: Value = None
    worse: bool | None = None


class Causes(Model):
    """Causes that are proven or suspected in either run; `old` and `new` of each are "proven", "suspected" or None."""

    gone: list[Change] = []
    new: list[Change] = []
    same: list[Change] = []


class Comparison(Model):
    """Everything that differs between two runs, of which the first is the old one.

    Attributes:
        subject: names of both, which may differ.
        verdict: of both; `worse` is None if they are the same.
        settings: the task's settings, then model, loss, optimizer, batch, seed, budget, versions and code.
        results: checks whose status changed (worse ones first), then numbers, of which a check's numbers for single
            layers or parameters stand by the one that changed most.
        partial: whether either run was interrupted, so that what is missing may only not have been reached.
    """

    subject: Change
    verdict: Change
    settings: list[Change] = []
    causes: Causes = Causes()
    results: list[Change] = []
    partial: bool = False

    @property
    def worse(self) -> bool:
        """The verdict is graver, a cause is proven that was not, or a check is judged graver."""
        causes = [*self.causes.new, *self.causes.same]
        return any(c.worse for c in (self.verdict, *self.results)) or any(c.worse for c in causes)

    @property
    def same(self) -> bool:
        """Nothing that was compared differs."""
        differs = self.subject.old != self.subject.new or self.verdict.old != self.verdict.new
        changed = any(c.old != c.new for c in self.causes.same)
        return not (differs or changed or self.settings or self.results or self.causes.gone or self.causes.new)

    @property
    def summary(self) -> str:
        """One sentence."""
        if self.same:
            return "Nothing differs."
        verdict = (
            f"The verdict is {self.verdict.new}, as before"
            if self.verdict.old == self.verdict.new
            else f"The verdict was {self.verdict.old} and is {self.verdict.new}"
        )
        told = [
            f"{len(found)} {kind} {_plural('cause', found)} ({words.listed([c.name for c in found], 3)})"
            for kind, found in (("new", self.causes.new), ("gone", self.causes.gone))
            if found
        ]
        told.append(f"{len(self.settings)} {_plural('setting', self.settings)} and {len(self.results)} results differ")
        return f"{verdict}: {', '.join(told)}."

    def to_json(self) -> str:
        """As JSON text, indented."""
        kept = {"worse": self.worse, "summary": self.summary, **self.model_dump(mode="json")}
        return json.dumps(kept, indent=1, ensure_ascii=False, allow_nan=False)


def compare(old: Diagnosis, new: Diagnosis) -> Comparison:
    """What changed from `old` to `new`; both may be of any subject."""
    settings = [
        Change(name=name, old=a, new=b) for name, a, b in _both(_settings(old), _settings(new)) if _differ(a, b)
    ]
    return Comparison(
        subject=Change(name="subject", old=old.subject.name, new=new.subject.name),
        verdict=_judged("verdict", old.verdict, new.verdict),
        settings=settings,
        causes=_causes(old, new),
        results=[*_statuses(old, new), *_numbers(old, new)],
        partial=old.partial or new.partial,
    )


class Section(NamedTuple):
    """A titled table of a comparison: `rows` of name, old and new as text, `left_out` rows that it does not hold."""

    title: str
    rows: list[tuple[str, str, str]]
    left_out: int = 0


def sections(comparison: Comparison, most: int = SHOWN) -> list[Section]:
    """The comparison as a person reads it; no section is empty."""
    causes = comparison.causes
    changed = [c for c in causes.same if c.old != c.new]
    kept = [
        ("Settings", comparison.settings),
        ("Causes", [*causes.new, *changed, *causes.gone]),
        ("Results", comparison.results),
    ]
    return [
        Section(title, [(c.name, words.value(c.old), words.value(c.new)) for c in changes[:most]], len(changes[most:]))
        for title, changes in kept
        if changes
    ]


def _settings(d: Diagnosis) -> dict[str, Value]:
    about = d.subject
    kept: dict[str, Value] = dict(about.settings)
    fixed = {
        "source": about.source, "model": about.model, "loss function": about.loss, "optimizer": about.optimizer,
        "batch": about.batch, "seed": d.seed, "budget": d.budget, "tool": f"{d.tool.name} {d.tool.version}".strip(),
        **{name: _lasting(value) for name, value in d.environment.items()},
        "fingerprint of code, settings and model": about.fingerprint.removeprefix("sha256:")[:12],
    }  # fmt: skip
    for name, value in fixed.items():
        kept[name if name not in kept else f"{name} (of the run)"] = value
    return kept


def _lasting(value: Value) -> Value:
    """An entry of the environment without how much memory happened to be free or used."""
    return re.sub(r", [\d.]+ [KMG]iB (free|used).*$", "", value) if isinstance(value, str) else value


def _causes(old: Diagnosis, new: Diagnosis) -> Causes:
    gone, added, same = [], [], []
    for id, a, b in _both({c.id: c for c in old.causes}, {c.id: c for c in new.causes}):
        was, now = _state(a), _state(b)
        worse = None if was == now else now == "proven" or (False if now is None or was == "proven" else None)
        change = Change(name=id, old=was, new=now, worse=worse)
        if was or now:
            (same if was and now else added if now else gone).append(change)
    return Causes(gone=gone, new=added, same=same)


def _state(cause: CauseResult | None) -> str | None:
    if cause is None or cause.refuted:
        return None
    return "proven" if cause.proven else "suspected"


def _statuses(old: Diagnosis, new: Diagnosis) -> list[Change]:
    before, after = ({c.id: c.status for c in d.checks} for d in (old, new))
    found = [_judged(id, a, b) for id, a, b in _both(before, after) if a != b]
    return sorted(found, key=lambda c: (not c.worse, c.worse is None))


def _judged(name: str, old: str | None, new: str | None) -> Change:
    known = old in GRAVITY and new in GRAVITY and old != new
    return Change(name=name, old=old, new=new, worse=GRAVITY[new] > GRAVITY[old] if known else None)


def _numbers(old: Diagnosis, new: Diagnosis) -> list[Change]:
    """Measured values of checks that both runs have; the larger the change, the earlier."""
    found: list[tuple[float, Change]] = []
    before = {c.id: c for c in old.checks}
    for check in new.checks:
        if check.id not in before:
            continue
        places: dict[str, list[tuple[float, str, Evidence, Evidence]]] = {}
        was = {(e.name, e.where): e for e in before[check.id].evidence}
        for now in check.evidence:
            then = was.get((now.name, now.where))
            if then is None or now.unit in NOISY or isinstance(now.value, list) or not _differ(then.value, now.value):
                continue
            places.setdefault(now.name if now.where else f"{now.name}\0", []).append(
                (_size(then.value, now.value), now.where, then, now)
            )
        for changed in places.values():
            size, where, then, now = max(changed, key=lambda c: c[0])
            most = f", most of {len(changed)}" if len(changed) > 1 else ""
            name = f"{check.id}: {now.name}{f' [{now.unit}]' if now.unit else ''}{f' ({where}{most})' if where else ''}"
            found.append((size, Change(name=name, old=then.value, new=now.value)))
    return [change for _, change in sorted(found, key=lambda f: -f[0])]


def _size(old: Value, new: Value) -> float:
    """How much changed: 0 to 1 for numbers, by |new - old| / (|old| + |new|); 1 for all else and what is not finite."""
    numbers = [float(v) for v in (old, new) if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
        return 1.0
    a, b = numbers
    most = max(abs(a), abs(b))  # divided first: a sum of two may overflow
    return abs(a / most - b / most) / (abs(a) / most + abs(b) / most) if most else 0.0


def _differ(a: Value, b: Value) -> bool:
    return spell_out(a) != spell_out(b)  # NaN is NaN


def _both(old: dict, new: dict) -> Iterator[tuple[str, object, object]]:
    """Every name of either, in the order of the new one, with both values."""
    for name in dict.fromkeys([*new, *old]):
        yield name, old.get(name), new.get(name)


def _plural(word: str, items: list) -> str:
    return word if len(items) == 1 else f"{word}s"
