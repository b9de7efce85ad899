"""What the two causes of the learning rate share: the cure and the fix are the rung that learns."""

from __future__ import annotations

from diagnose.causes import Cause, Suspicion
from diagnose.changes import Change, learning_rate, rate_text, scaled_rate
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

LADDER = "learning-rate-ladder"


class RungCause(Cause):
    """A learning rate that is wrong by the suspicion's `factor`.

    Attributes:
        verb: what to do with the rate.
    """

    verb = "Change"

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return learning_rate(lab.learn, suspicion.facts["factor"])

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        rate = rate_text(scaled_rate(lab.learn.lr, suspicion.facts["factor"]))
        return Fix(text=f"{self.verb} the learning rate to about {rate}.", code=f"learn.lr = {rate}")
