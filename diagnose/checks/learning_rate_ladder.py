"""The configured learning rate stands where learning happens.

## What it does
Takes the first 60 steps of the trial at the configured rate, then trains copies at rates ten times higher until
nothing is learned or the loss is not finite, and ten times lower until nothing is learned. If the configured rate
learns the batch (0.8), the walk ends on either side with the first rung that does not, or the second one, or where the
time is spent: no rung changes the verdict then.

## Why it matters
The notes: "in lieu of LR finder, multiply the LR by 10 until I get NaNs, then divide by 10 until I get no learning".
A ladder can also answer "there is no good rate", which no rate finder can.

## How it is judged
Fails if the configured rate learns less than 0.2 of the batch in its 60 steps and another rung learns 0.6 more. A
rate that learns the batch slowly, in the 200 steps of the whole trial, passes. If no rung learns, the rate is not the
cause and the check warns.

## What to do
Take the best rung, or the one below it for a long run.

## Source
The notes, "online suggestions" and D7; Bengio 2012, "Practical recommendations", 3.1 (the best rate is within a
factor of two of the largest that does not diverge).
"""

import math

from diagnose.changes import learning_rate, rate_text, scaled_rate
from diagnose.checks import Check, Evidence, EvidenceList, Judgement, amount
from diagnose.checks._numbers import number
from diagnose.lab import Lab
from diagnose.trial import LEARNED, WINDOW, BudgetSpent

RUNG_STEPS = 60
NOTHING = 0.1  # a rung that learns less has learned nothing
SLOW = 0.2
BETTER = 0.6  # by how much another rung must beat one that learns too little
RUNGS = 6  # at most, in either direction
NEIGHBOURS = 2  # the same if the configured rate learns: how far the rest goes changes nothing
FEWEST = (
    20  # steps of a rung before it may end because it has learned: norm layers' running statistics do not matter here
)


class LearningRateLadder(Check):
    """Walks up and down from the configured rate, by factors of ten."""

    stage = "trial"
    order = 40
    cost = "20 to 60 steps a rung; 2 to 4 rungs beside a configured rate that learns, up to 12 beside one that does not"

    def measure(self, lab: Lab) -> EvidenceList:
        learned = {0: self._configured(lab)}
        edge, most = (LEARNED, NEIGHBOURS) if learned[0] >= LEARNED else (NOTHING, RUNGS)
        for direction in (1, -1):
            for i in range(1, most + 1):
                power = direction * i
                try:
                    learned[power] = self._rung(lab, power)
                except BudgetSpent:
                    if not lab.baseline.is_learned:
                        raise
                    break
                found = max((v for v in learned.values() if not math.isnan(v)), default=0.0) >= LEARNED
                broke = direction > 0 and (math.isnan(learned[power]) or learned[power] < -1)
                if broke or (found and not learned[power] >= edge):
                    break
        found = EvidenceList()
        for power in sorted(learned):
            rate = rate_text(scaled_rate(lab.learn.lr, 10.0**power))
            found.append(Evidence(name="learned", value=learned[power], unit="share", where=f"lr={rate}"))
        usable = {k: v for k, v in learned.items() if not math.isnan(v)}
        best = max(usable, key=lambda k: (usable[k] >= LEARNED, round(usable[k], 2), -abs(k)), default=0)
        configured = rate_text(lab.learn.lr)
        found += [
            Evidence(name="configured rate", value=configured),
            Evidence(name="learned at the configured rate", value=learned[0], unit="share"),
            Evidence(name="learned in the whole trial", value=lab.baseline.learned, unit="share"),
            Evidence(name="best rung", value=rate_text(scaled_rate(lab.learn.lr, 10.0**best))),
            Evidence(name="learned at the best rung", value=usable.get(best, math.nan), unit="share"),
            Evidence(name="powers of ten to the best rung", value=best),
            Evidence(name="powers of ten walked up", value=max(learned)),
            Evidence(name="powers of ten walked down", value=-min(learned)),
        ]
        return found

    def _configured(self, lab: Lab) -> float:
        "The trial of the subject as it is was the same in its first steps."
        trial, first = lab.baseline, lab.baseline.loss[:RUNG_STEPS]
        if trial.stopped == "not finite" and len(trial.loss) <= RUNG_STEPS:
            return math.nan
        last = first[-WINDOW:]
        return trial.scale.learned(sum(last) / len(last)) if last else math.nan

    def _rung(self, lab: Lab, power: int) -> float:
        change = learning_rate(lab.learn, 10.0**power)
        lab.say(f"learning-rate ladder, {change.name}")
        return lab.trial(change, steps=RUNG_STEPS, scale=lab.scale, fewest=FEWEST).learned

    def judge(self, evidence: EvidenceList) -> Judgement:
        here = number(evidence, "learned at the configured rate")
        best = number(evidence, "learned at the best rung")
        rate, rung = evidence.get("configured rate"), evidence.get("best rung")
        power = evidence.get("powers of ten to the best rung", default=0)
        told = f"learning rate {rate} learns {amount(here)} of the batch in {RUNG_STEPS} steps"
        if not best >= SLOW:
            return Judgement("warn", f"no rate learns: {told}; the best, {rung}, learns {amount(best)}")
        place = "the best rung" if not power else f"the best rung is {rung} ({amount(best)})"
        if here >= SLOW:
            return Judgement("pass", f"{told}; {place}")
        if (whole := number(evidence, "learned in the whole trial")) >= LEARNED:
            return Judgement("pass", f"{told}, and {amount(whole)} in the whole trial; {place}")
        status = "fail" if math.isnan(here) or best - here >= BETTER else "warn"
        return Judgement(status, f"{told}; {rung} learns {amount(best)}")
