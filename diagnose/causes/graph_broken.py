"""Part of the forward pass is cut from the graph.

## What it is
A `detach`, `.data`, `no_grad`, a trip through numpy or an `argmax` between a layer and the loss.

## Why it stops learning
No gradient passes the cut: everything before it keeps its initial weights, and fastai's optimizer skips it silently.

## How it is found
Trainable parameters without a gradient although moving them moves the output; and the module after which the gradient
stops, from the gradients of all layers' outputs.

## How it is proven
By that contradiction: the output depends on the parameter, autograd says that it does not. Where the cut is a whole
part that runs under `no_grad` (which people also use to freeze), the batch must fail to be learned, and be learned
without the cut.

## How to fix
    x = self.encoder(x)              # not self.encoder(x).detach(), not torch.no_grad() around it

## What it looks like but is not
A stop-gradient on one of two branches (SimSiam, BYOL): the encoder gets its gradient by the other. A frozen part:
`requires_grad=False` says that no gradient is wanted. A head that is not used: moving it moves nothing.

## Source
The notes' checklist, item 9.
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected, paired_trial
from diagnose.changes import Change, uncut_graph
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab


class GraphBroken(Cause):
    """Suspected when parameters move the output and get no gradient."""

    settled_by = "inspection"
    when_learned = True
    explains = ("params-frozen", "lr-too-low", "lr-too-high", "init-constant")
    questions = (9,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        cut = findings.value("gradient-flow", "cut off", [])
        if not cut:
            return None
        after = findings.value("gradient-flow", "gradient stops after", "")
        before = findings.value("gradient-flow", "gradient arrives at", "")
        reason = (
            f"{len(cut)} trainable tensors move the output and get no gradient: it stops after {after}, before {before}"
        )
        frozen = findings.value("gradient-flow", "cut under no_grad", False)
        return Suspicion(1.0, reason, [after], {"cut": cut, "after": after, "before": before, "no_grad": frozen})

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return uncut_graph()

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        if suspicion.facts["no_grad"]:
            return paired_trial(lab, self.cure(lab, suspicion))
        cut = suspicion.facts["cut"]
        now = self._with_gradient(lab, suspicion)
        proof = inspected(
            self.cure(lab, suspicion).name,
            f"{len(cut)} tensors move the output, autograd gives none of them a gradient",
            f"without detach and no_grad {now} of {len(cut)} get one"
            if now
            else "the cut is neither detach nor no_grad",
            {"cut off": len(cut), "gradient stops after": suspicion.facts["after"]},
            **{"with a gradient": now},
        )
        return Settled(True, False, proof)

    def _with_gradient(self, lab: Lab, suspicion: Suspicion) -> int:
        try:
            grads = lab.gradients_under(self.cure(lab, suspicion)).of
        except NotApplicable:  # numpy takes no tensor with a history: there the cut is neither detach nor no_grad
            return 0
        cut = suspicion.facts["cut"]
        return sum(g is not None and bool(g.any()) for n, g in grads.items() if n.removeprefix("model.") in cut)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        after, before = suspicion.facts["after"], suspicion.facts["before"]
        return Fix(
            text=f"Take out what cuts the graph between {after} and {before}: detach, .data, no_grad, numpy, argmax. "
            "If that part is meant to be frozen, say so.",
            code=f"# in forward, after {after}: use its output as it is, without .detach() or torch.no_grad()\n"
            "# or, if it is meant to be frozen: part.requires_grad_(False)",
        )
