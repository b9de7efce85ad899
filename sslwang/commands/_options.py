"""Options of several commands, and what they mean: settings of a task, and lists of numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from diagnose.errors import DiagnoseError

SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the task.")]
MethodsOption = Annotated[str, typer.Option(help="Of knn, probe and finetune.")]
FractionsOption = Annotated[str, typer.Option(help="Of the labels, each class alike.")]
LabelledSizeOption = Annotated[
    int | None, typer.Option(min=8, help="Pixels of labelled images; those of the pretraining if not given.")
]
BalancedOption = Annotated[bool, typer.Option("--balanced/--as-is", help="Fine-tune with classes drawn equally often.")]
DrawsOption = Annotated[
    int, typer.Option(min=1, help="Choices of labels a seed that knn and probe are averaged over; cheap.")
]
JobsOption = Annotated[int, typer.Option(min=1, help="Processes of one thread each; 1 stays in one.")]
ChangedCodeOption = Annotated[
    bool, typer.Option("--changed-code", help="Keep what other code has computed; the page says so.")
]


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
