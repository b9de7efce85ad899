"""The terminal report: plain where it must be, and never steered by what it prints."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from datetime import datetime
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from diagnose.diagnosis import CheckResult
from diagnose.evidence import Evidence
from diagnose.report import terminal, words
from diagnose.report.compare import compare
from diagnose.report.curves import Curve
from diagnose.report.runs import Run


def printed(made, width=80, encoding="utf-8", run_dir=None, **options) -> str:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    terminal.render(made, Console(file=out, width=width, **options), run_dir)
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [80, 160, 40])
def test_no_line_is_wider_than_the_terminal(made, width):
    code = {"    " + words.safe(line) for c in made.causes for line in c.fix.code.splitlines()}
    assert all(cell_len(line) <= width for line in printed(made, width).splitlines() if line not in code)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_any_encoding_works_and_a_file_gets_no_escape(made, encoding):
    assert "\x1b" not in printed(made, encoding=encoding)


def test_a_terminal_gets_colour_unless_no_color(samples, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[1;31m" in printed(samples.failing(), force_terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "[31m" not in printed(samples.failing(), force_terminal=True)


def test_failing_says_what_where_proof_fix_and_where_the_report_lies(samples):
    text = printed(samples.failing(), run_dir=Path("reports/unmix/now"))
    for said in (
        "✗ FAIL  unmix",
        "Cause  lr-too-high  proven",
        "optimizer group 0, optimizer group 1",
        "one change  lr = 0.003 instead of 30",
        "as it is         learned  0.00",
        "with the change  learned  0.95",
        "0.71 -> NaN",
        "    learn.fit_one_cycle(10, lr_max=3e-3)  # was 30",
        "suspected 0.55",
        "ruled out",
        "✗ fail  overfit-one-batch",
        "the budget of 60 s was used up",
        "41.2 s of 60 s allowed, seed 0",
        "Report  reports/unmix/now/report.html",
    ):
        assert said in text, said
    assert text.index("✗ fail") < text.index("! warn") < text.index("– skip") < text.index("✓ pass")


def test_what_looks_ill_and_is_not_has_a_row_of_its_own_among_many_that_pass(samples):
    plain = [CheckResult(id=f"check-{i}", status="pass", summary=f"all is well {i}.", seconds=9 - i) for i in range(20)]
    odd = CheckResult(id="odd", status="pass", summary="looks like a cut; is fine because 96% is learned", seconds=0)
    text = printed(samples.diagnosis(checks=[*plain, odd]), width=160)
    assert "odd" in text
    assert odd.summary in text
    assert plain[0].summary in text  # it took the longest
    assert plain[-1].summary not in text


def test_markup_and_control_characters_are_printed_not_obeyed(samples):
    text = printed(samples.hostile(), width=300, force_terminal=True, color_system=None)
    assert "[bold red]markup[/bold red][/]" in text
    assert "\x1b[31mred" not in text
    assert "\u202e" not in text
    assert "\x07" not in text
    assert "\x9b" not in text


def test_code_is_never_wrapped(samples):
    line = "learn.fit_one_cycle(" + ", ".join(f"argument_{i}={i}" for i in range(20)) + ")"
    cause = samples.lr_too_high().model_copy(update={"fix": samples.Fix(text="Do.", code=line)})
    assert "    " + line in printed(samples.diagnosis("fail", causes=[cause])).splitlines()


def test_partial_is_marked(samples):
    assert "Interrupted" in printed(samples.interrupted())


def test_sparkline():
    nan = float("nan")
    assert terminal.spark(Curve([1.0, 0.5, 0.0, nan, 99.0]), 0.0, 1.0) == "█▅▁×█"
    assert terminal.spark(Curve([]), 0.0, 1.0) == ""
    assert len(terminal.spark(Curve([0.1] * 1000), 0.0, 1.0)) == terminal.SPARK


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0"),
        (48, "48"),
        (312451.0, "312,451"),
        (0.00012345, "0.0001234"),
        (1.5e12, "1.5e+12"),
        (float("nan"), "NaN"),
        (float("-inf"), "-inf"),
        (None, "–"),
    ],
)
def test_numbers(value, said):
    assert words.number(value) == said


def test_values_and_durations():
    assert words.value([True, 1, 0.5, "x", float("inf")]) == "yes, 1, 0.5, x, inf"
    assert words.value(None) == "–"
    assert words.value([]) == "none"
    assert words.learned(float("nan")) == "–"
    assert [words.seconds(s) for s in (0.04, 9.74, 60, 125.2, float("nan"))] == [
        "0.0 s",
        "9.7 s",
        "60 s",
        "2 min 05 s",
        "NaN",
    ]
    assert words.learned(-0.001) == "0.00"
    assert words.learned(-4e9) == "-4e+09"


# ---- a real terminal ---------------------------------------------------------------------------------------------

SCREEN = """
import sys
sys.path.insert(0, sys.argv[1])
import report_samples as samples
from rich.console import Console
from diagnose.report import terminal
from diagnose.report.compare import compare
console = Console()
terminal.render(samples.failing(), console)
terminal.comparison(compare(samples.passing(), samples.failing()), console)
console.print(terminal.line(samples.checks()[1], console))
"""


def on_a_terminal(columns: int = 80, **environment: str) -> str:
    """What a pseudo-terminal of that width receives."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {
        n: v for n, v in os.environ.items() if n not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "COLORTERM")
    }
    env = kept | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | environment
    support = Path(__file__).parents[2] / "support"
    process = subprocess.Popen(
        [sys.executable, "-c", SCREEN, support], stdin=slave, stdout=slave, stderr=slave, env=env, close_fds=True
    )
    os.close(slave)
    received = bytearray()
    try:
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # Linux says so when the last writer has gone
                break
            if not chunk:
                break
            received += chunk
        assert process.wait(timeout=60) == 0, received.decode(errors="replace")
    finally:
        process.kill()
        process.wait()
        os.close(master)
    return received.decode(env["PYTHONIOENCODING"]).replace("\r\n", "\n")


COLOUR = re.compile(r"\x1b\[[\d;]*m")


def test_a_terminal_gets_colour_and_lines_of_its_width():
    text = on_a_terminal(80)
    assert "\x1b[1;31m✗ FAIL" in text
    assert "╭─" in text
    plain = COLOUR.sub("", text)
    assert "\x1b" not in plain
    assert max(cell_len(line) for line in plain.splitlines()) <= 80


def test_a_narrow_terminal_is_served_too():
    text = COLOUR.sub("", on_a_terminal(40))
    assert max(cell_len(line) for line in text.splitlines()) <= 40 + len("    learn.fit_one_cycle(10, lr_max=3e-3)")
    assert "learn.fit_one_cycle(10, lr_max=3e-3)  # was 30" in text
    assert "FAIL" in text


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted(environment):
    text = on_a_terminal(**environment)
    assert not re.search(r"\x1b\[[\d;]*3[0-7]", text)
    assert "FAIL" in text


def test_a_terminal_that_knows_only_ascii_gets_only_that():
    text = COLOUR.sub("", on_a_terminal(PYTHONIOENCODING="ascii"))
    assert text.isascii()
    assert "x FAIL" in text
    assert "But could it be ...?" in text
    assert "+---" in text


def test_a_comparison_says_what_it_leaves_out(samples):
    def numbered(shift):
        rows = [Evidence(name=f"n{i}", value=i + shift) for i in range(60)]
        return samples.diagnosis(checks=[samples.checks()[0].model_copy(update={"evidence": rows})])

    text = compared(numbered(0), numbered(1))
    assert "20 more: --format json" in text
    assert "✓ PASS  unmix" in text


@pytest.mark.parametrize("width", [40, 80, 160])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_any_comparison_fits_and_obeys_nothing(made, samples, width, encoding):
    text = compared(made, samples.hostile(), width, encoding) + compared(samples.hostile(), made, width, encoding)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert not set("\x1b\x07\x9b\u202e") & set(text)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_check_is_one_line_however_long(made, encoding):
    for check in made.checks:
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
        console = Console(file=out, width=60)
        console.print(terminal.line(check, console))
        said = out.buffer.getvalue().decode(encoding)
        assert said.count("\n") == 1
        assert cell_len(said.rstrip("\n")) <= 60


@pytest.mark.parametrize("width", [40, 80, 160])
def test_a_history_names_the_run_at_any_width(width):
    run = Run(Path("reports/unmix/2026-11-24T10-00-00"), datetime(2026, 11, 24, 10), "unmix", "fail", "", "lr-too-high")
    broken = Run(Path("reports/unmix/2026-11-25T10-00-00"), datetime(2026, 11, 25, 10), trouble="no report.json")
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    terminal.history([broken, run], Console(file=out, width=width))
    text = out.buffer.getvalue().decode()
    assert max(cell_len(line) for line in text.splitlines()) <= width
    if width >= 80:
        assert "reports/unmix/2026-11-24T10-00-00" in text
        assert "lr-too-high" in text
        assert "no report.json" in text
    assert ("subject" in text) == (width >= terminal.WIDE)


def compared(old, new, width: int = 80, encoding: str = "utf-8") -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    terminal.comparison(compare(old, new), Console(file=out, width=width))
    return out.buffer.getvalue().decode(encoding)
