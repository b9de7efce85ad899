"""Two evaluation passes over one batch give the same bits.

## What it does
Scores the fixed batch twice in evaluation mode: in two fresh copies under different random seeds, and twice in the same
copy. A difference between the copies comes from random numbers, one between the passes of one copy from state that a
pass leaves behind. Notes every drop-out that runs with `training=True` although the model is in evaluation mode.

## Why it matters
A validation score that changes from pass to pass hides what training does, and a drop-out that never ends costs every
prediction.

## How it is judged
Warns if the outputs differ and a drop-out ran in evaluation mode, or if a value is not a number. Differences up to
1e-5 of the largest output are rounding. Other differences pass and are told: a variational model samples, and a
recurrent one carries its state, on purpose.

## What to do
Call `F.dropout(x, p, self.training)`, or use nn.Dropout as a module of the model.

## Source
PyTorch documentation, "Reproducibility" and torch.nn.functional.dropout, whose `training` is True by default.
"""

import math

import torch
from torch.overrides import TorchFunctionMode

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed, stated
from diagnose.checks._numbers import number, texts
from diagnose.checks._probing import largest_move
from diagnose.errors import NotApplicable
from diagnose.isolate import seed_everything
from diagnose.lab import Lab

ROUNDING = 1e-5  # of the largest output


class DeterministicEval(Check):
    """Scores one batch twice, in evaluation mode."""

    stage = "probe"
    order = 10
    cost = "3 forward passes"

    def measure(self, lab: Lab) -> EvidenceList:
        model, watch = lab.twin().model, _DropoutWatch()
        first = lab.forward(model)
        model.eval()
        seed_everything(lab.seed + 1)
        try:
            with torch.no_grad():
                with watch:
                    other = model(*lab.xb)
                seed_everything(lab.seed + 1)
                again = model(*lab.xb)
        except Exception as e:
            raise NotApplicable(f"another pass over the batch raised {type(e).__name__}: {e}") from e
        return EvidenceList(
            [
                Evidence(
                    name="difference", value=largest_move(first, other), unit="share", where="other seed", expected="0"
                ),
                Evidence(name="difference", value=largest_move(other, again), unit="share", where="second pass"),
                Evidence(name="drop-out in evaluation mode", value=sorted(watch.seen), expected="none"),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        seed, again = number(evidence, "difference", "other seed"), number(evidence, "difference", "second pass")
        dropped = texts(evidence, "drop-out in evaluation mode")
        if not evidence.all("difference"):
            return Judgement("skip", "not measured")
        if math.isnan(seed) or math.isnan(again):
            return Judgement(
                "warn", f"two passes cannot be compared: they differ by {stated(seed)} and {stated(again)}"
            )
        if seed == again == 0:
            return Judgement("pass", "two evaluation passes give the same bits (difference 0)")
        if max(seed, again) <= ROUNDING:
            return Judgement("pass", f"evaluation passes differ by {stated(max(seed, again), 2)}, which is rounding")
        if dropped:
            told = f"evaluation passes differ by {stated(max(seed, again), 2)} of the largest output"
            return Judgement("warn", f"{told}: {listed(dropped)} runs in evaluation mode")
        if seed > ROUNDING:
            return Judgement(
                "pass", f"the model draws random numbers in evaluation mode: {stated(seed, 2)} of its output"
            )
        return Judgement("pass", f"a pass leaves state behind: the next differs by {stated(again, 2)} of the output")


class _DropoutWatch(TorchFunctionMode):
    "Notes drop-out that is told to train."

    def __init__(self):
        super().__init__()
        self.seen: set[str] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if "dropout" in name and "attention" not in name:
            names = ("input", "p", "training", "inplace")
            given = {**dict(zip(names, args)), **kwargs}
            rate = given.get("p", 0.5)
            if given.get("training", given.get("train", True)) and isinstance(rate, float) and rate > 0:
                self.seen.add(name.strip("_"))
        return func(*args, **kwargs)
