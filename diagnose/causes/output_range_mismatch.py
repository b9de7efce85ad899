"""The last activation cannot reach the targets.

## What it is
A ReLU before targets of which half are negative, a tanh before targets beyond 1, a sigmoid before a regression; cosines
as the scores of classes, without a factor before the loss.

## Why it stops learning
The answers lie where the model cannot go. A ReLU that is driven below zero there has no gradient and stays at zero.

## How it is found
The activation that ends the model, read off the autograd graph, and what it puts out of reach: outputs are optimised
with and without it, and more than a tenth of the distance from the best constant to the floor is lost. For a sigmoid
the targets must lie outside [0, 1] too: inside, what is lost is lost to a second activation in the loss. Or the outputs
of the trained copy stay within [-1, 1], and the loss wants them larger (`output-bounds`).

## How it is proven
The same trial with the last call of that activation left out, or with outputs times 16: learned, and as it is not.

## How to fix
    learn.model = learn.model[:-1]               # the last layer of a regression is linear
    y_range=(y.min(), y.max())                   # or a sigmoid that is stretched over the targets

## What it looks like but is not
A ReLU for counts and a sigmoid for shares reach all of their targets. A ReLU before cross-entropy: only differences
between outputs count there.

## Source
The notes' checklist, item 3; Goodfellow et al. 2016, 6.2.2; Wang et al. 2017, "NormFace".
"""

import math
from collections.abc import Callable
from typing import Any

from fastai.learner import Learner
from torch import nn
from torch.overrides import TorchFunctionMode

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import by_place, number, text, texts
from diagnose.changes import Change, larger_outputs
from diagnose.checks.loss_contract import LOST
from diagnose.checks.loss_fits_targets import TWICE
from diagnose.checks.output_bounds import LARGER, OVER
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.trial import LEARNED

CHECK, BOUNDS = "loss-fits-targets", "output-bounds"
RANGES = {"Relu": "[0, ∞)", "Tanh": "[-1, 1]", "Sigmoid": "[0, 1]"}
FACTOR = 16.0  # by which cosines are multiplied: about 1 / 0.07
BEYOND = 0.01  # outside [0, 1], beyond rounding


class OutputRangeMismatch(Cause):
    """Suspected when the last activation puts targets out of reach."""

    explains = (
        "head-too-weak",
        "loss-double-activation",
        "lr-too-high",
        "lr-too-low",
        "init-constant",
        "output-collapse",
    )
    questions = (3,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        chain = texts(findings, CHECK, "last activations")
        if not chain and text(findings, "loss-contract", "outputs are") == "sigmoid":
            chain = ["Sigmoid"]
        if not chain or chain[0] not in RANGES or tuple(chain[:2]) in TWICE:
            return self._cosines(findings)
        low, high = number(findings, CHECK, "least target"), number(findings, CHECK, "largest target")
        lost = number(findings, CHECK, "out of reach")
        if chain[0] == "Sigmoid":
            if text(findings, "loss-contract", "outputs are") != "sigmoid" or not (low < -BEYOND or high > 1 + BEYOND):
                return None
            lost = number(findings, "loss-contract", "lost to the confinement")
        if not lost > LOST:
            return None
        reason = (
            f"{chain[0]} ends the model, which reaches {RANGES[chain[0]]}; targets go from {low:.3g} to {high:.3g}: "
            f"{min(lost, 1.0):.0%} of what could be learned is out of reach"
        )
        return Suspicion(1.0, reason, ["the model's last activation"], {"kind": chain[0]})

    def _cosines(self, findings: Findings) -> Suspicion | None:
        reach = by_place(findings, BOUNDS, "within reach")
        if not all(v <= OVER for v in by_place(findings, BOUNDS, "largest output").values()):
            return None
        here, larger = (reach.get(f"outputs up to {bound:g}", math.nan) for bound in (1.0, LARGER))
        if not here < LEARNED or not LOST <= larger - max(here, 0.0) < math.inf:
            return None
        reason = (
            f"outputs stay within [-1, 1], as cosines do, where {max(here, 0):.0%} of the batch can be learned, and "
            f"{min(larger, 1):.0%} within [-{LARGER:g}, {LARGER:g}]"
        )
        return Suspicion(0.9, reason, ["the model's output"], {"factor": FACTOR})

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        if factor := suspicion.facts.get("factor"):
            return larger_outputs(factor)
        kind = suspicion.facts["kind"].lower()
        watch = _LastLeftOut(kind, last=-1)
        model = lab.twin().model
        with watch:
            lab.forward(model)
        if not watch.calls:
            raise NotApplicable(f"the {kind} that ends the model is no call of PyTorch's own")

        def apply(twin: Learner) -> None:
            twin.model = _WithoutLast(twin.model, kind, watch.calls)

        return Change(f"the last {kind} left out", apply, f"# in forward: return the output without {kind}")

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        if "factor" in suspicion.facts:
            return Fix(
                text="Multiply the scores by a number before the loss (a temperature): 10 to 30, or a learned one.",
                code="self.log_scale = nn.Parameter(torch.tensor(2.7))\nreturn self.log_scale.exp() * scores",
            )
        kind = suspicion.facts["kind"]
        return Fix(
            text=f"Take the last {kind} out of the model, or scale the targets into {RANGES[kind]}.",
            code="learn.model = learn.model[:-1]  # the last layer of a regression is linear",
        )


class _LastLeftOut(TorchFunctionMode):
    "Counts the calls of one activation, and hands the input of call number `last` on unchanged."

    def __init__(self, kind: str, last: int):
        super().__init__()
        self.names, self.last, self.calls = (kind, f"{kind}_"), last, 0

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: dict | None = None) -> Any:
        if getattr(func, "__name__", "") in self.names and args:
            self.calls += 1
            if self.calls == self.last:
                return args[0]
        return func(*args, **(kwargs or {}))


class _WithoutLast(nn.Module):
    def __init__(self, model: nn.Module, kind: str, last: int):
        super().__init__()
        self.model, self.kind, self.last = model, kind, last

    def forward(self, *inputs: Any) -> Any:
        with _LastLeftOut(self.kind, self.last):
            return self.model(*inputs)
