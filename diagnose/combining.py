"""Two or three faults at once: the change that helps most is kept, and the search goes on from there.

A greedy forward search over the cures of suspected causes, then a backward pass that drops what is not needed: each
cause of the set that is returned is proven by a pair of trials, all cures against all but its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fastai.learner import Learner

from diagnose.causes import NO_DIFFERENCE, Cause, Settled, Suspicion, side
from diagnose.changes import Change
from diagnose.diagnosis import Proof
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.trial import Trial, level

MOST = 3  # faults at once
STARTS = 3  # changes that the search starts from where none helps by itself


@dataclass(frozen=True)
class Part:
    """One suspected cause with the change that would cure it, and how much of the batch that alone lets it learn."""

    cause: Cause
    suspicion: Suspicion
    change: Change
    learned: float = 0.0


def together(parts: Iterable[Part]) -> Change:
    """All their changes, one after the other."""
    changes = [p.change for p in parts]

    def apply(twin: Learner) -> None:
        for change in changes:
            change.apply(twin)

    code = "\n".join(c.code for c in changes if c.code)
    return Change(" + ".join(c.name for c in changes), apply, code)


def search(lab: Lab, parts: list[Part], as_it_is: float) -> list[tuple[Part, Settled]]:
    """A set of two or three causes whose cures together let the batch be learned, each with its proof; [] if none.

    Args:
        as_it_is: what is learned of the batch without any change.

    Raises:
        BudgetSpent: the time ran out.
    """
    helpful = sorted((p for p in parts if p.learned - as_it_is >= NO_DIFFERENCE), key=lambda p: -p.learned)
    likely = sorted(parts, key=lambda p: (-p.suspicion.strength, p.cause.id))
    tried: dict[frozenset[int], float] = {}  # a set that another start led to is not tried again
    for start in helpful[:1] or likely[:STARTS]:
        kept, best = [start], max(start.learned, as_it_is)
        while len(kept) < MOST:
            found = None
            for part in parts:
                if any(part.cause is k.cause for k in kept):
                    continue
                key = frozenset(map(id, [*kept, part]))
                if key not in tried:
                    trial = _trial(lab, [*kept, part])
                    if trial is not None and trial.is_learned:
                        return _proofs(lab, [*kept, part], trial)
                    tried[key] = level(trial.learned) if trial is not None else 0.0
                if tried[key] > best + NO_DIFFERENCE:
                    found, best = part, tried[key]
            if found is None:
                break
            kept.append(found)
    return []


def _trial(lab: Lab, parts: list[Part]) -> Trial | None:
    try:
        return lab.trial(together(parts))
    except NotApplicable:
        return None


def _proofs(lab: Lab, parts: list[Part], whole: Trial) -> list[tuple[Part, Settled]]:
    "Each part against all the others; what is not needed is dropped."
    kept, without = list(parts), {}
    for part in parts:
        others = [p for p in kept if p is not part]
        trial = _trial(lab, others) if others else None
        if trial is not None and trial.is_learned:
            kept, whole = others, trial
        else:
            without[part.cause.id] = trial
    proven = []
    for part in kept:
        before = without[part.cause.id] or lab.baseline
        others = [p.change.name for p in kept if p is not part]
        name = f"{part.change.name}, with {' and '.join(others)} as well" if others else part.change.name
        proof = Proof(change=name, kind="trial", before=side(before), after=side(whole))
        proven.append((part, Settled(True, False, proof)))
    return proven
