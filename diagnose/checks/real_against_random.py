"""Learning comes from the inputs and the labels: on random ones nothing is learned.

## What it does
Trains a copy on the labels of the fixed batch with inputs that are noise of the same mean and spread, drawn anew at
every step; and a copy on its inputs with labels that are permuted anew at every step, unless the targets are all the
same, or all different integers (the index of a row, as contrastive tasks carry it), or the loss does not read them.
Nothing can be learned in either, beyond the best constant. Both are compared with the trial on the real batch.

## Why it matters
The notes: "train on random noise [...] training looks the same. Something is very wrong".

## How it is judged
Fails if the real batch is learned no better than noise (by at least 0.3 of the scale); or if more than 0.3 is learned
from noise, which means that the answer reaches the model another way. Fresh noise keeps memorising out of it: on a
fixed batch of noise any net with enough capacity learns.

## What to do
If nothing is learned from the real batch, read the causes. If noise is learned, look for the target in the inputs, or
for a loss that does not read its target.

## Source
Zhang et al. 2017, "Understanding deep learning requires rethinking generalization"; the notes, D1 and D17.
"""

import math

import torch

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, amount
from diagnose.checks._numbers import number
from diagnose.checks._probing import no_labels, reads_target
from diagnose.checks._recorded import series
from diagnose.errors import NotApplicable, SubjectError
from diagnose.lab import Lab
from diagnose.stats import floats, replaced, tensors
from diagnose.trial import WINDOW

STEPS = 60
MARGIN = 0.3


class RealAgainstRandom(Check):
    """Trials on fresh noise and on freshly permuted labels, against the real batch."""

    stage = "trial"
    order = 50
    cost = "120 steps on 16 rows"

    def measure(self, lab: Lab) -> EvidenceList:
        inputs = (
            getattr(lab.learn.dls, "n_inp", max(len(lab.batch) - 1, 1)) if isinstance(lab.batch, (tuple, list)) else 1
        )
        if not isinstance(lab.batch, (tuple, list)) or inputs >= len(lab.batch):
            raise NotApplicable("the loader gives no target beside the inputs")
        generator = torch.Generator().manual_seed(lab.seed)
        found = EvidenceList([Evidence(name="learned from the real batch", value=lab.baseline.learned, unit="share")])
        real, targets = tuple(lab.batch[:inputs]), tuple(lab.batch[inputs:])
        lab.say("real against random: noise as inputs")
        noisy = [(*noise_like(real, generator), *targets) for _ in range(STEPS)]
        found += self._curve(lab, noisy, "noise inputs")
        whole = any(t.shape[0] != lab.rows for t in tensors(targets) if t.ndim)
        if whole or no_labels(targets) or not reads_target(lab):
            return found
        lab.say("real against random: permuted labels")
        orders = [torch.randperm(lab.rows, generator=generator) for _ in range(STEPS)]
        permuted = [(*real, *replaced(targets, [_taken(t, o) for t in tensors(targets)])) for o in orders]
        return EvidenceList([*found, *self._curve(lab, permuted, "permuted labels")])

    def _curve(self, lab: Lab, batches: list, name: str) -> EvidenceList:
        try:
            trial = lab.trial(batches=batches, steps=STEPS, scale=lab.scale, stop_at=math.inf, record=True)
        except SubjectError as e:
            raise NotApplicable(f"the subject raised on {name}: {e}") from e
        tail = trial.loss[-2 * WINDOW :]
        learned = lab.scale.learned(sum(tail) / len(tail)) if tail else math.nan
        norms = series(trial, "gradient_norm")
        return EvidenceList(
            [
                Evidence(name=f"learned from {name}", value=learned, unit="share", expected=f"<= {MARGIN}"),
                Evidence(name=f"loss on {name}", value=trial.loss, unit="loss", where="every step"),
                Evidence(name=f"mean gradient norm on {name}", value=sum(norms) / len(norms) if norms else math.nan),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        real, noise = number(evidence, "learned from the real batch"), number(evidence, "learned from noise inputs")
        labels = (
            number(evidence, "learned from permuted labels") if evidence.all("learned from permuted labels") else None
        )
        if math.isnan(noise) and (labels is None or math.isnan(labels)):
            return Judgement("skip", "not measured")
        told = f"learned {amount(real)} of the real batch, {amount(noise)} from noise"
        told += f", {amount(labels)} with permuted labels" if labels is not None else ""
        if any(v is not None and v > MARGIN for v in (noise, labels)):
            return Judgement("fail", f"{told}: the answer reaches the model without them (at most {MARGIN:.0%})")
        worst = max(v for v in (noise, labels, 0.0) if v is not None and not math.isnan(v))
        if not real - worst >= MARGIN:
            return Judgement("fail", f"{told}: real data look no better than random (needed {MARGIN:.0%} more)")
        return Judgement("pass", told)


def noise_like(real: tuple, generator: torch.Generator) -> tuple:
    """Inputs of the same shape without their content: normal noise of the same mean and spread in place of numbers, and
    integers drawn from those that occur at the same place of other rows: a column keeps its categories."""
    new = []
    for t in tensors(real):
        if t.is_floating_point():
            mean, std = t.float().mean(), t.float().std()
            new.append((torch.randn(t.shape, generator=generator).to(t.device) * std + mean).to(t.dtype))
        else:
            picks = torch.randint(t.shape[0], t.shape, generator=generator) if t.ndim else None
            new.append(t if picks is None else t.gather(0, picks.to(t.device)))
    return tuple(replaced(real, new)) if floats(real) or tensors(real) else real


def _taken(t: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return t[order.to(t.device)] if t.ndim else t
