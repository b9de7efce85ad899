"""What the commands `evaluate` and `study` share: lists in options, and progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

from diagnose.errors import DiagnoseError
from sslwang.commands._progress import bars

if TYPE_CHECKING:
    from sslwang.evaluate import Plan

INPUTS, UNFREEZE, METHODS = ("standardised", "normalised"), ("all", "gradual", "none"), ("knn", "probe", "finetune")


def listed(option: str, text: str, kind: Callable[[str], Any] = str) -> tuple:
    """Values with commas between them.

    Raises:
        DiagnoseError: one is no number where numbers are asked for, or there is none.
    """
    try:
        values = tuple(kind(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise DiagnoseError(f"{option} {text}: write {what} with commas between them") from None
    if not values:
        raise DiagnoseError(f"{option}: nothing given; write values with commas between them")
    return values


def one_of(option: str, value: str, known: tuple[str, ...]) -> str:
    """A value that is one of those that are known.

    Raises:
        DiagnoseError: it is not.
    """
    if value not in known:
        raise DiagnoseError(f"{option} {value}: not known; one of {', '.join(known)}")
    return value


def plan_of(
    methods: str, fractions: str, seeds: str, size: int | None, inputs: str, steps: int, unfreeze: str, balanced: bool,
    draws: int, device: str, jobs: int, changed_code: bool,
) -> Plan:  # fmt: skip
    """A plan from the options of a command.

    Raises:
        DiagnoseError: an option that cannot be read.
    """
    from diagnose.subject import pick_device
    from sslwang.evaluate import Plan, Tuning

    return Plan(
        tuple(one_of("--methods", m, METHODS) for m in listed("--methods", methods)),
        listed("--fractions", fractions, float),
        listed("--seeds", seeds, int),
        size,
        None if inputs == "auto" else one_of("--inputs", inputs, INPUTS),
        Tuning(steps, one_of("--unfreeze", unfreeze, UNFREEZE), balanced),
        draws,
        str(pick_device(device)),
        jobs,
        changed_code,
    )


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar with the time left on stderr, anew for every thing that is counted; where nobody watches a line a step."""
    console = Console(stderr=True)
    if not console.is_terminal:
        began = time.monotonic()
        yield lambda what, done, total: print(
            f"[{time.monotonic() - began:6.0f} s] {done} of {total}  {what}", file=sys.stderr, flush=True
        )
        return
    with bars(console) as shown:
        state: dict[str, Any] = {"bar": None, "of": (0, -1)}

        def tell(what: str, done: int, total: int) -> None:
            before, of = state["of"]
            if state["bar"] is None or total != of or done < before:
                state["bar"] = shown.add_task(what, total=total, completed=done)
            shown.update(state["bar"], completed=done, description=what)
            state["of"] = (done, total)

        yield tell


def resuming() -> None:
    """What is said when the work is interrupted."""
    Console(stderr=True).print(
        "sslwang: interrupted; what is finished is kept, the same command goes on with the rest", style="red"
    )
