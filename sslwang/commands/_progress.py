"""Bars with the time left on standard error."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def bars(console: Console | None = None, transient: bool = False, shares: bool = False) -> Progress:
    """What is done, how much of it, for how long and for how long yet, by the speed of the last ten minutes.

    Args:
        console: standard error if not given.
        transient: nothing of them stays when they end.
        shares: how much is done in percent, where steps are no numbers for people.
    """
    count = TaskProgressColumn() if shares else MofNCompleteColumn()
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), count, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    console = console or Console(stderr=True)
    return Progress(*columns, console=console, transient=transient, speed_estimate_period=600)
