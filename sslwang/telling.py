"""How numbers are told to people: points with their interval, counts, and tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from sslwang.scores import Interval


def counted(number: int, what: str) -> str:
    """A number of things: `1 run`, `3 runs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def points(x: Interval, sign: bool = False, deviation: bool = False) -> str:
    """An interval of shares in points: `+6.2 (+3.1 to +9.3)`, with its deviation `+6.2 ± 1.2 (+3.1 to +9.3)`.

    Of one value the mean alone; of values that are all the same `+6.2 (3 alike)`, for of their spread nothing is known.
    """

    def one(value: float) -> str:
        rounded = round(100 * value, 1) + 0.0  # no minus before a nought
        return f"{rounded:+.1f}" if sign and rounded else f"{rounded:.1f}"

    if x.n == 1:
        return one(x.mean)
    if x.alike:
        return f"{one(x.mean)} ({x.n} alike)"
    spread = f" ± {100 * x.sd:.1f}" if deviation else ""
    return f"{one(x.mean)}{spread} ({one(x.low)} to {one(x.high)})"


def escaped(text: str) -> str:
    """Text as the cell of a Markdown table, or a line of a list, shows it."""
    return text.replace("|", "\\|")


def markdown_table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(map(escaped, cells))} |"

    return [line(heads), line(["---"] * len(heads)), *map(line, body)]
