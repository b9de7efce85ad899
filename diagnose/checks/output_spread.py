"""Predictions vary with the input after training on one batch.

## What it does
Measures the standard deviation of the outputs over the rows of the batch, averaged over output units, at the end of
the one-batch trial, and compares it with their size.

## Why it matters
The notes: ".67 for everything". A net that answers with a constant has at best found the last bias.

## How it is judged
Fails if the spread is below a hundredth of the outputs' mean size and the batch was not learned. An output that is
nearly constant and still learns the batch is fine: some targets are nearly constant.

## What to do
Read the causes: collapse is what it looks like, not why.

## Source
The notes' own gauge (D13): standard deviation over the batch of 0.0001 to 0.01 in every failing run.
"""

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._numbers import number
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import floats, spread
from diagnose.trial import forward

LEAST = 0.01
LEARNED_SOMETHING = 0.2


class OutputSpread(Check):
    """Spread of the outputs over the batch, before and after the one-batch trial."""

    stage = "trial"
    order = 30
    cost = "1 forward pass beyond the one-batch trial"

    def measure(self, lab: Lab) -> EvidenceList:
        trial = lab.baseline
        if lab.rows < 2:
            raise NotApplicable("the batch has one row")
        output = forward(trial.learner.model, lab.xb)
        size = sum(float(t.float().abs().mean()) for t in floats(output)) / max(len(floats(output)), 1)
        after = spread(output)
        return EvidenceList(
            [
                Evidence(name="spread before training", value=spread(lab.output)),
                Evidence(name="spread after training", value=after),
                Evidence(name="mean size of outputs", value=size),
                Evidence(name="relative spread", value=after / max(size, 1e-12), expected=f">= {LEAST}"),
                Evidence(name="learned", value=trial.learned, unit="share"),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        relative, learned = number(evidence, "relative spread"), number(evidence, "learned")
        told = f"outputs vary by {relative:.2g} of their size over the batch"
        if relative >= LEAST:
            return Judgement("pass", told)
        if learned >= LEARNED_SOMETHING:
            return Judgement("pass", f"{told}, and {learned:.0%} of the batch is learned with that")
        return Judgement("fail", f"{told} (needed {LEAST}): the model answers with a constant")
