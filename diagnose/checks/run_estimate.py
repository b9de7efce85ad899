"""How long an epoch will take is known before it starts, and with which batch size and workers it is shortest.

## What it does
Puts together `step-time`, `loader-throughput` and `batch-memory`: steps of an epoch, seconds of an epoch as configured
and with the best number of workers, and the smallest batch size that uses the device to nine tenths.

## Why it matters
A plan of two hundred epochs is a matter of minutes or of weeks, and a batch size that fits the device halves it.

## How it is judged
It passes and says the numbers. With workers, an epoch takes the longer of reading and computing; without, their sum.

## What to do
Set the workers and the batch size that are named; after a larger batch, look at the learning rate again.

## Source
Amdahl's law for two stages of a pipeline; the notes of 9/11 to 9/13.
"""

import contextlib
import math

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._numbers import count, number
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.runtime import LoaderRate, StepTimes, batches_per_epoch, loader_rates, memory_by_rows, step_times
from diagnose.stats import tensors


class RunEstimate(Check):
    """Puts the timings together."""

    stage = "trial"
    order = 90
    cost = "none beyond step-time, loader-throughput and batch-memory"
    extra = True

    def measure(self, lab: Lab) -> EvidenceList:
        batches = batches_per_epoch(lab)
        if not batches:
            raise NotApplicable("the training loader has no length: an epoch has no number of steps")
        times = step_times(lab)
        found = EvidenceList(
            [
                Evidence(name="steps in an epoch", value=batches, unit="steps"),
                Evidence(name="seconds a step", value=times.total, unit="s", where="as configured"),
                Evidence(
                    name="seconds per epoch", value=times.first + batches * times.total, unit="s", where="as configured"
                ),
                Evidence(
                    name="configured batch size",
                    value=max((len(t) for t in tensors(lab.whole_batch) if t.ndim), default=0),
                ),
            ]
        )
        with contextlib.suppress(NotApplicable):  # each of these two is reported by its own check
            rates = [r for r in loader_rates(lab) if not r.error]
            best = min(rates, key=lambda r: epoch_of(r, times, batches), default=None)
            if best is not None:
                found.append(Evidence(name="recommended workers", value=best.workers))
                seconds = epoch_of(best, times, batches)
                found.append(Evidence(name="seconds per epoch", value=seconds, unit="s", where=best.where))
        with contextlib.suppress(NotApplicable):
            memory = memory_by_rows(lab)
            found.append(Evidence(name="recommended batch size", value=min(memory.fastest, memory.fits)))
            found.append(Evidence(name="largest batch size that fits", value=memory.fits))
        epochs = lab.subject.settings.get("epochs")
        if isinstance(epochs, int):
            found.append(Evidence(name="planned epochs", value=epochs))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        steps, seconds = number(evidence, "steps in an epoch"), number(evidence, "seconds per epoch", "as configured")
        if not (math.isfinite(steps) and math.isfinite(seconds)):
            return Judgement("skip", "not measured")
        told = f"an epoch is {count(steps)} steps and takes about {seconds:.3g} s"
        epochs = number(evidence, "planned epochs")
        if math.isfinite(epochs):
            told += f", {epochs:.0f} epochs about {epochs * seconds:.3g} s"
        workers, size = number(evidence, "recommended workers"), number(evidence, "recommended batch size")
        if math.isfinite(workers):
            best = evidence.all("seconds per epoch")[-1]
            told += f"; with {workers:.0f} workers about {number(evidence, best.name, best.where):.3g} s"
        if math.isfinite(size):
            told += f"; rows per second level off at a batch of {size:.0f}"
        return Judgement("pass", told)


def epoch_of(rate: LoaderRate, times: StepTimes, batches: int) -> float:
    """Seconds of an epoch: reading and computing side by side with workers, one after the other without."""
    each = rate.batch if math.isfinite(rate.batch) else rate.first
    return rate.first + batches * (max(each, times.compute) if rate.workers else each + times.compute)
