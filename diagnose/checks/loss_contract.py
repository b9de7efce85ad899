"""What the loss is given fits what it expects.

## What it does
Runs the loss once and looks at: tensors that broadcast by accident inside it ((n, 1) against (n,)); outputs that are
already probabilities where the loss applies its own activation; and whether the loss of a batch given twice over is
twice the loss (a sum) or the same (a mean).
Whether a loss applies an activation of its own is measured, not read off its name: the floor that outputs in [0, 1]
can reach is compared with the floor of free outputs.

## Why it matters
Each of these trains without an error message and learns little or nothing.

## How it is judged
Fails on an accidental broadcast. Fails if the outputs are confined to [0, 1] and outputs outside that range would lower
the loss by more than a tenth of the distance from the best constant to the floor: 0.00 for losses that expect
probabilities, 0.4 to 0.7 for a softmax or sigmoid applied twice (reports/thresholds.md). Warns if the loss of the
batch given twice over is twice or four times as large, to one per cent: a sum over rows, or over pairs; and passes
where the optimizer divides that out, as Adam does: its first step is as long, to one per cent, under the loss divided
by two or four. Other ratios belong to losses that compare rows with each other, and pass.

## What to do
Give prediction and target one shape; take the last activation out of the model; use `reduction="mean"`.

## Source
PyTorch's `CrossEntropyLoss`, `BCEWithLogitsLoss` and `MSELoss` documentation; the notes' checklist, items 1, 3 and 4.
"""

import math

import torch
from torch import Tensor

from diagnose.changes import BroadcastWatch, scaled_loss
from diagnose.checks import Check, Evidence, EvidenceList, Judgement, odd_but_right, stated
from diagnose.checks._numbers import number
from diagnose.errors import NotApplicable, SubjectError
from diagnose.lab import Lab
from diagnose.stats import floats

LONGER = "first step under the loss / under the loss divided by that"
EXACT = 0.01  # a sum over rows doubles and one over pairs of rows quadruples, up to rounding
LOST = 0.1  # share of the way from the best constant to the floor that confined outputs may cost


class LossContract(Check):
    """Looks at one call of the loss: shapes, ranges, reduction."""

    stage = "probe"
    order = 10
    cost = "2 forward passes, the loss some hundred times; 2 steps where it is a sum"

    def measure(self, lab: Lab) -> EvidenceList:
        copy = lab.twin()
        output = lab.output
        try:
            with BroadcastWatch() as watch, torch.no_grad():
                loss = float(lab.loss_of(copy, output))
        except NotApplicable:
            raise
        except Exception as e:
            raise SubjectError("computing the loss", e) from e
        found = EvidenceList(
            [
                Evidence(name="loss", value=loss, unit="loss", expected="finite"),
                Evidence(
                    name="accidental broadcasts",
                    value=[f"{op}: {list(a)} with {list(b)}" for op, a, b in dict.fromkeys(watch.seen)],
                    expected="none",
                ),
            ]
        )
        found += self._confined(lab)
        ratio = self._ratio_of_doubled(lab, copy, loss)
        if ratio is not None:
            found.append(Evidence(name="loss of the batch twice over / of the batch", value=ratio, expected="1"))
            if grows(ratio):
                found.append(Evidence(name=LONGER, value=self._longer(lab, ratio), expected="1"))
        return found

    def _longer(self, lab: Lab, ratio: float) -> float:
        "How much longer the optimizer's first step is than under the loss divided by `ratio`; NaN if it makes none."
        change = scaled_loss(1 / ratio, "loss divided")
        try:
            trials = [lab.trial(c, steps=1, scale=lab.scale, stop_at=math.inf) for c in (None, change)]
        except NotApplicable:
            return math.nan
        lengths = [math.hypot(*t.moved.values()) for t in trials]
        return lengths[0] / lengths[1] if lengths[1] else math.nan

    def _confined(self, lab: Lab) -> EvidenceList:
        scale, outs = lab.scale, floats(lab.output)
        found = EvidenceList([Evidence(name="outputs are", value=scale.confined or "unconfined")])
        found += [Evidence(name="least output", value=min(float(t.min()) for t in outs))]
        found += [Evidence(name="largest output", value=max(float(t.max()) for t in outs))]
        if scale.confined:
            lost = (scale.confined_floor - scale.floor) / scale.room if scale.room else math.nan
            found.append(Evidence(name="floor of confined outputs", value=scale.confined_floor, unit="loss"))
            found.append(Evidence(name="lost to the confinement", value=lost, unit="share", expected=f"<= {LOST}"))
        return found

    def _ratio_of_doubled(self, lab: Lab, copy, loss: float) -> float | None:
        outs = floats(lab.output)
        if len(outs) != 1 or outs[0] is not lab.output or not loss:
            return None
        if any(not isinstance(y, Tensor) or not y.ndim or y.shape[0] != outs[0].shape[0] for y in lab.yb):
            return None
        try:
            with torch.no_grad():
                doubled = copy.loss_func(torch.cat([outs[0]] * 2), *(torch.cat([y, y]) for y in lab.yb))
        except NotApplicable:
            raise
        except Exception:  # a loss that insists on one batch size says nothing about its reduction
            return None
        return float(doubled.float().mean()) / loss

    def judge(self, evidence: EvidenceList) -> Judgement:
        loss = evidence.get("loss", default=float("nan"))
        if not isinstance(loss, (int, float)) or loss != loss or abs(loss) == float("inf"):
            return Judgement("fail", f"the first loss is {loss}")
        if broadcasts := evidence.get("accidental broadcasts", default=[]):
            where = broadcasts[0] if isinstance(broadcasts, list) else broadcasts
            return Judgement("fail", f"the loss broadcasts by accident in {where}")
        kind, lost = evidence.get("outputs are"), evidence.get("lost to the confinement", default=0.0)
        lost = lost if isinstance(lost, (int, float)) else float("nan")
        if kind in ("sigmoid", "softmax") and not lost <= LOST:
            return Judgement(
                "fail",
                f"outputs are already a {kind} and the loss applies its own: "
                f"{stated(lost, 2)} of what could be learned is out of reach (at most {LOST})",
            )
        ratio = evidence.get("loss of the batch twice over / of the batch")
        told = f"first loss {loss:.4g}; shapes agree, outputs are {kind or 'as the loss expects'}"
        if not isinstance(ratio, (int, float)) or abs(ratio - 1) <= 0.1:
            return Judgement("pass" if ratio is None or isinstance(ratio, (int, float)) else "warn", told)
        twice = f"given twice over, the loss of the batch is {stated(ratio)} times as large"
        if math.isfinite(ratio) and not grows(ratio):
            return Judgement("pass", f"{told}; {twice}, as where a loss compares rows with each other")
        longer = number(evidence, LONGER)
        if abs(longer - 1) <= EXACT:
            fine = f"the optimizer divides that out: its step is {longer:.3f} times as long as under that loss divided"
            return odd_but_right(f"a loss that is a sum: {twice}", fine)
        return Judgement("warn", f"the loss grows with the batch: {twice}")


def grows(ratio: float) -> bool:
    """Whether the loss of a batch given twice over tells of a sum over rows, or over pairs of rows."""
    return any(abs(ratio - k) <= EXACT * k for k in (2, 4))
