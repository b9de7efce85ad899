"""The outputs can become as large as the loss wants them.

## What it does
Where the fixed batch is not learned: looks whether the trained copy's outputs stay within [-1, 1] and come near its
ends, and stay there with all parameters times ten, as cosines do; and computes the least loss of any outputs that are
confined so.

## Why it matters
The score of a class as a cosine (features and class vectors of length 1) is at most 1. Cross-entropy of ten classes is
0.8 at best then, and its gradient never fades: without a factor before the loss (a temperature) nothing is ever sure.

## How it is judged
Warns if outputs of up to 1 learn at most 0.8 of the batch, and ten times as large ones a tenth more: 0.65 and 1.0 for
cosines of ten classes. Regression within [-1, 1] loses nothing by the confinement, and passes.

## What to do
Multiply the scores by 10 to 30, or by a number that is learned (its logarithm is the parameter).

## Source
Wang et al. 2017, "NormFace", eq. 6 (a lower bound of the loss of normalised scores, and the scale that lifts it);
Radford et al. 2021, "Learning transferable visual models from natural language supervision" (1 / 0.07, learned).
"""

import torch
from torch import Tensor

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, amount
from diagnose.checks._numbers import number
from diagnose.checks.loss_contract import LOST
from diagnose.errors import NotApplicable
from diagnose.isolate import twin
from diagnose.lab import Lab
from diagnose.trial import LEARNED, least_loss

NEAR, OVER = 0.8, 1.001  # of the outputs' largest magnitude: near the end of [-1, 1], and not beyond it
LARGER = 10.0
PLACES = ("after the trial", "with all parameters times ten")


class OutputBounds(Check):
    """Least loss of outputs that are confined to [-1, 1], where those of the model are."""

    stage = "trial"
    order = 14
    cost = "the loss, a few hundred times over; only where the batch is not learned"

    def measure(self, lab: Lab) -> EvidenceList:
        if lab.baseline.is_learned:
            raise NotApplicable("the batch is learned: its outputs become as large as they must")
        if kind := lab.scale.confined:
            raise NotApplicable(f"a {kind} confines them: see loss-contract")
        copy, model = lab.twin(), twin(lab.baseline.learner).model
        output = lab.predicted(copy, lab.forward(model, training=True))
        if not isinstance(output, Tensor) or not output.is_floating_point() or not output.numel():
            raise NotApplicable("the output is no tensor of numbers")
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(LARGER)
        largest = [float(t.abs().max()) for t in (output, lab.predicted(copy, lab.forward(model, training=True)))]
        found = EvidenceList(
            [
                Evidence(name="largest output", value=size, where=where, expected=f"<= {OVER:g} if confined")
                for where, size in zip(PLACES, largest)
            ]
        )
        if not NEAR <= largest[0] <= OVER or not largest[1] <= OVER:
            return found
        for bound in (1.0, LARGER):
            least = least_loss(
                lambda z, bound=bound: lab.loss_of(copy, bound * torch.tanh(z[0])), [torch.zeros_like(output).float()]
            )
            reach = lab.scale.learned(least)
            found.append(Evidence(name="within reach", value=reach, unit="share", where=f"outputs up to {bound:g}"))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        largest, scaled = (number(evidence, "largest output", where) for where in PLACES)
        if evidence.get("largest output", PLACES[0]) is None:
            return Judgement("skip", "not measured")
        if not NEAR <= largest <= OVER or not scaled <= OVER:
            told = f"outputs go up to {largest:.3g}, and to {scaled:.3g} with parameters times {LARGER:g}"
            return Judgement("pass", f"{told}: not confined to [-1, 1]")
        here, larger = (number(evidence, "within reach", f"outputs up to {b:g}") for b in (1.0, LARGER))
        told = f"outputs go up to {largest:.3g}: within [-1, 1] {amount(here)} of the batch can be learned"
        if here < LEARNED and larger - max(here, 0.0) >= LOST:
            return Judgement("warn", f"{told}, within ten times that {amount(larger)}")
        return Judgement("pass", told)
