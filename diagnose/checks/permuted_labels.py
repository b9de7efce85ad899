"""True labels are learned faster than permuted ones, and hold for rows that were never seen.

## What it does
Trains one copy on several fixed batches with their labels, and another on the same batches with these labels permuted
once among all their rows, for the same steps, and evaluates both on held-out rows with true labels.

## Why it matters
Any net with enough capacity memorises permuted labels. What it gains from true ones on rows that it never saw is what
can be learned at all: if that is nothing, the labels do not belong to the inputs.

## How it is judged
Passes if the loss on the held-out rows is lower than under 98 of 100 random orders of their targets (an exact test for
any loss: p at most 0.02), or if at least 0.3 more of the training rows is learned from true labels than from permuted
ones. Warns if neither holds: they are then no better than permuted ones. Where less than 0.03 of either is learned, as
in a task that needs thousands of rows, nothing can be concluded. On digits true labels reach 0.9 and permuted ones
0.05. It locates a fault, never fails.

## What to do
Look at rows with their labels (`learn.dls.show_batch()`); compare class names and indices; look for a shuffle that
moves inputs and not labels.

## Source
Zhang et al. 2017, "Understanding deep learning requires rethinking generalization"; Arpit et al. 2017, "A closer look
at memorization" (true labels are learned faster); the notes, D1.
"""

import math

import torch

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, stated
from diagnose.checks._numbers import number
from diagnose.checks._probing import chance_of_targets, cut, joined, pieces_of, reads_target, trial_on
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import replaced, tensors
from diagnose.trial import batch_loss, measure_scale

BATCHES = 12  # of 16 rows, for training
HELD_OUT = 8
FEWEST = 8  # batches in all
STEPS = 144
MARGIN = 0.3  # of the training rows, between true and permuted labels
CHANCE = 0.02
NOTHING = 0.03  # of the training rows: below it nothing can be compared


class PermutedLabels(Check):
    """True labels against labels permuted once."""

    stage = "trial"
    order = 67
    extra = True
    cost = "288 steps on 16 rows"

    def measure(self, lab: Lab) -> EvidenceList:
        if not isinstance(lab.batch, (tuple, list)) or len(lab.batch) < 2:
            raise NotApplicable("the loader gives no target beside the inputs")
        if not reads_target(lab):
            raise NotApplicable("the loss is the same for permuted targets: it does not read them")
        inputs = getattr(lab.learn.dls, "n_inp", len(lab.batch) - 1)
        pieces = pieces_of(lab, BATCHES + HELD_OUT)
        if len(pieces) < FEWEST:
            raise NotApplicable(f"the loader gives fewer than {FEWEST * lab.rows} rows")
        held = min(HELD_OUT, len(pieces) // 2)
        held_out, true = pieces[:held], pieces[held:]
        targets = joined([tuple(piece[inputs:]) for piece in true])
        if not tensors(targets):
            raise NotApplicable("the loader gives no target beside the inputs")
        order = torch.randperm(len(true) * lab.rows, generator=torch.Generator().manual_seed(lab.seed))
        moved = cut(replaced(targets, [t[order.to(t.device)] for t in tensors(targets)]), lab.rows)
        permuted = [(*piece[:inputs], *other) for piece, other in zip(true, moved, strict=True)]
        found = EvidenceList([Evidence(name="rows", value=len(true) * lab.rows)])
        for name, batches in (("true labels", true), ("permuted labels", permuted)):
            lab.say(f"permuted labels: {name}")
            trial = trial_on(lab, batches, steps=STEPS, stop_at=math.inf)
            losses = [batch_loss(trial.learner, b, training=False) for b in held_out]
            seen = trial.loss[-len(batches) :]
            scale = measure_scale(trial.learner, held_out)
            learned = trial.scale.learned(sum(seen) / len(seen)) if seen else math.nan
            found.append(Evidence(name="learned", value=learned, unit="share", where=name))
            holds = scale.learned(sum(losses) / len(losses))
            found.append(Evidence(name="learned on held-out rows", value=holds, unit="share", where=name))
            chance = chance_of_targets(trial.learner, held_out, lab.seed)
            found.append(Evidence(name="chance of the held-out loss", value=chance, unit="p", where=name))
            found.append(Evidence(name="loss", value=trial.loss, unit="loss", where=name))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        if evidence.get("learned", "true labels") is None or evidence.get("learned", "permuted labels") is None:
            return Judgement("skip", "not measured")
        seen, unseen = (
            [number(evidence, name, f"{kind} labels") for kind in ("true", "permuted")]
            for name in ("learned", "learned on held-out rows")
        )
        chance = number(evidence, "chance of the held-out loss", "true labels")
        told = (
            f"true labels are learned to {stated(seen[0], 2)} (held-out rows {stated(unseen[0], 2)}), "
            f"permuted ones to {stated(seen[1], 2)} ({stated(unseen[1], 2)}); p = {stated(chance, 2)} on held-out rows"
        )
        if any(math.isnan(v) for v in (*seen, *unseen, chance)):
            return Judgement("skip", f"{told}; nothing to compare")
        if not max(seen) >= NOTHING:
            return Judgement("skip", f"{told}: {STEPS} steps teach neither (needed {NOTHING:g})")
        if chance <= CHANCE or seen[0] - seen[1] >= MARGIN:
            return Judgement("pass", told)
        wanted = f"needed p <= {CHANCE:g}, or {MARGIN:g} more"
        return Judgement("warn", f"{told}: true labels are no better than permuted ones ({wanted})")
