"""What causes share that lie in a callback or hook of the subject's own: without it the batch is learned."""

from __future__ import annotations

from diagnose.causes import Findings, Suspicion
from diagnose.causes._reading import by_place, number, text, texts
from diagnose.changes import Change, left_out, unhooked
from diagnose.checks import listed
from diagnose.checks._comparison import CLEAR
from diagnose.trial import LEARNED, level

CALLBACKS, HOOKS = "without-callbacks", "without-hooks"
NOTHING = 0.05  # learned as it is: MixUp, noise or accumulation of one's own make a batch harder, and leave more


def blamed_callbacks(findings: Findings, *alters: str) -> Suspicion | None:
    """A suspicion of the callbacks that alter one of these and without which the batch is learned, as it is not at all.

    Where steps are cancelled by the callbacks nobody is blamed: gradients may be gathered for a later step.
    """
    names, what = texts(findings, CALLBACKS, "callbacks"), text(findings, CALLBACKS, "alters")
    steps, batches = (number(findings, "callbacks", name) for name in ("optimizer steps", "batches"))
    if not names or what not in alters or steps != batches or not (gain := _gained(findings, CALLBACKS)):
        return None
    reason = f"without {listed(names)}, which alters {what}, {gain[1]:.0%} of a batch is learned, with it {gain[0]:.0%}"
    return Suspicion(0.9, reason, [f"callback {name}" for name in names], {"left out": names})


def blamed_hooks(findings: Findings, against: bool) -> Suspicion | None:
    """The same of hooks on parameters: those that give a gradient the other direction if `against`, else all others."""
    cosines = by_place(findings, HOOKS, "cosine with the gradient without it")
    turned = [name for name, cosine in cosines.items() if cosine < 0]
    names = turned if against else texts(findings, HOOKS, "tensors with hooks")
    if not names or bool(turned) != against or not (gain := _gained(findings, HOOKS)):
        return None
    reason = f"without the hooks on {listed(names)} {gain[1]:.0%} of a batch is learned, with them {gain[0]:.0%}"
    return Suspicion(0.9, reason, names, {"hooks": names})


def cure_of(suspicion: Suspicion) -> Change | None:
    """Without what is blamed; None if it is neither a callback nor a hook."""
    if names := suspicion.facts.get("left out"):
        return left_out(names)
    return unhooked() if "hooks" in suspicion.facts else None


def _gained(findings: Findings, check: str) -> tuple[float, float] | None:
    before, after = (level(number(findings, check, "learned", where)) for where in ("as it is", "changed"))
    return (before, after) if before <= NOTHING and after >= max(LEARNED, before + CLEAR) else None
