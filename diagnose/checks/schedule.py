"""The plan makes steps, and its schedule gives them a learning rate.

## What it does
Counts the optimizer steps of one epoch from the loader (its length, batch size, the rows that `drop_last` leaves out)
and plays the schedules of the Learner's own `ParamScheduler` callbacks from the first step to the last. Schedules that
are handed to `fit`, `fit_one_cycle` or `fine_tune` do not exist before the call and are not seen.

## Why it matters
An "epoch" of one batch is one step: twenty epochs are twenty steps, and no net learns in twenty steps. A loader with
fewer rows than one batch and `drop_last` trains on nothing, and fastai reports a loss of NaN without an error.

## How it is judged
Fails if an epoch makes no step, or if a scheduled value is negative or not a number. Warns if the scheduled learning
rate is zero for more than half of the plan. Everything else is stated: how many steps one epoch makes, and how many
epochs 200 steps take, the length of this tool's own trial.

## What to do
Think in steps, not epochs. Smaller batches, or more epochs; `drop_last=False` for a tiny subset.

## Source
Real failure F6 of the notes: experiments of 6 to 20 steps, judged as "does not learn".
"""

import math
from typing import Any

from fastai.callback.schedule import ParamScheduler
from fastai.callback.training import GradientAccumulation

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._calls import is_number
from diagnose.errors import NotApplicable
from diagnose.isolate import loaders
from diagnose.lab import Lab
from diagnose.trial import STEPS

POINTS = 41  # of the plan at which schedules are read
ZERO = 0.5  # share of the plan that may go by at a learning rate of zero


class Schedule(Check):
    """Counts steps and plays schedules."""

    stage = "inspection"
    order = 40
    cost = "no pass"

    def measure(self, lab: Lab) -> EvidenceList:
        loader = loaders(lab.learn)[0]
        try:
            batches = len(loader)
        except Exception as e:
            raise NotApplicable(f"the training loader does not tell its length ({type(e).__name__})") from e
        found = EvidenceList([Evidence(name="batches an epoch", value=batches, unit="steps", expected=">= 1")])
        items, size = getattr(loader, "n", None), getattr(loader, "bs", None) or getattr(loader, "batch_size", None)
        if items is None:
            items = _length(getattr(loader, "dataset", None))
        if items is not None and size:
            found.append(Evidence(name="rows", value=int(items)))
            found.append(Evidence(name="batch size", value=int(size)))
            left = int(items) - batches * int(size) if getattr(loader, "drop_last", False) else 0
            found.append(Evidence(name="rows left out of each epoch", value=max(left, 0)))
            for cb in lab.learn.cbs:
                if isinstance(cb, GradientAccumulation):
                    found.append(Evidence(name="batches a step", value=max(math.ceil(cb.n_acc / int(size)), 1)))
        for cb in lab.learn.cbs:
            if isinstance(cb, ParamScheduler):
                found += _played(cb)
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        batches = evidence.get("batches an epoch")
        if not is_number(batches) or math.isnan(batches):
            return Judgement("skip", "not measured")
        rows = evidence.get("rows")
        if batches < 1:
            return Judgement("fail", f"an epoch makes 0 steps: {rows} rows, batch size {evidence.get('batch size')}")
        wrong, idle, told = [], [], []
        for e in evidence.all("scheduled value"):
            values = [v for v in e.value if is_number(v)] if isinstance(e.value, list) else []
            if not values:
                continue
            if any(not math.isfinite(v) or v < 0 for v in values):
                wrong.append(f"{e.where} {min(values):g}")
            elif e.where == "lr" and (zero := sum(v == 0 for v in values) / len(values)) > ZERO:
                idle.append(f"{zero:.0%}")
            else:
                told.append(f"{e.where} {values[0]:.3g} to {max(values):.3g} to {values[-1]:.3g}")
        if wrong:
            return Judgement("fail", f"a scheduled value is negative or not finite: {listed(wrong)}")
        if idle:
            return Judgement(
                "warn", f"the scheduled learning rate is 0 for {listed(idle)} of the plan, at most {ZERO:.0%}"
            )
        each = evidence.get("batches a step")
        steps = batches / each if is_number(each) and each >= 1 else batches
        epochs = math.ceil(STEPS / steps) if 0 < steps < math.inf else 1
        summary = f"{steps:.4g} steps an epoch, so that {STEPS} steps take {epochs} epochs"
        left = evidence.get("rows left out of each epoch")
        summary += f"; {left} of {rows} rows left out of each epoch" if left else ""
        return Judgement("pass", summary + (f"; scheduled: {listed(told)}" if told else ""))


def _played(cb: ParamScheduler) -> EvidenceList:
    "Every schedule of a callback at points of the plan; of several groups the first."
    found = EvidenceList()
    for name, schedule in cb.scheds.items():
        try:
            values = [schedule(i / (POINTS - 1)) for i in range(POINTS)]
            numbers = [float(v if is_number(v) else next(iter(v))) for v in values]
        except Exception as e:
            found.append(Evidence(name="schedule could not be played", value=type(e).__name__, where=name))
            continue
        found.append(Evidence(name="scheduled value", value=numbers, where=name))
    return found


def _length(thing: Any) -> int | None:
    try:
        return len(thing)
    except Exception:
        return None
