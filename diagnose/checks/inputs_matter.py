"""Every input moves the output.

## What it does
In evaluation mode, replaces all inputs by those of other rows with noise added, then each of several inputs alone, and
measures how far the output moves. Weights are jittered by a hundredth first, so that a zero-initialised layer hides
nothing. An input that is the same in every row (a mask of ones) cannot be swapped and is not judged. Where nothing
moves, the outputs of all layers are compared: the last one that moves is named, and the next one, which does not.

## Why it matters
A forward pass that reads a variable of the notebook instead of its argument, or drops one of its inputs, trains without
an error and learns nothing from what it never sees.

## How it is judged
Fails if replacing the whole batch moves no bit of the output. Warns if it moves it by less than 1e-6 of its largest
value, the size of rounding, or if one of several inputs moves nothing at all. Healthy subjects move by 0.007 or more.

## What to do
Read the forward pass: does it use its arguments, and all of them? If layers see them, look at the place that is named:
between two layers it is the code of a `forward`, a layer that is named alone answers alike whatever it is given.

## Source
Karpathy 2019, "A Recipe for Training Neural Networks" (input-independent baseline); real failure F3 of the notes: the
forward pass read a global.
"""

import math

import torch
from torch import Tensor

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed, stated
from diagnose.checks._numbers import as_number, by_place, number
from diagnose.checks._probing import jittered, largest_move
from diagnose.checks._reach import reach
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import replaced, tensors

ROUNDING = 1e-6  # of the largest output: what a batched kernel may differ by


class InputsMatter(Check):
    """Replaces the inputs, all and one by one."""

    stage = "probe"
    order = 15
    cost = "2 forward passes, 1 for each of several inputs, and 2 more if nothing moves"

    def measure(self, lab: Lab) -> EvidenceList:
        parts = tensors(lab.xb)
        if not parts:
            raise NotApplicable("the model gets no tensor")
        generator = torch.Generator().manual_seed(lab.seed)
        other = [_other_rows(t, generator) for t in parts]
        if all(o is None for o in other):
            raise NotApplicable("every input is the same in every row: there is nothing to replace it by")
        model = jittered(lab)
        still = lab.forward(model)
        whole = replaced(lab.xb, [o if o is not None else t for t, o in zip(parts, other)])
        moved = largest_move(still, lab.forward(model, whole))
        found = EvidenceList([Evidence(name="output moved by", value=moved, unit="share", where="all inputs")])
        if moved == 0 and (ends := reach(lab, model, whole)) is not None:
            found.append(Evidence(name="moved last", value=ends.moved or "no layer"))
            found.append(Evidence(name="lost", value=ends.place))
            found.append(Evidence(name="lost inside a layer", value=ends.inside))
        alike = [self._title(lab, i) for i, o in enumerate(other) if o is None]
        found.append(Evidence(name="the same in every row", value=alike))
        if len(parts) > 1:
            found += [self._one(lab, model, still, parts, i, o) for i, o in enumerate(other) if o is not None]
        return found

    def _one(self, lab: Lab, model, still, parts: list[Tensor], i: int, other: Tensor) -> Evidence:
        new = [other if k == i else t for k, t in enumerate(parts)]
        try:
            moved: float | str = largest_move(still, lab.forward(model, replaced(lab.xb, new)))
        except NotApplicable as e:  # inputs that belong together, such as tokens and their lengths
            moved = str(e)
        return Evidence(name="output moved by", value=moved, unit="share", where=self._title(lab, i), expected="> 0")

    def _title(self, lab: Lab, i: int) -> str:
        titles = lab.task.titles() if lab.task else []
        return titles[i] if i < len(titles) else f"input {i + 1}"

    def judge(self, evidence: EvidenceList) -> Judgement:
        whole = number(evidence, "output moved by", "all inputs")
        if evidence.get("output moved by", "all inputs") is None:
            return Judgement("skip", "not measured")
        if whole == 0:
            told = "replacing the whole batch moves the output by 0: it does not depend on its inputs"
            place, last = evidence.get("lost"), evidence.get("moved last")
            if isinstance(place, str) and place:
                within = "in " if evidence.get("lost inside a layer") is True else ""
                told += f"; the change gets as far as {last}, and is lost {within}{place}"
            return Judgement("fail", told)
        if not whole > ROUNDING:
            told = f"replacing the whole batch moves the output by {stated(whole, 2)} of its size"
            return Judgement("warn", f"{told}, no more than rounding ({ROUNDING:g})")
        single = {w: v for w, v in by_place(evidence, "output moved by").items() if w != "all inputs"}
        told = {e.where for e in evidence.all("output moved by") if isinstance(e.value, str)}
        judged = {w: v for w, v in single.items() if w not in told}
        silent = [w for w, v in judged.items() if not v > 0]
        moves = f"replacing the whole batch moves the output by {stated(whole, 2)} of its size"
        if silent:
            least = stated(as_number(judged[silent[0]]), 2)
            return Judgement("warn", f"{moves}, but replacing {listed(silent)} moves it by {least}")
        if not judged:
            return Judgement("pass", moves)
        least = min(judged, key=lambda w: judged[w] if not math.isnan(judged[w]) else -math.inf)
        return Judgement("pass", f"{moves}; each of {len(judged)} inputs does, {least} least ({judged[least]:.2g})")


def _other_rows(t: Tensor, generator: torch.Generator) -> Tensor | None:
    "Rows of the same input in another order, numbers with noise added; None if that would change nothing."
    if t.ndim < 1 or t.shape[0] < 2 or not t.numel() or bool((t == t[:1]).all()):
        return None
    rolled = t.roll(1, 0)
    if not t.is_floating_point():
        return rolled
    noise = torch.randn(t.shape, generator=generator).to(t.device)
    return (rolled.float() + noise * t.float().std()).to(t.dtype)
