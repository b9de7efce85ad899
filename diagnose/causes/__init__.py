"""Root causes, one a file, named by the ids that are API.

A cause reads evidence, says how strongly it is suspected, and settles itself: by the one change that would cure it,
made on a copy (a paired trial), or by an inspection that leaves no doubt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from diagnose.changes import Change
from diagnose.checks import amount
from diagnose.diagnosis import Fix, Proof, Side
from diagnose.evidence import EvidenceList, Value
from diagnose.lab import Lab
from diagnose.trial import Trial, level

CLEAR = 0.3  # by how much a cure must raise what is learned, beside passing the mark itself
NO_DIFFERENCE = 0.1  # a cure that raises it by less is refuted
PAIRS = 3  # of trials at most, where the first does not decide


class Findings(dict[str, EvidenceList]):
    """Evidence by check id."""

    def value(self, check: str, name: str, default: Any = None) -> Any:
        """One measured value, or `default` if the check did not run or did not measure it."""
        return self[check].get(name, default=default) if check in self else default


@dataclass(frozen=True)
class Suspicion:
    """How strongly a cause is suspected.

    Attributes:
        strength: in (0, 1]; 1 leaves only the proof.
        reason: one sentence with the number behind it.
        where: layers, parameters or places.
        facts: what the cure needs to know of the evidence.
    """

    strength: float
    reason: str
    where: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


class Settled(NamedTuple):
    """The outcome of a proof: proven, refuted, or neither."""

    proven: bool
    refuted: bool
    proof: Proof


class Cause:
    """One thing a person can go and fix.

    Attributes:
        kind: "symptom" for what shows whatever the cause; it is never proven and stands last.
        settled_by: "inspection" before any training, "trial" by a paired trial.
        explains: ids of causes whose cure also cures this one; where both are proven this one stands first.
        when_learned: whether to settle it although the batch is learned.
        fails: whether a subject that has it is failed; False for what spoilt an earlier run of one that can learn.
        questions: numbers of the notes' checklist (`diagnosis.QUESTIONS`) that it answers.
    """

    id: ClassVar[str]
    doc: ClassVar[str]
    kind: ClassVar[Literal["cause", "symptom"]] = "cause"
    settled_by: ClassVar[Literal["inspection", "trial"]] = "trial"
    explains: ClassVar[tuple[str, ...]] = ()
    when_learned: ClassVar[bool] = False
    fails: ClassVar[bool] = True
    questions: ClassVar[tuple[int, ...]] = ()

    def suspect(self, findings: Findings) -> Suspicion | None:
        """Read evidence; None if nothing points here. Pure."""
        raise NotImplementedError

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        """The one change that would cure it. Raises NotApplicable if it cannot be made."""
        raise NotImplementedError

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        """The paired trial under `cure`, unless a cause knows a better proof."""
        return paired_trial(lab, self.cure(lab, suspicion))

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        """The way out, as a sentence and as code for the user's Learner."""
        raise NotImplementedError


def paired_trial(lab: Lab, change: Change, batch: Any = None) -> Settled:
    """The subject as it is against the subject under one change: same batch, same random numbers, as many steps.

    Proven if the batch is learned with the change and not without, by a clear margin. Refuted if the change makes no
    difference. Where the first pair is not clear, other rows of the loader's batch decide, each under a seed of its
    own: a sign test that stops when two pairs agree, after three at most (Wald's sequential test, truncated).

    Args:
        batch: another batch than the fixed one, where its size matters; it alone decides then.
    """
    if batch is None:
        before, after = lab.baseline, lab.trial(change)
    else:
        before, after = lab.trial(batches=[batch]), lab.trial(change, batches=[batch])
    outcomes = [outcome_of(before, after)]
    if batch is None and not _clear(before, after):
        for number in range(1, PAIRS):
            rows = lab.other_rows(number)
            if rows is None or max(outcomes.count(o) for o in outcomes) > PAIRS // 2:
                break
            seed = lab.seed + number
            pair = lab.trial(batches=[rows], seed=seed), lab.trial(change, batches=[rows], seed=seed)
            outcomes.append(outcome_of(*pair))
    outcome = max(outcomes, key=lambda o: (outcomes.count(o), o == outcomes[0]))
    numbers = {"pairs of trials": len(outcomes), "agreeing": outcomes.count(outcome)} if len(outcomes) > 1 else {}
    proof = Proof(change=change.name, kind="trial", before=side(before, numbers), after=side(after, numbers))
    return Settled(outcome == "proven", outcome == "refuted", proof)


def outcome_of(before: Trial, after: Trial) -> str:
    """What a pair of trials says: "proven", "refuted" or "open"."""
    gain = level(after.learned) - level(before.learned)
    if not before.is_learned and after.is_learned and gain >= CLEAR:
        return "proven"
    return "refuted" if gain < NO_DIFFERENCE else "open"


def _clear(before: Trial, after: Trial) -> bool:
    "Whether another pair could hardly say otherwise."
    gain = level(after.learned) - level(before.learned)
    return gain < NO_DIFFERENCE / 2 or (outcome_of(before, after) == "proven" and gain >= 2 * CLEAR)


def side(trial: Trial, numbers: dict[str, Value] | None = None) -> Side:
    """One half of a proof, from a trial."""
    last = trial.loss[-1] if trial.loss else math.nan
    end = (
        f"the loss became {last}"
        if trial.stopped == "not finite"
        else f"{amount(trial.learned)} learned, loss {last:.4g}"
    )
    return Side(
        summary=f"{end} after {len(trial.loss)} steps",
        learned=trial.learned,
        loss=trial.loss,
        best_constant=trial.scale.best_constant,
        floor=trial.scale.floor,
        numbers=numbers or {},
    )


def inspected(change: str, before: str, after: str, numbers: dict[str, Value] | None = None, **then: Value) -> Proof:
    """A proof by inspection: what was found, and what would be found in a sound subject."""
    return Proof(
        change=change,
        kind="inspection",
        before=Side(summary=before, numbers=numbers or {}),
        after=Side(summary=after, numbers=then),
    )
