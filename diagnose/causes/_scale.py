"""What the two causes of the initial scale share: the cure draws the weights that stand out anew."""

from __future__ import annotations

from collections.abc import Callable

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import by_place, texts
from diagnose.changes import Change, reinitialised
from diagnose.diagnosis import Fix
from diagnose.lab import Lab


class ScaleCause(Cause):
    """Weights whose scale, in units of Kaiming's, is `odd`."""

    def odd(self, scale: float) -> bool:
        """Whether a weight of this scale stands out. False for NaN."""
        raise NotImplementedError

    worst: Callable = max

    def suspect(self, findings: Findings) -> Suspicion | None:
        alike = texts(findings, "initialisation", "units alike")
        scales = by_place(findings, "weight-scale", "scale")
        odd = {n: v for n, v in scales.items() if self.odd(v) and n not in alike}
        if not odd:
            return None
        name = type(self).worst(odd, key=lambda n: odd[n])
        reason = (
            f"{len(odd)} of {len(scales)} weights start far from Kaiming's scale, {name} at {odd[name]:.2g} times it"
        )
        return Suspicion(0.6 + 0.35 * len(odd) / len(scales), reason, list(odd))

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return reinitialised(suspicion.where)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Draw these weights by Kaiming's initialisation, or leave them as PyTorch draws them.",
            code="from fastai.torch_core import apply_init\napply_init(learn.model, nn.init.kaiming_normal_)",
        )
