"""What the commands `evaluate` and `study` share: lists in options, progress, tables, circumstances."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from diagnose.errors import DiagnoseError

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
    draws: int, device: str, jobs: int,
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
    columns = (
        BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=console) as bars:
        state: dict[str, Any] = {"bar": None, "of": (0, -1)}

        def tell(what: str, done: int, total: int) -> None:
            before, of = state["of"]
            if state["bar"] is None or total != of or done < before:
                state["bar"] = bars.add_task(what, total=total, completed=done)
            bars.update(state["bar"], completed=done, description=what)
            state["of"] = (done, total)

        yield tell


def circumstances(device: str) -> dict[str, Any]:
    """When, by which code and versions, on what machine."""
    import torch

    from diagnose.identity import packages
    from diagnose.subject import environment

    about = environment(torch.device(device))
    return {
        "date": str(datetime.datetime.now(datetime.UTC).date()),
        "commit": about["git commit"],
        "versions": packages(),
        "device": about["device"],
        "machine": f"{platform.machine()} with {os.cpu_count()} cores",
    }


def command() -> str:
    """The command line of now."""
    return shlex.join(["sslwang", *sys.argv[1:]])


def resuming() -> None:
    """What is said when the work is interrupted."""
    Console(stderr=True).print(
        "sslwang: interrupted; what is finished is kept, the same command goes on with the rest", style="red"
    )
