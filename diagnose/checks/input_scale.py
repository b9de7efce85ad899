"""What reaches the first layer with weights is of ordinary size: about mean 0, standard deviation 1.

## What it does
Runs the fixed batch once and looks at what goes into the first layer with weights: mean and standard deviation of each
channel (second dimension of pictures) or column. Whatever the model does itself before that, such as dividing by 255,
has been done by then.

## Why it matters
The first layer's outputs and gradients scale with its input: with raw bytes or unscaled columns the usual learning
rates are a hundred times too high for that layer. A norm layer divides the scale out again.

## How it is judged
Warns if a channel's or column's mean or standard deviation is beyond 20 and no norm layer follows anywhere: raw bytes
have about 120, standardised inputs 1, and pictures in [0, 1] less. With norm layers the numbers are said and pass: with
batch norm, inputs in [0, 1] learn as well as standardised ones (measured for real failure F25).

## What to do
`Normalize.from_stats(mean, std)` on batches of pictures, `Normalize` among the processes of a table.

## Source
LeCun et al. 1998, "Efficient BackProp", 4.3; real failure F25 of the notes; the notes' checklist, item 10.
"""

import math

import torch
from torch import Tensor, nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, stated
from diagnose.checks._numbers import number
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import floats

MOST = 20.0


class InputScale(Check):
    """Looks at what goes into the first layer with weights."""

    stage = "probe"
    order = 6
    cost = "1 forward pass"

    def measure(self, lab: Lab) -> EvidenceList:
        model = lab.twin().model
        seen: list[tuple[str, Tensor]] = []
        norms: list[str] = []

        def note(name: str, module: nn.Module, inputs: tuple) -> None:
            if _is_norm(module):
                norms.append(name)
            values = floats(inputs)
            if not seen and any(True for _ in module.parameters(recurse=False)):
                seen.append((name, values[0].detach().float() if values else torch.zeros(0)))

        hooks = [
            m.register_forward_pre_hook(lambda m, i, n=n: note(n or type(m).__name__, m, i))
            for n, m in model.named_modules()
            if not any(True for _ in m.children())
        ]
        try:
            lab.forward(model)
        finally:
            for h in hooks:
                h.remove()
        if not seen:
            raise NotApplicable("no layer with weights was called as a module")
        name, values = seen[0]
        if not values.numel():
            raise NotApplicable(f"the first layer with weights ({name}) takes no floating-point input")
        means, stds = by_channel(values)
        worst = int(torch.maximum(means.abs(), stds).argmax())
        most = f"<= {MOST:g}"
        return EvidenceList(
            [
                Evidence(name="largest mean", value=float(means.abs().max()), where=name, expected=most),
                Evidence(
                    name="largest standard deviation", value=float(stds.max()), where=name, expected=f"<= {MOST:g}"
                ),
                Evidence(name="channels or columns", value=len(means), where=name),
                Evidence(name="worst channel or column", value=worst, where=name),
                Evidence(name="norm layers that ran", value=norms),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        first = next(iter(evidence.all("largest mean")), None)
        if first is None:
            return Judgement("skip", "not measured")
        mean, std = number(evidence, "largest mean"), number(evidence, "largest standard deviation")
        worst = evidence.get("worst channel or column")
        text = f"what reaches {first.where} has means up to {mean:.3g} and standard deviations up to {std:.3g}"
        if not (math.isfinite(mean) and math.isfinite(std)):
            return Judgement("warn", f"{text}, which is not finite")
        norms = evidence.get("norm layers that ran")
        count = len(norms) if isinstance(norms, list) else 0
        if max(abs(mean), std) <= MOST:
            return Judgement("pass", text)
        if count:
            return Judgement("pass", f"{text}: large, but {stated(count)} norm layers take the scale out")
        return Judgement("warn", f"{text} (channel or column {worst}; at most {MOST:g}), and no norm layer follows")


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()


def by_channel(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of channels (four or more dimensions) or of the last dimension."""
    if values.ndim < 2:
        flat = values.reshape(-1, 1)
    elif values.ndim > 3:
        flat = values.transpose(0, 1).flatten(1).T
    else:
        flat = values.reshape(-1, values.shape[-1])
    return flat.mean(0), flat.std(0, unbiased=False)
