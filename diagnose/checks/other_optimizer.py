"""Another optimizer, at the best rate of its own ladder, learns no more.

## What it does
Learns the fixed batch with Adam if the subject uses SGD, and with SGD with momentum if it uses anything else, at each
of four rates ten times apart, and takes the best.

## Why it matters
SGD needs a rate that fits the scale of the loss and of the layers; Adam divides both out. If Adam alone learns, it is a
matter of scale.

## How it is judged
Warns if less than 0.8 of the batch is learned as it is, and 0.3 more with the other optimizer. It only locates a fault,
and never fails.

## What to do
Compare with the learning-rate ladder: a rate that is wrong looks the same.

## Source
Kingma & Ba 2015, "Adam"; Bengio 2012, "Practical recommendations", 3.1.
"""

import math
from functools import partial

from fastai.learner import Learner
from fastai.optimizer import SGD, Adam

from diagnose.changes import Change
from diagnose.checks import Evidence, EvidenceList
from diagnose.checks._comparison import ComparedTrial
from diagnose.errors import NotApplicable
from diagnose.isolate import optimizer_name
from diagnose.lab import Lab

RATES = {"Adam": (1e-4, 1e-3, 1e-2, 1e-1), "SGD": (1e-3, 1e-2, 1e-1, 1.0)}
STEPS = 60


class OtherOptimizer(ComparedTrial):
    """Adam for SGD, SGD for anything else, at four rates."""

    order = 76
    cost = "4 times 60 steps on 16 rows"

    def measure(self, lab: Lab) -> EvidenceList:
        other = "Adam" if "sgd" in optimizer_name(lab.learn).lower() else "SGD"
        learned: dict[float, float] = {}
        for rate in RATES[other]:
            lab.say(f"other optimizer: {other} at {rate:g}")
            learned[rate] = lab.trial(_optimizer(other, rate), steps=STEPS, scale=lab.scale).learned
        best = max(learned, key=lambda r: -math.inf if math.isnan(learned[r]) else learned[r])
        return EvidenceList(
            [
                Evidence(name="change", value=f"{other} at {best:g}, the best of {len(learned)} rates"),
                Evidence(name="learned", value=lab.baseline.learned, unit="share", where="as it is"),
                Evidence(name="learned", value=learned[best], unit="share", where="changed"),
                *(Evidence(name="learned", value=v, unit="share", where=f"{other} {r:g}") for r, v in learned.items()),
            ]
        )


def _optimizer(name: str, rate: float) -> Change:
    def apply(twin: Learner) -> None:
        if callable(getattr(twin.opt_func, "clear_state", None)):
            raise NotApplicable("opt_func is an optimizer that was already built: it cannot be exchanged on a copy")
        twin.opt, twin.opt_func = None, Adam if name == "Adam" else partial(SGD, mom=0.9)
        twin.lr = rate
        twin.create_opt()

    return Change(f"{name} at {rate:g}", apply)
