"""The diagnosis in a terminal: what a tired person needs at midnight, plain where the output is no terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from rich.box import ASCII, ROUNDED
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from diagnose.diagnosis import CauseResult, CheckResult, Diagnosis, Proof, Side
from diagnose.report import words
from diagnose.report.compare import Comparison, sections
from diagnose.report.curves import Curve, Frame, frame
from diagnose.report.runs import Run

COLOURS = {"pass": "green", "warn": "yellow", "fail": "red", "skip": "bright_black"}
SIGNS = {"pass": "✓", "warn": "!", "fail": "✗", "skip": "–"}
SIGNS_ASCII = {"pass": "+", "warn": "!", "fail": "x", "skip": "-"}
BLOCKS, BLOCKS_ASCII = "▁▂▃▄▅▆▇█", "_.-=+*%#"
SPELLED = str.maketrans(
    {"…": "...", "–": "-", "×": "x", "→": "->", "≥": ">=", "≤": "<=", "‖": "|", "Δ": "d", "µ": "u", "·": ","}
)
SPARK = 24  # characters
HEADROOM = 0.25  # eight heights are few: the line ends a little above the best constant
MOST_PASSED = 12  # passing checks with a row of their own; of more than that, half
PLACES = 6  # places of a cause that are named
NAMES = 26  # characters of the column of ids
WIDE = 120  # columns from which on a history shows when and of what a run was beside its path, which says both


def render(diagnosis: Diagnosis, console: Console, run_dir: Path | None = None) -> None:
    """Print the diagnosis.

    Args:
        run_dir: the folder that holds the report files, named at the end.
    """
    _Terminal(console).diagnosis(diagnosis, run_dir)


def line(check: CheckResult, console: Console) -> Text:
    """One finished check, cut at the width of the terminal."""
    writer = _Terminal(console)
    head = writer.text(f"{writer.signs[check.status]} {check.id}", COLOURS[check.status])
    told = writer.join(head, writer.text(" ".join(check.summary.split())))
    told.truncate(console.width, overflow="crop" if writer.ascii else "ellipsis")
    return told


def comparison(found: Comparison, console: Console) -> None:
    """Print what changed between two runs."""
    _Terminal(console).comparison(found)


def history(runs: Iterable[Run], console: Console) -> None:
    """Print past runs, a row each, in the order given."""
    _Terminal(console).history(list(runs))


def spark(curve: Curve, low: float, high: float, width: int = SPARK, blocks: str = BLOCKS) -> str:
    """A loss curve in one line; `×` where it is not finite, the top block where it leaves the axis."""
    count = len(curve.values)
    cells = []
    for i in range(min(width, count)):
        bucket = curve.values[i * count // min(width, count) : (i + 1) * count // min(width, count)]
        finite = [v for v in bucket if math.isfinite(v)]
        if not finite:
            cells.append("×" if blocks == BLOCKS else "!")
            continue
        mean = min(max(math.fsum(v / len(finite) for v in finite), low), high)
        cells.append(blocks[min(int((mean - low) / (high - low) * len(blocks)), len(blocks) - 1)])
    return "".join(cells)


class _Terminal:
    """Prints onto one console. All goes through `text`, which neither reads markup nor obeys control characters."""

    def __init__(self, console: Console):
        self.console = console
        self.ascii = console.options.ascii_only
        self.signs = SIGNS_ASCII if self.ascii else SIGNS
        self.blocks = BLOCKS_ASCII if self.ascii else BLOCKS

    def text(self, text: str, style: str = "") -> Text:
        kept = words.safe(text)
        if self.ascii:
            kept = kept.translate(SPELLED).encode("ascii", "replace").decode()
        return Text(kept, style)

    def join(self, *parts: Text, gap: str = "  ") -> Text:
        return Text(gap).join(parts)

    def print(self, *parts: Text, indent: int = 0) -> None:
        self.console.print(Padding(self.join(*parts), (0, 0, 0, indent), expand=False), highlight=False)

    def heading(self, title: str, *rest: Text) -> None:
        self.console.print()
        self.print(self.text(title, "bold"), *rest)

    def diagnosis(self, d: Diagnosis, run_dir: Path | None) -> None:
        self.banner(d)
        proven = [c for c in d.causes if c.proven]
        for cause in proven:
            self.cause(cause)
        self.others([c for c in d.causes if not c.proven])
        self.checks(d)
        self.checklist(d)
        self.unchecked(d)
        self.footer(d, run_dir)

    def banner(self, d: Diagnosis) -> None:
        colour = COLOURS[d.verdict]
        head = self.join(
            self.text(f"{self.signs[d.verdict]} {d.verdict.upper()}", f"bold {colour}"),
            self.text(d.subject.name, "bold"),
        )
        lines = [head, self.text(d.summary or words.VERDICTS[d.verdict])]
        if d.partial:
            lines.append(self.text("Interrupted: this is what had been done by then.", "yellow"))
        box = ASCII if self.ascii else ROUNDED
        self.console.print(Panel(Text("\n").join(lines), box=box, border_style=colour, padding=(0, 1)), highlight=False)

    def cause(self, cause: CauseResult) -> None:
        self.heading("Cause", self.text(cause.id, "bold red"), self.text("proven"))
        self.print(self.text(cause.summary), indent=2)
        if cause.where:
            self.print(self.text("where", "bold"), self.text(words.listed(cause.where, PLACES)), indent=2)
        if cause.proof is not None:
            self.proof(cause.proof)
        self.heading("Fix")
        self.print(self.text(cause.fix.text), indent=2)
        if cause.fix.code.strip():
            self.console.print()
            for line in cause.fix.code.strip("\n").splitlines():  # never wrapped: it is there to be copied
                self.console.print(self.text("    " + line, "cyan"), soft_wrap=True, highlight=False)

    def proof(self, proof: Proof) -> None:
        how = "same batch, same random numbers, one change" if proof.kind == "trial" else "by inspection"
        self.heading("Proof", self.text(how), *([self.text(proof.change, "bold")] if proof.change else []))
        laid_out = frame(proof.before, proof.after, HEADROOM)
        drawn = bool(proof.before.loss or proof.after.loss)
        self.side("as it is", proof.before, laid_out.before, laid_out, drawn, "red")
        self.side("with the change", proof.after, laid_out.after, laid_out, drawn, "green")
        if any(s.learned is not None for s in (proof.before, proof.after)):
            self.print(
                self.text("learned: 0 = no better than the best constant output, 1 = all there is to learn", "dim"),
                indent=2,
            )

    def side(self, name: str, side: Side, curve: Curve, laid_out: Frame, drawn: bool, colour: str) -> None:
        head = [self.text(f"{name:<15}", "bold")]
        if side.learned is not None:
            head.append(self.text(f"learned {words.learned(side.learned):>5}", f"bold {colour}"))
        if drawn:
            line = spark(curve, laid_out.low, laid_out.high, blocks=self.blocks)
            head.append(Text(line, colour) if line else self.text("no steps", "dim"))
            head.append(self.text(_ends(side.loss)))
        self.print(*head, indent=2)
        if side.summary:
            self.print(self.text(side.summary), indent=4)

    def others(self, causes: list[CauseResult]) -> None:
        if not causes:
            return
        self.heading("Other causes considered")
        table = self.table(NAMES, None)
        for cause in causes:
            said = self.text(cause.summary)
            if cause.refuted:
                state = self.text("ruled out", "dim")
                said = self.join(self.text("The change made no difference."), said, gap=" ")
            else:
                state = self.text(f"suspected {words.learned(cause.score)}", "yellow")
            table.add_row(Text("\n").join([self.text(cause.id, "bold"), state]), said)
        self.show(table)

    def checks(self, d: Diagnosis) -> None:
        if not d.checks:
            return
        self.heading("Checks", self.text(words.tally(d)))
        table = self.table(6, NAMES, None, 10)
        table.columns[0].no_wrap = True
        table.columns[3].no_wrap = True
        table.columns[3].justify = "right"
        brief = self.brief(d)
        for check in words.by_severity(d.checks):
            if check.id in brief:
                continue
            colour = COLOURS[check.status]
            table.add_row(
                self.text(f"{self.signs[check.status]} {check.status}", f"bold {colour}"),
                self.text(check.id),
                self.text(check.summary),
                self.text(words.seconds(check.seconds), "dim"),
            )
        if brief:
            sign = self.text(f"{self.signs['pass']} pass", f"bold {COLOURS['pass']}")
            table.add_row(sign, self.text(f"{len(brief)} more"), self.text(", ".join(brief)), self.text(""))
        self.show(table)

    def checklist(self, d: Diagnosis) -> None:
        if not d.checklist:
            return
        self.heading("But could it be …?", self.text(f"{len(d.checklist)} causes: {words.checklist(d)}"))
        doubtful = [a for a in d.checklist if a.answer == "no" and a.reason.startswith("looks like it")]
        table = self.table(NAMES, None)
        for answer in doubtful:
            table.add_row(self.text(answer.id), self.text(answer.reason, "dim"))
        if doubtful:
            self.show(table)

    def brief(self, d: Diagnosis) -> list[str]:
        """Ids of passing checks that are named in one row; those that took the longest have rows of their own, and
        those that say why what looks ill is not.

        Forty sentences that all is well hide the one that matters.
        """
        passed = [c for c in d.checks if c.status == "pass"]
        if len(passed) <= MOST_PASSED:
            return []
        shown = {c.id for c in sorted(passed, key=lambda c: -c.seconds)[: MOST_PASSED // 2]}
        return [c.id for c in passed if c.id not in shown and not c.summary.startswith("looks like ")]

    def table(self, *widest: int | None) -> Table:
        """A borderless table; each column may be as wide as given, or take what is left."""
        table = Table.grid(padding=(0, 2, 0, 0))
        for most in widest:
            table.add_column(overflow="fold", max_width=most)
        return table

    def show(self, table: Table) -> None:
        self.console.print(Padding(table, (0, 0, 0, 2), expand=False), highlight=False)

    def comparison(self, found: Comparison) -> None:
        old, new = str(found.verdict.old), str(found.verdict.new)
        shown = [new] if old == new else [old, new]
        verdicts = [self.text(f"{self.signs[v]} {v.upper()}", f"bold {COLOURS[v]}") for v in shown]
        self.print(self.join(*verdicts, gap=" -> "), self.text(str(found.subject.new), "bold"))
        if found.subject.old != found.subject.new:
            self.print(self.text(f"The old run is of another subject: {found.subject.old}", "yellow"))
        self.print(self.text(found.summary))
        if found.partial:
            said = "One of the runs was interrupted: what is missing may only not have been reached."
            self.print(self.text(said, "yellow"))
        for section in sections(found):
            self.heading(section.title)
            table = self.table(None, None, None)
            table.add_row(self.text(""), self.text("old", "dim"), self.text("new", "dim"))
            for name, was, now in section.rows:
                table.add_row(self.text(name), self.text(was), self.text(now, "bold"))
            self.show(table)
            if section.left_out:
                self.print(self.text(f"{section.left_out:,} more: --format json", "dim"), indent=2)

    def history(self, runs: list[Run]) -> None:
        wide = self.console.width >= WIDE
        table = Table.grid(padding=(0, 2, 0, 0))
        heads = [*(["when", "subject"] if wide else []), "verdict", "cause", "learned", "time", "run"]
        for head in heads:
            right, whole = head in ("learned", "time"), head in ("when", "verdict", "learned", "time")
            table.add_column(justify="right" if right else "left", no_wrap=whole, overflow="fold")
        table.add_row(*(self.text(head, "dim") for head in heads))
        for run in runs:
            table.add_row(*self.past(run, wide))
        self.console.print(table, highlight=False)

    def past(self, run: Run, wide: bool) -> list[Text]:
        path = self.text(str(run.path))
        when = [self.text(run.when.strftime("%Y-%m-%d %H:%M:%S"))] if wide else []
        if run.trouble:
            subject = [self.text(_short(run.path.parent.name), "bold")] if wide else []
            broken = [self.text("broken", "yellow"), self.text(run.trouble), self.text(""), self.text("")]
            return [*when, *subject, *broken, path]
        subject = [self.text(_short(run.subject), "bold")] if wide else []
        verdict = self.text(f"{self.signs[run.verdict]} {run.verdict}", f"bold {COLOURS[run.verdict]}")
        cause = self.text(_short(run.cause))
        if run.partial:
            cause = self.join(self.text("interrupted", "yellow"), *([cause] if run.cause else []), gap=", ")
        return [
            *when,
            *subject,
            verdict,
            cause,
            self.text(words.learned(run.learned)),
            self.text(words.seconds(run.seconds), "dim"),
            path,
        ]

    def unchecked(self, d: Diagnosis) -> None:
        if not d.unchecked:
            return
        self.heading("Not checked", self.text(str(len(d.unchecked))))
        table = self.table(NAMES, None)
        alike: dict[str, list[str]] = {}
        for item in d.unchecked:
            alike.setdefault(item.reason, []).append(item.id)
        for reason, ids in alike.items():
            if len(ids) > 2:
                table.add_row(self.text(f"{len(ids)} checks"), self.text(f"{reason}: {', '.join(ids)}"))
            else:
                for id in ids:
                    table.add_row(self.text(id), self.text(reason))
        self.show(table)

    def footer(self, d: Diagnosis, run_dir: Path | None) -> None:
        budget = "" if d.budget is None else f" of {words.seconds(d.budget)} allowed"
        self.console.print()
        self.print(self.text(f"{words.seconds(d.seconds)}{budget}, seed {d.seed}", "dim"))
        if run_dir is not None:
            where = self.join(self.text("Report", "bold"), self.text(str(run_dir / "report.html")))
            self.console.print(where, soft_wrap=True, highlight=False)


def _short(name: str, most: int = 32) -> str:
    """A name that keeps its row one line."""
    name = " ".join(name.split())
    return name if len(name) <= most else f"{name[: most - 3]}..."


def _ends(loss: list[float]) -> str:
    return f"{words.number(loss[0], 3)} -> {words.number(loss[-1], 3)}" if loss else ""
