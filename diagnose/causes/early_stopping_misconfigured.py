"""Early stopping or best-checkpoint watches the wrong metric or the wrong side of it.

## What it is
`EarlyStoppingCallback(monitor="accuracy", comp=np.less)`, a `SaveModelCallback` that keeps the highest error, or a name
that no metric has.

## Why it stops learning
Training ends while it still gets better, and the "best" model that was saved is the worst.

## How it is found
The metric is computed for outputs that were optimised under the subject's own loss, and for random ones: that tells
which side is better. Losses fall. Where a metric cannot be computed so, its name decides, and that proves nothing.

## How it is proven
By that inspection, with a replay: of a history in which the metric gets better in every epoch, the callback's own
comparison counts none after the first as better.

## How to fix
    EarlyStoppingCallback(monitor="accuracy", comp=np.greater, patience=3)

## What it looks like but is not
A side that is right though the name is odd: it is measured. A metric whose side cannot be told. Callbacks handed to
`fit` do not exist before.

## Source
Real failure F19 of the notes ("stopped prematurely while accuracy was still improving"); fastai's `TrackerCallback`.
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected
from diagnose.causes._reading import number, places, text, texts, truth
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

CHECK = "early-stopping"
SIDES = ("lower", "higher")
EPOCHS = 10


class EarlyStoppingMisconfigured(Cause):
    """Suspected when a tracker waits for the other side, or for a name that is never recorded."""

    settled_by = "inspection"
    when_learned = True

    def suspect(self, findings: Findings) -> Suspicion | None:
        for where in places(findings, CHECK, "waits for"):
            waits, better = (text(findings, CHECK, n, where) for n in ("waits for", "better is"))
            facts = {"where": where, "waits": waits, "better": better, "told": text(findings, CHECK, "told", where)}
            if truth(findings, CHECK, "known to the recorder", where) is False:
                recorded = ", ".join(texts(findings, CHECK, "recorded")) or "none"
                return Suspicion(1.0, f"{where}: no such name is recorded, only {recorded}", [where], facts)
            if waits in SIDES and better in SIDES and waits != better:
                good, bad = (
                    number(findings, CHECK, f"metric of {n}", where) for n in ("the best outputs", "random outputs")
                )
                numbers = f" (best outputs {good:.3g}, random {bad:.3g})" if good == good and bad == bad else ""
                measured = facts["told"] == "measured"
                reason = f"{where} waits for {waits} values, and {better} is better{numbers}"
                return Suspicion(1.0 if measured else 0.5, reason, [where], facts)
        return None

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        facts = suspicion.facts
        if facts["waits"] == facts["better"] or facts["better"] not in SIDES or facts["waits"] not in SIDES:
            proof = inspected(
                "the name looked up among those that the recorder writes",
                suspicion.reason,
                "fit finds the name, and starts",
            )
            return Settled(True, False, proof)
        if facts["told"] != "measured":
            raise NotApplicable("which side of the metric is better is known by its name only")
        history = [k if facts["better"] == "higher" else -k for k in range(EPOCHS)]
        counted = [sum(_improves(side, history)) for side in (facts["waits"], facts["better"])]
        proof = inspected(
            f"a history of {EPOCHS} epochs that get better and better, under the callback's comparison",
            f"waiting for {facts['waits']} values, {counted[0]} of them count as better",
            f"waiting for {facts['better']} values, {counted[1]} do",
            {"epochs counted as better": counted[0]},
            **{"epochs counted as better": counted[1]},
        )
        return Settled(counted[0] < counted[1], False, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        callback, _, monitor = suspicion.facts["where"].partition(" on ")
        if suspicion.facts["better"] not in SIDES:
            return Fix(
                text=f"Give {callback} one of the names that the recorder writes.",
                code=f'{callback}(monitor="valid_loss")',
            )
        comp = "np.greater" if suspicion.facts["better"] == "higher" else "np.less"
        return Fix(
            text=f"Give {callback} the side on which {monitor} is better.",
            code=f'{callback}(monitor="{monitor}", comp={comp})',
        )


def _improves(side: str, history: list[int]) -> list[bool]:
    "Which epochs a tracker counts as better than the best so far, the first one left out."
    found, best = [], history[0]
    for value in history[1:]:
        better = value > best if side == "higher" else value < best
        best = value if better else best
        found.append(better)
    return found
