"""The easier versions of the task are learned, on rows that were never seen.

## What it does
Trains a copy on fresh batches of each easier version that the task declares, the easiest first, and evaluates it on
held-out batches of that version: how far the loss went from the best constant to the floor, and the task's own score.

## Why it matters
The notes: "this should be a spectacularly easy task. If it can't learn that two identical encodings are similar, then
what are we even doing here?" The easiest version that fails and the hardest that works bracket the fault.

## How it is judged
Passes if every version is learned to at least 0.3 on held-out rows, by its loss or by its score: a few rows that are
answered with too much confidence can spoil the loss of a version that is answered right in nine rows of ten. Fails if
the easiest is not; warns if a later one is not.

## What to do
If the easiest fails, the fault is in the model or its training, not in the difficulty of the task.

## Source
The notes, 8/17 (tasks ranked from easy to hard) and 9/1 (duplicated source), D2 and D3.
"""

import gc
import math

import torch

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, amount
from diagnose.checks._numbers import by_place
from diagnose.checks._probing import cut
from diagnose.errors import NotApplicable
from diagnose.lab import ROWS, Lab
from diagnose.stats import replaced, tensors
from diagnose.task import Task
from diagnose.trial import batch_loss, forward, measure_scale, prepared

STEPS = 120  # fresh batches of each version
PASSES = 2  # over them, unless enough is learned before
ENOUGH = 0.3  # of the way to the floor, on held-out rows
HELD_OUT = 2  # batches


class EasierVersions(Check):
    """Trains on fresh batches of each easier version, evaluates on held-out ones."""

    stage = "trial"
    order = 60
    cost = "50 to 240 steps on 16 rows for each easier version"

    def measure(self, lab: Lab) -> EvidenceList:
        versions = lab.task.easier() if lab.task else {}
        if not versions:
            raise NotApplicable("the task declares no easier version" if lab.task else "only a registered task has any")
        found = EvidenceList()
        for name, version in versions.items():
            lab.say(f"easier versions: {name}")
            found += self._version(lab, name, version)
            gc.collect()  # hundreds of batches hang in a cycle with the trained copy
        return found

    def _version(self, lab: Lab, name: str, version: Task) -> EvidenceList:
        both = version.loaders(lab.seed, lab.device)
        batches = _pieces(lab.read(both.train, STEPS * ROWS // both.train.bs + 1))[:STEPS]
        held_out = _pieces(lab.read(both.valid, HELD_OUT))
        trial = lab.trial(batches=batches, steps=PASSES * STEPS)
        student, scale = trial.learner, measure_scale(trial.learner, held_out)
        losses = [batch_loss(student, b, training=False) for b in held_out]
        learned = scale.learned(sum(losses) / len(losses))
        pairs = [prepared(student, b) for b in held_out]
        outputs = _joined([forward(student.model, xb) for xb, _ in pairs])
        targets = [torch.cat(parts) for parts in zip(*(yb for _, yb in pairs))]
        score = float(version.score(outputs, *targets))
        above = math.nan if version.chance is None else (score - version.chance) / (1 - version.chance)
        chance = f"best constant {version.chance:.3g}" if version.chance is not None else ""
        wanted = {"unit": "share", "expected": f">= {ENOUGH}"}
        return EvidenceList(
            [
                Evidence(name="learned on held-out rows", value=learned, where=name, **wanted),
                Evidence(name="score above the best constant", value=above, where=name, **wanted),
                Evidence(name="steps", value=len(trial.loss), unit="steps", where=name),
                Evidence(name=version.metric or "score", value=score, where=name, expected=chance),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        learned = by_place(evidence, "learned on held-out rows")
        for where, score in by_place(evidence, "score above the best constant").items():
            if where in learned and (score > learned[where] or math.isnan(learned[where])):
                learned[where] = score
        if not learned:
            return Judgement("skip", "not measured")
        told = ", ".join(f"{name} {amount(value)}" for name, value in learned.items())
        short = [name for name, value in learned.items() if not value >= ENOUGH]
        if not short:
            return Judgement("pass", f"learned on held-out rows: {told}")
        status = "fail" if short[0] == next(iter(learned)) or any(math.isnan(learned[n]) for n in short) else "warn"
        return Judgement(status, f"{short[0]} is not learned: {told} (needed {ENOUGH:.0%})")


def _joined(outputs: list) -> object:
    "Outputs of batches, tensors or structures of them, as those of one batch."
    return replaced(outputs[0], [torch.cat(parts) for parts in zip(*map(tensors, outputs))])


def _pieces(batches: list) -> list:
    return [piece for batch in batches for piece in cut(batch, ROWS)]
