"""Whether a fault does harm: one that a subject learns with as well is none there."""

from __future__ import annotations

import math
from collections.abc import Callable

from fastai.learner import Learner

from diagnose.changes import Change
from diagnose.errors import NotApplicable
from diagnose.isolate import loaders, seed_everything
from diagnose.trial import level, run_trial

AS_WELL = 0.05  # of the scale


def must_harm(learn: Learner, spoil: Callable[[Learner], None], as_well: str) -> None:
    """Train two copies on the first batch of the loader, all its rows, with the fault and without.

    Args:
        as_well: said where the one with the fault learns as much.

    Raises:
        NotApplicable: it does, or it cannot be trained.
    """
    seed_everything(0)
    batch = next(iter(loaders(learn)[0]))
    sound, ill = (
        level(run_trial(learn, [batch], change=change, stop_at=math.inf).learned)
        for change in (None, Change("the fault", spoil))
    )
    if ill >= sound - AS_WELL:
        raise NotApplicable(as_well)
