"""Drop-out leaves enough to learn from.

## What it does
Lists the rate of every drop-out layer: PyTorch's, fastai's (`RNNDropout`, `WeightDropout`, `EmbeddingDropout`) and the
rates inside attention and recurrent layers.

## Why it matters
At a rate of p the units that stay are scaled by 1 / (1 - p), and gradients come through a share of 1 - p: close to 1
the layer is noise.

## How it is judged
Warns above 0.8, where fewer than one unit in five is left; the usual rates are 0.1 to 0.5 (Srivastava et al. 2014).
Anything lower is named and not judged: `overfit-one-batch` measures what it costs.

## What to do
Lower the rate; while you look for a fault, set it to 0.

## Source
Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", 7.3; real failure F28.
"""

import math

from torch import nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._calls import is_number
from diagnose.lab import Lab

MOST = 0.8
RATES = ("p", "dropout", "weight_p", "embed_p", "drop_prob")


class Dropout(Check):
    """Lists drop-out rates."""

    stage = "inspection"
    order = 60
    cost = "no pass"

    def measure(self, lab: Lab) -> EvidenceList:
        rates = {}
        for name, module in lab.learn.model.named_modules():
            if (
                not isinstance(module, (nn.MultiheadAttention, nn.RNNBase))
                and "drop" not in type(module).__name__.lower()
            ):
                continue
            rate = next((v for r in RATES if isinstance(v := getattr(module, r, None), (int, float))), None)
            if rate:
                rates[name or type(module).__name__] = float(rate)
        found = EvidenceList([Evidence(name="drop-out layers", value=len(rates))])
        found += [Evidence(name="rate", value=v, where=n, expected=f"<= {MOST}") for n, v in rates.items()]
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        layers = evidence.get("drop-out layers")
        if not is_number(layers) or not math.isfinite(layers):
            return Judgement("skip", "not measured")
        rates = [(e.where, e.value) for e in evidence.all("rate")]
        high = [f"{v} at {w or 'the model'}" for w, v in rates if not (is_number(v) and v <= MOST)]
        if high:
            return Judgement("warn", f"drop-out of {listed(high)}, at most {MOST} leaves one unit in five")
        told = [v for _, v in rates if not math.isnan(v)]
        if not told:
            return Judgement("pass", "no drop-out")
        least, most = min(told), max(told)
        span = f"{least:g}" if least == most else f"{least:g} to {most:g}"
        return Judgement("pass", f"{len(told)} drop-out layers, rate {span}")
