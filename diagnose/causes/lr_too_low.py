"""The learning rate is too low: a higher one learns the same batch.

## What it is
Steps so short that the weights barely move over the whole trial.

## Why it stops learning
Nothing is wrong with the direction; there would have to be thousands of times as many steps.

## How it is found
The learning-rate ladder: a rung above the configured rate learns, the configured one less than 0.1; and the weights
moved by less than 0.001 of their size in the one-batch trial.

## How it is proven
The same batch, the same random numbers, as many steps, at the higher rate: learned, and at the configured rate not.

## How to fix
    learn.lr = 1e-3          # the rung that the report names

## What it looks like but is not
A small rate for fine-tuning a pretrained body moves the weights slowly on purpose: it moves them by more than 0.001
in 200 steps (1e-5 with Adam moves typical weights by several per cent), and is left alone.

## Source
The notes' checklist, item 6; real failures F6 and F22 (10 steps at 1e-5 moved the weights by 0.12 %).
"""

import math

from diagnose.causes import Findings, Suspicion
from diagnose.causes._rung import LADDER, RungCause
from diagnose.checks import amount

BARELY = 1e-3  # ‖Δw‖/‖w‖ over the trial


class LrTooLow(RungCause):
    """Suspected when a rung above the configured rate learns and this one barely moves the weights."""

    verb = "Raise"
    questions = (6,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        power = findings.value(LADDER, "powers of ten to the best rung", 0)
        here = findings.value(LADDER, "learned at the configured rate", math.nan)
        best = findings.value(LADDER, "learned at the best rung", math.nan)
        moved = findings.value("weight-change", "weights moved by", math.nan)
        if not (power > 0 and best >= 0.3 and here < 0.1 and moved < BARELY):
            return None
        rate, rung = findings.value(LADDER, "configured rate"), findings.value(LADDER, "best rung")
        reason = f"{rate} moves the weights by {moved:.1g} and learns {amount(here)}; {rung} learns {amount(best)}"
        return Suspicion(0.9, reason, [f"lr={rate}"], {"factor": 10.0**power})
