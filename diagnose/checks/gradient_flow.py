"""Every trainable parameter gets a finite, non-zero gradient.

## What it does
One backward pass in training mode. For every parameter without a gradient the loss is computed again with that
parameter moved by a tenth: if the loss moves and autograd says it does not depend on it, the graph is cut. The outputs
of all layers tell after which module the gradient stops.

## Why it matters
A layer behind a `detach`, a `no_grad` or a conversion to numpy never learns, and fastai skips it without a word.

## How it is judged
Fails on a gradient that is not finite, and on a cut graph. A parameter that does not influence the loss (an unused
head, a bias before a norm layer) is named and not judged. A move of the output by more than 1e-4 of its size counts.
A part that runs under `no_grad`, as people do to keep it (a linear probe), looks like it and passes where the one-batch
trial is learned (0.8) without it: that its weights stay is said. A `detach` or a trip through numpy is no such word.

## What to do
Look at the code between the two modules that are named.

## Source
The notes' checklist, items 2, 7 and 9; perturbation against autograd is the finite-difference gradient check
(Bengio 2012, "Practical recommendations for gradient-based training", 4.3).
"""

import math

import torch
from torch import nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, amount, listed, odd_but_right
from diagnose.checks._numbers import number, texts
from diagnose.isolate import seed_everything
from diagnose.lab import Lab
from diagnose.stats import floats, total_norm
from diagnose.trial import LEARNED

MOVES = 1e-4  # change of the output, relative to its largest element, from which a parameter counts as used
PERTURBED = 24  # parameters without gradient that are moved, one forward pass each


class GradientFlow(Check):
    """One backward pass, and perturbations where no gradient arrives."""

    stage = "probe"
    order = 30
    cost = "1 forward and backward pass, up to 25 forward passes where gradients are missing"

    def measure(self, lab: Lab) -> EvidenceList:
        grads = lab.gradients
        norms = {n: 0.0 if g is None else total_norm([g]) for n, g in grads.of.items()}
        without = [n for n, g in grads.of.items() if g is None or not norms[n]]
        broken = [n for n, v in norms.items() if not math.isfinite(v)]
        missing = [n for n, g in grads.of.items() if g is None]
        moves = self._moves(lab, missing[:PERTURBED])
        cut = [n for n, v in moves.items() if v > MOVES]
        found = EvidenceList(
            [
                Evidence(name="trainable tensors", value=len(norms)),
                Evidence(name="loss has a gradient", value=grads.has_gradient, expected="true"),
                Evidence(name="without gradient", value=without, expected="none"),
                Evidence(name="gradient not finite", value=broken, expected="none"),
                Evidence(name="cut off", value=cut, expected="none"),
            ]
        )
        if cut:
            after, before, frozen = self._place_of_cut(lab)
            found.append(Evidence(name="cut under no_grad", value=frozen))
            found.append(Evidence(name="gradient stops after", value=after))
            found.append(Evidence(name="gradient arrives at", value=before))
            if frozen and grads.has_gradient:
                learned = lab.baseline.learned
                found.append(
                    Evidence(name="learned without them", value=learned, unit="share", expected=f">= {LEARNED}")
                )
        found += [Evidence(name="gradient norm", value=v, where=n) for n, v in norms.items()]
        found += [
            Evidence(
                name="output moved by", value=v, unit="share", where=n, expected=f"<= {MOVES:g} without a gradient"
            )
            for n, v in moves.items()
        ]
        return found

    def _moves(self, lab: Lab, names: list[str]) -> dict[str, float]:
        "How far the output moves, relative to its size, when one parameter alone is moved by a tenth of its size."
        if not names:
            return {}
        copy = lab.twin()
        still = lab.forward(copy.model, training=True)
        size = max((float(t.abs().max()) for t in floats(still)), default=0.0) or 1.0
        moves = {}
        for name in names:
            p = copy.model.get_parameter(name)
            kept = p.detach().clone()
            seed_everything(lab.seed)
            with torch.no_grad():
                p += torch.randn_like(p) * max(0.1 * float(p.norm()) / math.sqrt(p.numel()), 1e-2)
            moved = lab.forward(copy.model, training=True)
            gaps = [float((a.float() - b.float()).abs().max()) for a, b in zip(floats(still), floats(moved))]
            moves[name] = max(gaps, default=0.0) / size
            with torch.no_grad():
                p.copy_(kept)
        return moves

    def _place_of_cut(self, lab: Lab) -> tuple[str, str, bool]:
        "The last leaf module run whose output gets no gradient, the next that gets one, and if it ran under no_grad."
        copy = lab.twin()
        names = {m: n for n, m in copy.model.named_modules()}
        ran: list[tuple[str, list, bool]] = []

        def note(module: nn.Module, inputs, output) -> None:
            outs = floats(output)
            for t in outs:
                if t.requires_grad:
                    t.retain_grad()
            ran.append((names[module], outs, torch.is_grad_enabled()))

        hooks = [m.register_forward_hook(note) for m in names if not any(True for _ in m.children())]
        try:
            copy.model.train()
            seed_everything(lab.seed)
            loss = lab.loss_of(copy, lab.predicted(copy, copy.model(*lab.xb)))
            if loss.requires_grad:
                loss.backward()
        finally:
            for h in hooks:
                h.remove()
        reached = [any(t.grad is not None for t in outs if t.requires_grad) for _, outs, _ in ran]
        last = max((i for i, ok in enumerate(reached) if not ok), default=len(ran) - 1)
        if not ran:
            return "", "the loss", False
        before = next((ran[i][0] for i in range(last + 1, len(ran)) if reached[i]), "the loss")
        return ran[last][0], before, not ran[last][2]

    def judge(self, evidence: EvidenceList) -> Judgement:
        total = number(evidence, "trainable tensors")
        if not math.isfinite(total):
            return Judgement("skip", "not measured")
        total = int(total)
        if not evidence.get("loss has a gradient", default=False):
            return Judgement("fail", f"the loss has no gradient with respect to any of {total} trainable tensors")
        if broken := texts(evidence, "gradient not finite"):
            return Judgement("fail", f"{len(broken)} of {total} gradients are not finite: {listed(broken)}")
        if cut := texts(evidence, "cut off"):
            told = f"{len(cut)} of {total} trainable tensors move the output and get no gradient ({listed(cut)}): "
            told += f"it stops after {evidence.get('gradient stops after')}"
            learned = number(evidence, "learned without them")
            if evidence.get("cut under no_grad") is True and learned >= LEARNED:
                fine = f"that part runs under no_grad, and with its weights as they are {amount(learned)} is learned"
                return odd_but_right(f"a cut graph: {told}", f"{fine} of one batch")
            return Judgement("fail", told)
        without = texts(evidence, "without gradient")
        note = f"; {len(without)} have none and move nothing ({listed(without)})" if without else ""
        return Judgement("pass", f"{total - len(without)} of {total} trainable tensors get a finite gradient{note}")
