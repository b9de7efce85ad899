"""The diagnosis as JUnit XML, in the dialect of pytest that Jenkins, GitLab, Azure and GitHub's actions read.

A test case for every check that ran or was left out, and one for every proven cause. The file agrees with the exit
code: there is a failure if and only if the verdict is `fail` (and an error if the examination was interrupted). A
warning passes and says what it has to say on the test's standard output, since a doubt breaks no build.
"""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as xml

from diagnose.diagnosis import CauseResult, CheckResult, Diagnosis, Proof
from diagnose.report import words

LONGEST = 10_000  # characters of one text
NUMBERS = 50  # rows of evidence of one check


def render(diagnosis: Diagnosis) -> str:
    """The XML text, UTF-8 when encoded."""
    d = diagnosis
    suite = xml.Element("testsuite", name=_clean(f"diagnose {d.subject.name}".strip()))
    _properties(suite, d)
    for check in d.checks:
        _check(suite, check, d)
    for cause in d.causes:
        if cause.proven:
            _cause(suite, cause, d)
    known, causes = {c.id for c in d.checks}, {a.id for a in d.checklist}
    for item in d.unchecked:
        if item.id not in known:
            case = _case(suite, d, "cause" if item.id in causes else "check", item.id)
            xml.SubElement(case, "skipped", type="not-checked", message=_clean(item.reason))
    if d.partial:
        case = _case(suite, d, "examination", "complete")
        xml.SubElement(case, "error", type="interrupted", message="the examination was interrupted").text = _clean(
            d.summary
        )
    elif d.verdict == "fail" and suite.find(".//failure") is None:  # the subject's own code raised
        _fail(_case(suite, d, "examination", "verdict"), "verdict", d.summary, [])
    counts = {name: str(len(suite.findall(f"testcase/{tag}"))) for name, tag in _COUNTED.items()}
    counts = {"tests": str(len(suite.findall("testcase"))), **counts, "time": _seconds(d.seconds)}
    suite.attrib.update(counts)
    del counts["skipped"]  # only suites have it
    root = xml.Element("testsuites", name="diagnose", **counts)
    root.append(suite)
    xml.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{xml.tostring(root, encoding="unicode")}\n'


_COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def _properties(suite: xml.Element, d: Diagnosis) -> None:
    facts = {
        "verdict": d.verdict, "seed": d.seed, "source": d.subject.source, "fingerprint": d.subject.fingerprint,
        "tool": f"{d.tool.name} {d.tool.version}".strip(), **{f"set {n}": v for n, v in d.subject.settings.items()},
    }  # fmt: skip
    parent = xml.SubElement(suite, "properties")
    for name, value in facts.items():
        xml.SubElement(parent, "property", name=_clean(name), value=_clean(words.value(value)))


def _case(suite: xml.Element, d: Diagnosis, kind: str, id: str, seconds: float = 0.0) -> xml.Element:
    # a dot separates packages in what shows these files
    subject = d.subject.name.replace(".", "-") or "subject"
    return xml.SubElement(
        suite,
        "testcase",
        classname=_clean(f"diagnose.{subject}.{kind}"),
        name=_clean(id or kind),
        time=_seconds(seconds),
    )


def _check(suite: xml.Element, check: CheckResult, d: Diagnosis) -> None:
    case = _case(suite, d, "check", check.id, check.seconds)
    if check.status == "skip":
        xml.SubElement(case, "skipped", type="not-checked", message=_clean(check.summary))
    elif check.status == "fail" and d.verdict == "fail":
        _fail(case, "check", check.summary, _evidence(check))
    elif check.status != "pass":
        said = "warning" if check.status == "warn" else "failed, which alone is no verdict"
        _print(case, [f"{said}: {check.summary}", *_evidence(check)])


def _cause(suite: xml.Element, cause: CauseResult, d: Diagnosis) -> None:
    case = _case(suite, d, "cause", cause.id)
    where = [f"where: {', '.join(cause.where)}"] if cause.where else []
    proof = _proof(cause.proof) if cause.proof else []
    lines = [*where, *proof, f"fix: {cause.fix.text}", *cause.fix.code.splitlines()]
    if d.verdict == "fail":
        _fail(case, "proven-cause", cause.summary, lines)
    else:
        _print(case, [f"proven: {cause.summary}", *lines])


def _proof(proof: Proof) -> list[str]:
    lines = [f"proof ({proof.kind}): {proof.change}"]
    for name, side in (("as it is", proof.before), ("with the change", proof.after)):
        learned = "" if side.learned is None else f" learned {words.learned(side.learned)};"
        lines.append(f"  {name}:{learned} {side.summary}")
    return lines


def _evidence(check: CheckResult) -> list[str]:
    lines = []
    for e in check.evidence[:NUMBERS]:
        unit, where = (f" {e.unit}" if e.unit else ""), (f" ({e.where})" if e.where else "")
        value = words.value(e.value if not isinstance(e.value, list) else e.value[:6])
        more = " …" if isinstance(e.value, list) and len(e.value) > 6 else ""
        lines.append(f"{e.name}{where}: {value}{more}{unit}{f', expected {e.expected}' if e.expected else ''}")
    rest = len(check.evidence) - NUMBERS
    return [*lines, f"{rest} more in report.json"] if rest > 0 else lines


def _fail(case: xml.Element, kind: str, message: str, lines: list[str]) -> None:
    # most readers show either the attribute or the text: the text repeats the sentence
    xml.SubElement(case, "failure", type=kind, message=_clean(message)).text = _clean("\n".join([message, *lines]))


def _print(case: xml.Element, lines: list[str]) -> None:
    xml.SubElement(case, "system-out").text = _clean("\n".join(lines))


def _seconds(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) and value >= 0 else "0.000"


def _clean(text: str) -> str:
    """Text of a bounded length that XML 1.0 can hold."""
    kept = re.sub("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", words.safe(text))
    return words.clipped(kept, LONGEST)
