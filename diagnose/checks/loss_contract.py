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
batch given twice over is twice or four times as large, to one per cent: a sum over rows, or over pairs. Other ratios
belong to losses that compare rows with each other, and pass.

## What to do
Give prediction and target one shape; take the last activation out of the model; use `reduction="mean"`.

## Source
PyTorch's `CrossEntropyLoss`, `BCEWithLogitsLoss` and `MSELoss` documentation; the notes' checklist, items 1, 3 and 4.
"""

import math

import torch
from torch import Tensor

from diagnose.changes import BroadcastWatch
from diagnose.checks import Check, Evidence, EvidenceList, Judgement, stated
from diagnose.errors import NotApplicable, SubjectError
from diagnose.lab import Lab
from diagnose.stats import floats

EXACT = 0.01  # a sum over rows doubles and one over pairs of rows quadruples, up to rounding
LOST = 0.1  # share of the way from the best constant to the floor that confined outputs may cost


class LossContract(Check):
    """Looks at one call of the loss: shapes, ranges, reduction."""

    stage = "probe"
    order = 10
    cost = "2 forward passes, the loss some hundred times"

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
        return found

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
            return Judgement("fail", f"the loss broadcasts by accident in {broadcasts[0]}")
        kind, lost = evidence.get("outputs are"), evidence.get("lost to the confinement", default=0.0)
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
        grows = f"given twice over, the loss of the batch is {stated(ratio)} times as large"
        if math.isfinite(ratio) and not any(abs(ratio - k) <= EXACT * k for k in (2, 4)):
            return Judgement("pass", f"{told}; {grows}, as where a loss compares rows with each other")
        return Judgement("warn", f"the loss grows with the batch: {grows}")
