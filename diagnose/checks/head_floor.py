"""The last layer can give what the loss asks for, whatever the features before it.

## What it does
Where the fixed batch is not learned, it frees the features: numbers in the place of what the last layer is given, and
its own weights, are optimised together under the subject's own loss (L-BFGS, as the scale of the loss is). What is left
of the loss then no encoder can take away.

## Why it matters
A cosine without a scale gives scores within -1 and 1, and a softmax of those never gives more than 0.45 to one of ten
classes. Every look at features, gradients and learning rates comes out well; the answer cannot be said.

## How it is judged
Warns if less than 0.8 of the batch is within reach, the mark of a learned batch. A linear layer reaches 1.0. Asked only
where the batch is not learned, and where the last layer with weights gives the output itself, one row of features to
one row of outputs.

## What to do
Multiply a cosine by a scale of 10 or more, or a learned one; or use a linear layer.

## Source
Wang et al. 2017, "NormFace" (the bound of a softmax of cosines, proposition 2); the notes' checklist, items 2 and 17.
"""

from typing import Any

import torch
from torch import Tensor

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, amount
from diagnose.checks._numbers import number
from diagnose.checks._probing import hooked
from diagnose.errors import NotApplicable
from diagnose.isolate import seed_everything
from diagnose.lab import Lab
from diagnose.trial import LEARNED, least_loss, noise_for


class HeadFloor(Check):
    """Features and last layer are free; what of the batch can be learned at all?"""

    stage = "trial"
    order = 15
    cost = "the last layer alone, a few hundred times over; only where the batch is not learned"

    def measure(self, lab: Lab) -> EvidenceList:
        if lab.baseline.is_learned:
            raise NotApplicable("the batch is learned: the last layer can express it")
        copy = lab.twin()
        name, features, out, output = last_layer(lab, copy.model)
        if not (isinstance(output, Tensor) and output.shape == out.shape and torch.equal(output, out)):
            raise NotApplicable(f"something follows {name}")
        layer = copy.model.get_submodule(name).train()
        names = [n for n, p in layer.named_parameters() if p.is_floating_point()]
        weights = [p.detach().float() for n, p in layer.named_parameters() if n in names]

        def loss_of(values: list[Tensor]) -> Tensor:
            out = torch.func.functional_call(layer, dict(zip(names, values[1:], strict=True)), (values[0],))
            return lab.loss_of(copy, lab.predicted(copy, out))

        seed_everything(lab.seed)
        try:
            least = least_loss(loss_of, [noise_for(features.float()), *weights])
        except Exception as e:
            raise NotApplicable(f"{name} by itself raised {type(e).__name__}: {e}") from e
        reach = lab.scale.learned(least)
        return EvidenceList(
            [
                Evidence(name="last layer", value=name),
                Evidence(name="within reach", value=reach, unit="share", where=name, expected=f">= {LEARNED}"),
                Evidence(name="least loss", value=least, unit="loss", where=name),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        if not evidence.all("within reach"):
            return Judgement("skip", "not measured")
        reach, name = number(evidence, "within reach"), evidence.get("last layer")
        told = f"with any features, {name} can learn {amount(reach)} of the batch"
        return Judgement("pass", told) if reach >= LEARNED else Judgement("warn", f"{told} (needed {LEARNED:.0%})")


def last_layer(lab: Lab, model: torch.nn.Module) -> tuple[str, Tensor, Tensor, Any]:
    """Of a copy: name of the module with weights that runs last, what it is given (rows, features), what it gives
    (rows, outputs), and the output of the model.

    Raises:
        NotApplicable: there is no encoder before it, or it does not take and give rows of numbers.
    """
    names = {m: n for n, m in model.named_modules() if n and any(p.ndim > 1 for p in m.parameters(recurse=False))}
    ran: list[tuple[str, Any, Any]] = []
    with hooked(names, lambda m, given, out: ran.append((names[m], given, out))):
        output = lab.forward(model)
    if len({n for n, _, _ in ran}) < 2:
        raise NotApplicable("there is no encoder before the last layer")
    name, given, out = ran[-1]
    if len(given) != 1 or not all(isinstance(t, Tensor) and t.ndim == 2 for t in (*given, out)):
        raise NotApplicable(f"{name} does not take and give (rows, features)")
    return name, given[0].detach(), out.detach(), output
