"""Identical images get identical encodings, in training and in evaluation mode.

## What it does
Takes a batch in which one image stands in two roles bit for bit (the task says where), encodes it as the model does,
in both modes, and compares the two encodings. Different images are compared too, as a yardstick.

## Why it matters
A task of comparing images cannot be learned by an encoder that sees the same image differently in each role: batch
norm over roles that differ does that, and in evaluation mode it does not show.

## How it is judged
Passes if the largest difference is at most 1e-4 of the encodings' size in both modes, and different images differ by
more. The notes' author looked in evaluation mode only. One stacked call gives 0; one call a role under batch norm
gave 7.7.

## What to do
Encode all roles in one stacked call, or use a norm without batch statistics.

## Source
The notes, 9/3 and D4; the defect is F9 of the list of what really went wrong.
"""

import math

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._numbers import by_place
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.task import Task

SAME = 1e-4  # of the largest encoding: float32 rounding across a batched kernel stays below 1e-5


class IdenticalPairs(Check):
    """Encodes one image in two roles, in both modes."""

    stage = "probe"
    order = 60
    cost = "2 forward passes of the encoder"

    def measure(self, lab: Lab) -> EvidenceList:
        task, batch, twins = self._batch_with_twins(lab)
        model, inputs = lab.twin().model, tuple(batch[: len(lab.xb)])
        found = EvidenceList([Evidence(name="identical pairs", value=len(twins))])
        for mode in ("train", "eval"):
            model.train(mode == "train")
            codes = lab.features(task, model, inputs).float().flatten(2)
            rows, a, b = twins.T
            size = float(codes.abs().max()) or 1.0
            gap = float((codes[rows, a] - codes[rows, b]).abs().max()) / size
            apart = float((codes[rows, a] - codes[rows.roll(1), a]).abs().amax(1).median()) / size
            found.append(
                Evidence(name="difference of identical images", value=gap, where=mode, expected=f"<= {SAME:g}")
            )
            found.append(Evidence(name="difference of different images", value=apart, where=mode))
        return found

    def _batch_with_twins(self, lab: Lab):
        if lab.task is None:
            raise NotApplicable("only a registered task says which images are the same")
        candidates: dict[str, Task] = {lab.task.id: lab.task, **lab.task.easier()}
        for version in candidates.values():
            if type(version).twins is Task.twins or type(version).features is Task.features:
                continue
            batch = lab.read(version.loaders(lab.seed, lab.device).train, 1)[0]
            twins = version.twins(batch)
            if twins is not None and len(twins) > 1:
                return version, batch, twins.to(lab.device)
        raise NotApplicable("the task has no version in which one image stands in two roles")

    def judge(self, evidence: EvidenceList) -> Judgement:
        gaps = by_place(evidence, "difference of identical images")
        apart = by_place(evidence, "difference of different images")
        if not gaps:
            return Judgement("skip", "not measured")
        told = ", ".join(f"{gaps[m]:.1g} in {m} mode" for m in gaps)
        if any(not v <= SAME for v in gaps.values()):
            return Judgement("fail", f"identical images are encoded differently: {told} (at most {SAME:g})")
        if any(not apart.get(m, math.nan) > 10 * max(gaps[m], SAME) for m in gaps):
            least = min(apart.values(), default=math.nan)
            return Judgement("warn", f"different images are encoded alike too: they differ by {least:.1g}")
        return Judgement("pass", f"identical images differ by {told}; different ones by {apart.get('train', 0):.2g}")
