"""The verdict was read after so few optimizer steps that nothing could have been learned.

## What it is
Ten "epochs" of one batch, a look at the predictions after the first few steps, a run broken off early.

## Why it stops learning
Nothing does: the loss was still on its way. A net needs some hundred steps to leave the best constant behind.

## How it is found
The Learner's recorder holds the losses of its last run: fewer than 200 steps, at whose end less than a tenth of the way
from the best constant to the floor was made.

## How it is proven
One trial, read twice: after as many steps as the last run made less than half of the batch is learned, and by the end
of up to 200 steps it is learned.

## How to fix
    learn.fit(200 // len(dls.train) + 1)         # steps, not epochs, are what counts

## What it looks like but is not
A short run that got somewhere. A Learner that has not been trained yet: there is no verdict to read too early. A rate a
million times too small: 200 steps do not learn either.

## Source
Real failure F6 of the notes: experiments of 6 to 20 steps, judged as "same constant for everything".
"""

from diagnose.causes import CLEAR, Cause, Findings, Settled, Suspicion
from diagnose.causes._reading import number
from diagnose.checks import amount
from diagnose.checks.overfit_one_batch import NOT_LEARNED
from diagnose.checks.past_run import NOTHING
from diagnose.diagnosis import Fix, Proof, Side
from diagnose.lab import Lab
from diagnose.trial import STEPS, WINDOW

CHECK = "past-run"


class StepsTooFew(Cause):
    """Suspected when the last run was short and came to nothing."""

    settled_by = "inspection"
    when_learned = True
    fails = False  # the Learner is sound: what was short is a run that has ended

    def suspect(self, findings: Findings) -> Suspicion | None:
        steps, learned = number(findings, CHECK, "steps"), number(findings, CHECK, "learned by its end")
        if not 1 <= steps < STEPS or not learned < NOTHING:
            return None
        reason = f"the last run made {steps:.0f} steps, at whose end {amount(learned)} was learned"
        return Suspicion(0.8, reason, ["the last run"], {"steps": int(steps)})

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        steps, trial = suspicion.facts["steps"], lab.baseline
        until = trial.loss[:steps]
        last = until[-min(WINDOW, max(len(until) // 2, 1)) :]
        then = trial.scale.learned(sum(last) / len(last))
        sides = [
            Side(
                summary=f"{amount(learned)} learned after {len(loss)} steps",
                learned=learned,
                loss=loss,
                best_constant=trial.scale.best_constant,
                floor=trial.scale.floor,
            )
            for learned, loss in ((then, until), (trial.learned, trial.loss))
        ]
        proof = Proof(change="the same set-up, more steps", kind="trial", before=sides[0], after=sides[1])
        proven = trial.is_learned and len(trial.loss) > steps and then <= NOT_LEARNED and trial.learned - then >= CLEAR
        return Settled(proven, not trial.is_learned, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Train for some hundred steps before a verdict: {suspicion.facts['steps']} say nothing.",
            code=f"learn.fit({STEPS} // max(len(learn.dls.train), 1) + 1)",
        )
