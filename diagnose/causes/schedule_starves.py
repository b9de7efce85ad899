"""The learning-rate schedule spends the run at a rate too small to learn, or ends before learning starts.

## What it is
A schedule written for another number of epochs, a warm-up that is longer than the run, an annealing that is over after
a hundredth of it, a factor where a rate was meant.

## Why it stops learning
The rate that was configured never reaches the optimizer: what steps it is a fraction of it, or zero.

## How it is found
The schedules of the Learner's own `ParamScheduler` callbacks are played: half of the plan or more is spent below a
hundredth of the learning rate that is configured (a rate a hundred times too small moves the weights of 200 steps as
far as 2 steps would).

## How it is proven
The same trial at the constant configured rate, over as many steps: learned, and under the schedule not.

## How to fix
    learn.fit_one_cycle(10, lr_max=3e-3)         # a schedule that is stretched over the run

## What it looks like but is not
A warm-up from zero, one cycle, cosine annealing: each spends most of the run near its rate, and is learned.
Schedules that are handed to `fit` do not exist before the call and are not seen.

## Source
Smith 2018, "A disciplined approach to neural network hyper-parameters"; the notes' checklist, item 6.
"""

import math

from fastai.callback.schedule import ParamScheduler
from fastai.learner import Learner

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import by_place, evidence
from diagnose.changes import Change
from diagnose.checks._calls import is_number
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "schedule"
FRACTION, SHARE = 0.01, 0.5


class ScheduleStarves(Cause):
    """Suspected when a schedule keeps the rate far below the configured one for half of the plan."""

    explains = ("lr-too-low", "lr-too-high")
    questions = (6,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        rates = [v for v in by_place(findings, "optimizer-settings", "lr").values() if 0 < v < math.inf]
        if not rates:
            return None
        for e in evidence(findings, CHECK).all("scheduled value"):
            values = [v for v in e.value if is_number(v)] if isinstance(e.value, list) else []
            if e.where != "lr" or not values or not all(math.isfinite(v) for v in values):
                continue
            starved = sum(v < FRACTION * max(rates) for v in values) / len(values)
            if starved >= SHARE:
                reason = (
                    f"the scheduled rate is below a hundredth of the configured {max(rates):.3g} for {starved:.0%} of "
                    f"the plan (at most {max(values):.3g})"
                )
                return Suspicion(0.95, reason, ["ParamScheduler"])
        return None

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        def apply(twin: Learner) -> None:
            twin.remove_cbs([cb for cb in twin.cbs if isinstance(cb, ParamScheduler)])

        return Change("constant learning rate, without the schedule", apply, "learn.remove_cb(ParamScheduler)")

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Take the schedule out, or stretch it over the run, so that most steps are near the configured rate.",
            code="learn.remove_cb(ParamScheduler)\nlearn.fit_one_cycle(epochs, lr_max=learn.lr)",
        )
