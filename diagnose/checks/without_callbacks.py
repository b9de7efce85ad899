"""Without the subject's own callbacks, no more is learned.

## What it does
Where the fixed batch is not learned: takes all callbacks out of a copy that are not fastai's own, and learns it so. If
that learns clearly more, each alone, to find which one; and what that one alters: the targets, the inputs, their order,
the hyper-parameters, or else the step. Callbacks that write, log or draw stay out of every trial.

## Why it matters
A callback sees and may change everything: one that zeroes the gradients before the step, puts averaged weights back, or
shuffles the inputs and not their targets leaves a run in which all else is right and nothing is learned.

## How it is judged
Warns if less than 0.8 of the batch is learned as it is, and 0.3 more without the callback: 0 and 0.95 for those above.
It only locates a fault, and never fails: MixUp of one's own, noise or accumulation makes a batch harder on purpose.

## What to do
Read what the callback that is named does in the event that alters what is named.

## Source
fastai.callback.core: callbacks are called by order, and may change any attribute of the Learner.
"""

from fastai.learner import Learner
from torch import Tensor

from diagnose.changes import Change, left_out
from diagnose.checks import Evidence, EvidenceList, Judgement, listed
from diagnose.checks._calls import texts
from diagnose.checks._comparison import CLEAR, ComparedTrial, compared, told_of
from diagnose.checks._probing import seen_by_model
from diagnose.errors import NotApplicable
from diagnose.isolate import twin
from diagnose.lab import Lab
from diagnose.stats import alike
from diagnose.trial import Trial, level

OTHERS = ("fastai.", "diagnose.watch", "diagnose.preflight")
MOST = 6  # that are left out one by one


class WithoutCallbacks(ComparedTrial):
    """Callbacks of the subject's own left out."""

    extra = False
    order = 39
    cost = (
        "up to 200 steps on 16 rows if the batch is not learned and there are such callbacks; as many for each of them"
    )

    def measure(self, lab: Lab) -> EvidenceList:
        names = own_callbacks(lab.learn)
        if not names:
            raise NotApplicable("no callback of its own takes part in trials")
        if lab.baseline.is_learned:
            raise NotApplicable("the batch is learned with them")
        change = left_out(names)
        trial = self._trial(lab, change)
        if len(names) > 1 and _gain(lab, trial) >= CLEAR:
            for name in names[:MOST]:
                alone = self._trial(lab, left_out([name]))
                if _gain(lab, alone) >= CLEAR:
                    names, change, trial = [name], left_out([name]), alone
                    break
        found = told_of(lab, change, trial)
        found.append(Evidence(name="callbacks", value=names))
        found.append(Evidence(name="alters", value=_altered(lab, names, trial)))
        return found

    def _trial(self, lab: Lab, change: Change) -> Trial:
        lab.say(change.name)
        return lab.trial(change)

    def judge(self, evidence: EvidenceList) -> Judgement:
        found = compared(evidence)
        if found.status != "warn":
            return found
        alters, names = evidence.get("alters"), texts(evidence.get("callbacks"))
        return found._replace(summary=f"{found.summary}; {listed(names)} alters {alters}")


def own_callbacks(learn: Learner) -> list[str]:
    """Names of the callbacks that take part in trials and are not fastai's."""
    kept = [type(cb) for cb in twin(learn).cbs]
    return [*dict.fromkeys(c.__name__ for c in kept if not c.__module__.startswith(OTHERS))]


def _gain(lab: Lab, trial: Trial) -> float:
    return level(trial.learned) - level(lab.baseline.learned)


def _altered(lab: Lab, names: list[str], trial: Trial) -> str:
    "What differs with and without the callbacks: the first of these."
    (x, y), (plain_x, plain_y) = seen_by_model(lab, []), seen_by_model(lab, names)
    if not alike(y, plain_y):
        return "the targets"
    if not alike(x, plain_x):
        moved = len(x) == len(plain_x) and all(map(_same_rows, x, plain_x))
        return "the order of the inputs" if moved else "the inputs"
    return "the step" if _hypers(trial) == _hypers(lab.baseline) else "the hyper-parameters"


def _same_rows(a: Tensor, b: Tensor) -> bool:
    "Whether two tensors have the same rows in any order."
    if a.shape != b.shape or not a.ndim:
        return False
    rows, others = (sorted(map(tuple, t.flatten(1).tolist() if t.ndim > 1 else t[:, None].tolist())) for t in (a, b))
    return rows == others


def _hypers(trial: Trial) -> list[dict[str, float]]:
    return [{k: float(v) for k, v in group.items() if isinstance(v, (int, float))} for group in trial.hypers]
