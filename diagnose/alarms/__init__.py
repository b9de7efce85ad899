"""Alarms: what a run in progress is stopped for, one a file. Each reads what the gauges recorded.

An alarm is raised once a fit for each place. It becomes a log line, a row of the store's table `alarms`, and whatever
listeners make of it; `Watch(stop_on=...)` ends the fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from diagnose.gauges import Columns, Moment


@dataclass(frozen=True)
class Raised:
    """One alarm.

    Attributes:
        id: of the alarm. step: at which it was raised.
        message: one sentence with the number and what it was compared with.
        where: layer, parameter or rows; "" for the run.
    """

    id: str
    step: int
    message: str
    where: str = ""


class Alarm:
    """One thing that should not happen while a model trains.

    Attributes:
        tables: the tables it reads; it is not asked about blocks without rows in any of them.
        once: whether it is raised once a fit, whatever the place, and not asked again.
        of_bad_losses: whether `after_loss` is for losses that are not finite only.
        waits: whether `after_loss` is still of use in this fit; asked after every call.
    """

    id: ClassVar[str]
    doc: ClassVar[str]
    tables: ClassVar[tuple[str, ...]] = ()
    once: ClassVar[bool] = False
    of_bad_losses: ClassVar[bool] = False
    waits: bool = True

    def start(self, learn: Any) -> None:
        """A fit begins: forget what an earlier one showed."""

    def after_loss(self, step: int, learn: Any) -> Iterator[Raised]:
        """Asked at every step, recorded or not, when the loss is known and the weights have not moved yet; where
        `of_bad_losses`, it may be asked about others too."""
        return iter(())

    def look(self, tables: Mapping[str, Columns], moments: list[Moment], learn: Any) -> Iterator[Raised]:
        """Asked when a block of recorded steps was reduced: its columns by table."""
        return iter(())

    def raised(self, step: int, message: str, where: str = "") -> Raised:
        """An alarm of this kind."""
        return Raised(self.id, int(step), message, where)
