"""Where the parameters are: the share of each part of the model, such as encoder and head.

## What it does
Counts the elements of all parameters in each part at the top level of the model, going down while a part has only one
child, and how many of them train.

## Why it matters
A head of nine tenths of all parameters learns a small data set by heart, and hides an encoder that learned nothing; a
head of a thousandth on a frozen encoder has little to learn with.

## How it is judged
Informative: it passes and states the shares. Which share is right depends on the task.

## What to do
Compare with the parts you believe the model to have.

## Source
The notes' checklist, items 2 and 16 (capacity, and where it sits); `Learner.summary` of fastai lists the layers alone.
"""

from torch import nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._calls import is_number
from diagnose.lab import Lab


class ParameterShare(Check):
    """Counts parameters by part."""

    stage = "inspection"
    order = 70
    cost = "no pass"

    def measure(self, lab: Lab) -> EvidenceList:
        place, model = "", lab.learn.model
        while len(parts := _parts(model)) == 1 and not any(True for _ in model.parameters(recurse=False)):
            name, model = next(iter(parts.items()))
            place = f"{place}.{name}" if place else name
        parts = {f"{place}.{n}" if place else n: m for n, m in parts.items()} or {place or "model": model}
        total = sum(p.numel() for p in lab.learn.model.parameters())
        found = EvidenceList([Evidence(name="parameters", value=total), Evidence(name="parts", value=len(parts))])
        for name, part in parts.items():
            own = list(part.parameters())
            count = sum(p.numel() for p in own)
            trains = sum(p.numel() for p in own if p.requires_grad)
            where = f"{name} ({type(part).__name__})"
            found.append(Evidence(name="share", value=count / max(total, 1), unit="share", where=where))
            found.append(Evidence(name="trainable share", value=trains / max(count, 1), unit="share", where=where))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        total = evidence.get("parameters")
        if not is_number(total) or total != total:
            return Judgement("skip", "not measured")
        shares = [(e.where, e.value) for e in evidence.all("share") if is_number(e.value)]
        told = []
        for where, share in sorted(shares, key=lambda s: -s[1] if s[1] == s[1] else 0.0):
            trains = evidence.get("trainable share", where)
            note = f", {trains:.0%} of it trains" if is_number(trains) and trains < 1 else ""
            told.append(f"{share:.1%} in {where}{note}")
        return Judgement("pass", f"{total:,} parameters" + (f": {listed(told, 4)}" if told else ""))


def _parts(module: nn.Module) -> dict[str, nn.Module]:
    "Children that have parameters."
    return {n: m for n, m in module.named_children() if any(True for _ in m.parameters())}
