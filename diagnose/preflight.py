"""`PreflightGate`: no training starts without a valid pass.

learn.fit(100, cbs=PreflightGate("reports/train-build/2026-11-24T09-30-00"))  # this pass must hold
learn.fit(100, cbs=PreflightGate("reports"))               # any pass below that folder that holds
learn.fit(100, cbs=PreflightGate("reports", examine=True)) # examines if none holds, goes on if it passes
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from fastai.callback.core import Callback

from diagnose import gate
from diagnose.examination import examine
from diagnose.identity import Identity, code_of, identity
from diagnose.report import runs, write_run
from diagnose.subject import from_learner
from diagnose.task import Task


class PreflightGate(Callback):
    """Before the first training batch, the Learner as it stands must have been examined and passed: else `GateRefused`.

    It asks once, before the first training of this Learner; validating and predicting need no pass.

    Args:
        runs: a run folder, or a folder of runs, whose newest pass that holds is taken.
        max_age: "7d", "12h", ...; None for no bound.
        allow_warn: accept a verdict of "warn".
        examine: examine on the spot if no pass holds; the run is written into `runs`.
        budget: seconds of that examination.
        task: the registered task that the Learner came from, if any.
        modules: of the builder, as at the examination, beside those that define the parts of the Learner.

    Attributes:
        granted: the pass that holds, once it was asked for.
    """

    order = -100  # before any callback that prepares the fit
    _default = "learn"

    def __init__(
        self,
        runs: Path | str = "reports",
        max_age: str | None = None,
        allow_warn: bool = False,
        examine: bool = False,
        budget: float | None = 60.0,
        task: Task | None = None,
        modules: Iterable[ModuleType] = (),
    ):
        super().__init__()
        self.runs, self.allow_warn, self.examine, self.budget = Path(runs), allow_warn, examine, budget
        self.max_age = None if max_age is None else gate.age(max_age)
        self.task, self.modules = task, tuple(modules)
        self.granted: gate.Pass | None = None
        self._open = False

    def __deepcopy__(self, memo: dict) -> PreflightGate:
        twin = type(self)(self.runs, None, self.allow_warn, False, self.budget, self.task)
        twin._open = True  # a copy trains in an examination, which is what a pass is made of
        memo[id(self)] = twin
        return twin

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k not in ("learn", "modules")} | {"modules": ()}

    def before_train(self) -> None:
        """Ask, unless it was asked before. `before_fit` would be the name for it, but fastai fires that for validating
        and predicting too."""
        if self._open or hasattr(self.learn, "lr_finder"):  # trying rates out is no training: it is undone
            return
        now = identity(self.learn, self.task, self.modules)
        try:
            program = code_of(self.learn, self.task, [*self.modules, sys.modules["__main__"]])
            self.granted = gate.find(runs.finished(self.runs), now, self.max_age, self.allow_warn, program)[1]
        except gate.GateRefused:
            if not self.examine:
                raise
            self.granted = self._examined(now)
        self._open = True

    def _examined(self, now: Identity) -> gate.Pass:
        subject = from_learner(self.learn)
        diagnosis = examine(subject, budget=self.budget)
        content = gate.issue(diagnosis, now)
        if content is not None:
            diagnosis.files[gate.PASS] = content
        folder = write_run(diagnosis, self.runs)
        return gate.verify(folder, now, self.max_age, self.allow_warn)
