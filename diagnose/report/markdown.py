"""The diagnosis as GitHub-flavoured Markdown, for pull requests. Nothing that a name or a text holds is obeyed."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from diagnose.diagnosis import CauseResult, CheckResult, Diagnosis, Proof
from diagnose.evidence import Value
from diagnose.report import words
from diagnose.report.compare import Comparison, sections

LIMIT = 65_536
"""A GitHub comment holds as many characters; this many bytes never are more."""

RESERVE = 800  # bytes kept for the closing tags and the last lines
SENTENCE, NAME = 1_000, 200  # characters of one text or name that are shown at most
CODE = 4_000  # characters of a fix that are shown at most
PROVEN = 4  # proven causes that are shown in full
PLACES = 6  # places of a cause that are named
NUMBERS = 12  # numbers of a proof that are shown
MARKS = {"pass": "✅", "warn": "⚠️", "fail": "❌", "skip": "➖"}


def render(diagnosis: Diagnosis) -> str:
    """The page, at most `LIMIT` bytes of UTF-8; what did not fit is said."""
    d, page = diagnosis, _Page()
    page.add(f"## {MARKS[d.verdict]} {d.verdict.upper()}: {code(d.subject.name or 'subject')}")
    page.add(f"**{text(d.summary or words.VERDICTS[d.verdict])}**")
    if d.partial:
        page.add("⚠️ Interrupted: this is what had been done by then.")
    proven = [c for c in d.causes if c.proven]
    for cause in proven[:PROVEN]:
        _cause(page, cause)
    if proven[PROVEN:]:
        page.add(f"Proven as well: {_codes([c.id for c in proven[PROVEN:]], 20)}.")
    _checks(page, d)
    _details(page, d)
    budget = "" if d.budget is None else f" of {words.seconds(d.budget)} allowed"
    page.last(
        f"<sub>{words.seconds(d.seconds)}{budget}, seed {d.seed}, {text(f'{d.tool.name} {d.tool.version}', 60)}</sub>"
    )
    return page.text()


def comparison(found: Comparison) -> str:
    """A comparison of two runs, at most `LIMIT` bytes."""
    page, verdict = _Page(), found.verdict
    change = f"{verdict.old} → {verdict.new}" if verdict.old != verdict.new else f"{verdict.new}, as before"
    page.add(f"## {MARKS[str(verdict.new)]} {code(str(found.subject.new) or 'subject')}: {change}")
    if found.subject.old != found.subject.new:
        page.add(f"The old run is of another subject: {code(str(found.subject.old))}.")
    page.add(text(found.summary))
    if found.partial:
        page.add("⚠️ One of the runs was interrupted: what is missing may only not have been reached.")
    for section in sections(found):
        page.add(f"### {section.title}")
        rows = [(code(name), text(old), text(new)) for name, old, new in section.rows]
        page.table(("", "old", "new"), rows, section.left_out)
    return page.text()


def text(said: str, most: int = SENTENCE) -> str:
    """Any text as one line of plain prose.

    Markup is escaped, HTML and table bars are spelled as character references; a word joiner keeps `@name`, `#1` and
    bare addresses from becoming mentions and links.
    """
    line = words.clipped(words.safe(" ".join(said.split())), most)
    line = re.sub(r"[|\\`]", lambda m: f"&#{ord(m[0])};", html.escape(line, quote=False))
    line = re.sub(r"[*\[~]|(?<![^\W_])_|_(?![^\W_])", lambda m: f"\\{m[0]}", line)
    line = re.sub(r"^([-+#=](?=[-+#=\s]|$)|\d+[.)](?=\s|$))", lambda m: f"{m[1][:-1]}\\{m[1][-1]}", line)
    line = line.replace("$", "<span>$</span>")  # a backslash does not help outside of a formula
    line = re.sub(r"@(?=\w)|(?<!&)#(?=\d)", lambda m: f"{m[0]}\u2060", line)
    return re.sub(r"(?i)\b(https?:|ftp:|www)(?=//|\.)", "\\1\u2060", line)


def code(name: str, most: int = NAME) -> str:
    """Any name as code within a line."""
    kept = words.clipped(words.safe(" ".join(name.split())), most)
    if not kept:
        return "–"
    if not re.search(r"[`|\\]", kept):
        return f"`{kept}`"
    # bars and backslashes mean different things in a code span inside a table to different readers of Markdown
    plain = re.sub(r"[^\w ]|_", lambda m: f"&#{ord(m[0])};", kept)
    return f"<code>{plain}</code>"


def block(source: str, language: str = "python") -> str:
    """Source code as a fenced block that nothing inside can end."""
    kept = words.safe(source.replace("\r\n", "\n").strip("\n"))
    if len(kept) > CODE:
        kept = kept[:CODE].rpartition("\n")[0] or kept[:CODE]
        kept += "\n# the rest stands in report.json"
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", kept)), 3)
    return f"{fence}{language}\n{kept}\n{fence}"


class _Page:
    """Blocks of Markdown, as many as there is room for; tables give up rows, everything else is left out whole."""

    def __init__(self):
        self.blocks: list[str] = []
        self.end = ""
        self.room = LIMIT - RESERVE
        self.missing = False

    def fits(self, *lines: str) -> bool:
        return sum(len(line.encode()) + 2 for line in lines) <= self.room

    def add(self, block: str) -> bool:
        if not self.fits(block):
            self.missing = True
            return False
        self.blocks.append(block)
        self.room -= len(block.encode()) + 2
        return True

    def table(
        self,
        head: tuple[str, ...],
        rows: Iterable[tuple[str, ...]],
        left_out: int = 0,
        before: str = "",
        after: str = "",
    ) -> None:
        """A table between `before` and `after`, with as many rows as fit; `left_out` rows were cut already."""
        lines, rows = [_row(head), _row(("---",) * len(head))], list(rows)
        room = self.room - len(before.encode()) - len(after.encode()) - 120
        for i, row in enumerate(rows):
            line = _row(row)
            if sum(len(kept.encode()) + 1 for kept in [*lines, line]) > room:
                left_out += len(rows) - i
                break
            lines.append(line)
        if len(lines) == 2:
            self.missing = True
            return
        more = f"{left_out:,} more in report.json." if left_out else ""
        self.add("\n\n".join(part for part in (before, "\n".join(lines), more, after) if part))

    def details(self, title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
        """A collapsed table; nothing if it has no rows."""
        rows = list(rows)
        if rows:
            self.table(head, rows, 0, f"<details><summary>{html.escape(title)}</summary>", "</details>")

    def last(self, line: str) -> None:
        self.end = line

    def text(self) -> str:
        cut = ["Shortened to what a comment holds; report.json has all."] if self.missing else []
        return "\n\n".join([*self.blocks, *cut, *([self.end] if self.end else [])]) + "\n"


def _cause(page: _Page, cause: CauseResult) -> None:
    page.add(f"### Cause: {code(cause.id)}, proven")
    page.add(text(cause.summary))
    if cause.where:
        page.add(f"Where: {_codes(cause.where)}")
    if cause.proof is not None:
        _proof(page, cause.proof)
    page.add(f"**Fix.** {text(cause.fix.text)}")
    if cause.fix.code.strip():
        page.add(block(cause.fix.code))


def _proof(page: _Page, proof: Proof) -> None:
    how = "same batch, same random numbers, one change" if proof.kind == "trial" else "by inspection"
    page.add(f"**Proof** ({how}){f': {text(proof.change)}' if proof.change else ''}")
    before, after = proof.before, proof.after
    rows: list[tuple[str, str, str]] = []
    if before.learned is not None or after.learned is not None:
        rows.append(("learned, of 1", words.learned(before.learned), words.learned(after.learned)))
    if before.loss or after.loss:
        for said, i in (("first loss", 0), ("last loss", -1)):
            rows.append((said, *(words.number(s.loss[i]) if s.loss else "–" for s in (before, after))))
        rows.append(("steps", *(words.number(len(s.loss)) for s in (before, after))))
    for said, name in (("best constant", "best_constant"), ("floor", "floor")):
        values = [getattr(s, name) for s in (before, after)]
        if any(v is not None for v in values):
            rows.append((said, *map(words.number, values)))
    names = list(dict.fromkeys([*before.numbers, *after.numbers]))
    for name in names[:NUMBERS]:
        rows.append(
            (text(name, NAME), *(_value(s.numbers[name]) if name in s.numbers else "–" for s in (before, after)))
        )
    rows.append(("in words", text(before.summary), text(after.summary)))
    page.table(("", "as it is", "with the change"), rows, len(names[NUMBERS:]))


def _checks(page: _Page, d: Diagnosis) -> None:
    if not d.checks:
        return
    page.add(f"### Checks: {words.tally(d)}")
    doubtful = [c for c in words.by_severity(d.checks) if c.status in ("fail", "warn")]
    if doubtful:
        page.table(("", "check", "what was found"), map(_check, doubtful))


def _check(check: CheckResult) -> tuple[str, str, str]:
    return f"{MARKS[check.status]} {check.status}", code(check.id), text(check.summary)


def _details(page: _Page, d: Diagnosis) -> None:
    others = [c for c in d.causes if not c.proven]
    page.details(
        f"Other causes considered: {len(others)}",
        ("cause", "", ""),
        (
            (code(c.id), "ruled out" if c.refuted else f"suspected {words.learned(c.score)}", text(c.summary))
            for c in others
        ),
    )
    measured = [
        (c, e) for c in words.by_severity(d.checks) if c.status in ("fail", "warn") for e in c.evidence if e.expected
    ]
    page.details(
        "Evidence of the checks that failed or warned",
        ("check", "measured", "where", "value", "expected"),
        (
            (code(c.id), text(f"{e.name} [{e.unit}]" if e.unit else e.name, NAME), code(e.where), _value(e.value),
             text(e.expected, NAME))
            for c, e in measured[:100]
        ),
    )  # fmt: skip
    page.details(
        f"All checks: {words.tally(d)}",
        ("", "check", "what was found", "time"),
        ((*_check(c), words.seconds(c.seconds)) for c in words.by_severity(d.checks)),
    )
    page.details(
        f"Not checked: {len(d.unchecked)}",
        ("", "reason"),
        ((code(u.id), text(u.reason)) for u in d.unchecked),
    )
    answers = words.by_certainty(d.checklist)
    page.details(
        f"But could it be …? {len(answers)} causes: {words.checklist(d)}",
        ("", "cause", "why"),
        ((f"{MARKS[words.ANSWERS[a.answer]]} {a.answer}", code(a.id), text(a.reason)) for a in answers),
    )
    about = d.subject
    facts = {
        "source": about.source,
        "model": about.model,
        "loss": about.loss,
        "optimizer": about.optimizer,
        "batch": about.batch,
    }
    page.details(
        "Settings and environment",
        ("", ""),
        (
            (text(name, NAME), _value(value))
            for name, value in [*facts.items(), *about.settings.items(), *d.environment.items()]
            if value != ""
        ),
    )


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _value(value: Value) -> str:
    return text(words.value(value), NAME)


def _codes(names: list[str], most: int = PLACES) -> str:
    return words.listed([code(name) for name in names], most)
