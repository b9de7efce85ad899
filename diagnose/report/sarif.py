"""The diagnosis as SARIF 2.1.0 (OASIS, 2020), which code scanning and editors show beside the code.

Results are what calls for action: failed and warned checks, proven and suspected causes. `error` is only given where
the verdict is `fail`. Passing checks are no results, because viewers (GitHub's among them) show every result as an
alert, whatever its `kind`; what was not checked stands among the notifications of the invocation.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from diagnose import registry
from diagnose.diagnosis import CauseResult, CheckResult, Diagnosis
from diagnose.report import words

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LONGEST = 4_000  # characters of one text
PLACES = 20  # logical locations of one result
ALERTS = 1_000  # results at most; GitHub reads 5,000 of a run


def render(diagnosis: Diagnosis, root: Path | None = None) -> str:
    """The JSON text.

    Args:
        root: folder that file names are relative to, which is the repository's root as a rule; the current one if None.
    """
    d = diagnosis
    place = location(d.subject.source, Path.cwd() if root is None else root)
    found: list[tuple[str, str, CheckResult | CauseResult]] = []
    for cause in d.causes:
        if not cause.refuted:
            decides = cause.proven and d.verdict == "fail"
            found.append((_id("cause", cause.id), "error" if decides else "warning", cause))
    for check in words.by_severity(d.checks):
        if check.status in ("fail", "warn"):
            decides = check.status == "fail" and d.verdict == "fail"
            found.append((_id("check", check.id), "error" if decides else "warning", check))
    rules = {rule["id"]: rule for rule in [*map(_cause_rule, d.causes), *map(_check_rule, d.checks)]}
    index = {id: i for i, id in enumerate(rules)}
    run = {
        "tool": {"driver": _driver(d, list(rules.values()))},
        "automationDetails": {"id": f"diagnose/{_clean(d.subject.name, 200) or 'subject'}/"},
        "invocations": [_invocation(d, index)],
        "results": [
            _result(id, index[id], level, item, d, place) for id, level, item in found[:ALERTS]
        ],
        "columnKind": "unicodeCodePoints",
        "defaultSourceLanguage": "python",
        "properties": {
            "verdict": d.verdict, "summary": _clean(d.summary), "subject": _clean(d.subject.name),
            "fingerprint": _clean(d.subject.fingerprint), "seed": d.seed, "resultsLeftOut": len(found[ALERTS:]),
        },
    }  # fmt: skip
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def location(source: str, root: Path) -> tuple[str, int] | None:
    """File (a URI relative to `root`) and line of the function that builds the subject; nothing of it is executed.

    Args:
        source: as in a report: `path/file.py:function`, `package.module:function` or `task NAME`.

    Returns:
        None if `source` is none of these, or its file is not below `root`.
    """
    name, _, function = source.rpartition(":")
    if source.startswith("task "):
        name = next((e.module for e in registry.task_entries() if e.id == source[5:]), "")
    if not name:
        return None
    path = Path(name if name.endswith(".py") else f"{name.replace('.', '/')}.py")
    try:
        inside = (root / path).resolve().relative_to(root.resolve())
        tree = ast.parse((root / inside).read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    named = (n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name == function)
    return quote(inside.as_posix()), next((n.lineno for n in named), 1)


def _driver(d: Diagnosis, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": _clean(d.tool.name) or "diagnose", "version": _clean(d.tool.version) or "unknown", "rules": rules}


def _check_rule(check: CheckResult) -> dict[str, Any]:
    tell = f"`diagnose explain {check.id}` tells what is measured and where the threshold comes from."
    return _rule(_id("check", check.id), f"Check {check.id}", f"A measurement of `diagnose`. {tell}", tell, "check")


def _cause_rule(cause: CauseResult) -> dict[str, Any]:
    tell = f"{cause.fix.text}\n`diagnose explain {cause.id}` tells how it is found, proven and mended."
    return _rule(_id("cause", cause.id), f"Cause {cause.id}", f"Why a model may not learn: {cause.id}.", tell, "cause")


def _rule(id: str, short: str, full: str, help: str, kind: str) -> dict[str, Any]:
    name = "".join(part.capitalize() for part in re.findall(r"[A-Za-z0-9]+", id))
    return {
        "id": id,
        "name": name[:200],
        "shortDescription": {"text": _clean(short, 200)},
        "fullDescription": {"text": _clean(full)},
        "help": {"text": _clean(help)},
        "defaultConfiguration": {"level": "warning"},
        "properties": {"tags": ["machine-learning", kind]},
    }


def _result(
    id: str, index: int, level: str, item: CheckResult | CauseResult, d: Diagnosis, place: tuple[str, int] | None
) -> dict[str, Any]:
    about = {"logicalLocations": _logical(item, d)}
    if place:
        uri, line = place
        about["physicalLocation"] = {
            "artifactLocation": {"uri": uri, "uriBaseId": "%SRCROOT%"},
            "region": {"startLine": line},
        }
    # the same finding of the same subject is the same alert, also in another run
    print_ = hashlib.sha256(f"{d.subject.name}\0{id}".encode()).hexdigest()
    result: dict[str, Any] = {
        "ruleId": id,
        "ruleIndex": index,
        "kind": "fail",
        "level": level,
        "message": {"text": _plain(_clean(_message(item)))},
        "locations": [about],
        "partialFingerprints": {"diagnose/v1": print_},
    }
    if isinstance(item, CauseResult):
        result["rank"] = round(100 * item.score, 1) if math.isfinite(item.score) else 0.0
        result["properties"] = {"proven": item.proven, "fix": _clean(item.fix.code)}
    return result


def _message(item: CheckResult | CauseResult) -> str:
    if isinstance(item, CheckResult):
        return f"{item.id}: {item.summary}"
    said = "Proven" if item.proven else f"Suspected ({words.learned(item.score)})"
    where = f" Where: {', '.join(item.where[:PLACES])}." if item.where else ""
    proof = ""
    if item.proof:
        before, after = item.proof.before.summary, item.proof.after.summary
        proof = f" As it is: {before} With the change ({item.proof.change}): {after}"
    return f"{said}: {item.summary}{where}{proof} Fix: {item.fix.text}"


def _logical(item: CheckResult | CauseResult, d: Diagnosis) -> list[dict[str, str]]:
    names = item.where[:PLACES] if isinstance(item, CauseResult) else []
    subject = _clean(d.subject.source or d.subject.name, 200) or "subject"
    places = [{"name": n, "kind": "member"} for n in dict.fromkeys(_clean(n, 200) for n in names) if n]
    return [{"fullyQualifiedName": subject, "kind": "function" if ":" in subject else "object"}, *places]


def _invocation(d: Diagnosis, index: dict[str, int]) -> dict[str, Any]:
    notes: list[dict[str, Any]] = []
    if d.partial:
        notes.append({"level": "warning", "message": {"text": "The examination was interrupted."}})
    for item in d.unchecked[:ALERTS]:
        note: dict[str, Any] = {"level": "note", "message": {"text": _clean(f"Not checked: {item.id}: {item.reason}")}}
        if (id := _id("check", item.id)) in index:
            note["associatedRule"] = {"id": id, "index": index[id]}
        notes.append(note)
    return {"executionSuccessful": not d.partial, "toolExecutionNotifications": notes}


def _id(kind: str, id: str) -> str:
    """Id of a rule: a check and a cause may share a name."""
    return f"{kind}/{_clean(id, 200)}"


def _plain(text: str) -> str:
    """Text in which no `[words](target)` becomes a link (section 3.11.6 of the standard)."""
    return re.sub(r"\[(?=[^\]]*\]\()", r"\\[", text)


def _clean(text: str, most: int = LONGEST) -> str:
    return words.clipped(words.safe(text).strip(), most)
