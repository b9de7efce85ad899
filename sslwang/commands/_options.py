"""What options of several commands mean: settings of a task, and lists of numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from diagnose.errors import DiagnoseError

SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the task.")]


def named(pairs: Iterable[str] | None, option: str = "--set") -> dict[str, str]:
    """Settings by dotted name, from NAME=VALUE.

    Raises:
        DiagnoseError: one has no "=".
    """
    pairs = list(pairs or ())
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise DiagnoseError(f"{option} {wrong[0]}: write NAME=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


def whole_numbers(option: str, text: str, least: int | None = None) -> list[int]:
    """Different whole numbers from "5,20", in that order.

    Raises:
        DiagnoseError: there is none, or one that is no whole number or below `least`.
    """
    try:
        found = list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise DiagnoseError(f"{option} {text}: write whole numbers with commas between them") from None
    if least is not None and min(found) < least:
        raise DiagnoseError(f"{option} {text}: {min(found)} is below {least}")
    return found
