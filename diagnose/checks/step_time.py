"""A training step spends its time on the model, not on waiting for data.

## What it does
Trains a copy on the subject's own loader for up to 23 steps and takes the time of each part: waiting for the batch and
moving it to the device; forward pass and loss; backward pass; optimizer step. Medians after three steps of warm-up;
on CUDA every part ends with a synchronisation.

## Why it matters
A device that waits for data is paid for and idle, and a faster model or a larger device changes nothing.

## How it is judged
It passes and says how the time divides. From half of the step on it says that the device waits for data: that costs
time and hinders no learning. There is no warning, since on small models the wait is all there is.

## What to do
See `loader-throughput` for the number of workers; decode and resize once, in advance; move transforms to the device.

## Source
PyTorch's "Performance Tuning Guide" (asynchronous data loading); the notes of 9/11 to 9/13.
"""

import math

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._numbers import count, number
from diagnose.lab import Lab
from diagnose.runtime import PARTS, step_times

WAITS = 0.5  # share of the step spent on waiting for data from which it is said


class StepTime(Check):
    """Takes the time of the parts of a step."""

    stage = "trial"
    order = 80
    cost = "up to 23 steps on the subject's own loader, at most about 6 s"
    extra = True

    def measure(self, lab: Lab) -> EvidenceList:
        times = step_times(lab)
        found = [Evidence(name="seconds", value=getattr(times, part), unit="s", where=part) for part in PARTS]
        return EvidenceList(
            [
                *found,
                Evidence(name="seconds a step", value=times.total, unit="s"),
                Evidence(name="share spent on data", value=times.data / max(times.total, 1e-12), unit="share"),
                Evidence(name="seconds to the first batch", value=times.first, unit="s"),
                Evidence(name="steps", value=times.steps, unit="steps"),
                Evidence(name="rows", value=times.rows),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        total, share = number(evidence, "seconds a step"), number(evidence, "share spent on data")
        if not (math.isfinite(total) and math.isfinite(share)):
            return Judgement("skip", "not measured")
        parts = ", ".join(f"{part} {1000 * number(evidence, 'seconds', part):.3g} ms" for part in PARTS)
        told = f"{1000 * total:.3g} ms a step of {count(number(evidence, 'rows'))} rows: {parts}"
        return Judgement(
            "pass", f"{told}; the device waits for data {share:.0%} of the time" if share >= WAITS else told
        )
