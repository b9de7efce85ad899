"""More rows in a batch let no more be learned.

## What it does
Learns a fixed batch of four times as many rows (64 for 16) for the same number of steps, against its own best constant
and floor, beside the fixed batch of the other trials.

## Why it matters
Batch norm, contrastive losses and losses that compare rows learn from the number of rows itself.

## How it is judged
Warns if less than 0.8 of the small batch is learned, and 0.3 more of the large one, which is harder to memorise. It
only locates a fault, and never fails.

## What to do
Use larger batches, or norm layers that do not depend on them.

## Source
Wu & He 2018, "Group Normalization"; the notes' checklist, item 15.
"""

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._comparison import compared
from diagnose.checks._probing import joined, trial_on
from diagnose.errors import NotApplicable
from diagnose.isolate import loaders
from diagnose.lab import Lab, few_rows
from diagnose.stats import tensors

TIMES = 4


class LargerBatch(Check):
    """One batch of four times as many rows."""

    stage = "trial"
    order = 79
    extra = True
    cost = "up to 200 steps on 64 rows"

    def measure(self, lab: Lab) -> EvidenceList:
        wanted = TIMES * lab.rows
        batches = lab.read(loaders(lab.learn)[0], -(-wanted // max(len(tensors(lab.whole_batch)[0]), 1)))
        large = few_rows(joined(batches), wanted)
        rows = len(tensors(large)[0])
        if rows <= lab.rows:
            raise NotApplicable(f"the loader gives no more than {rows} rows")
        lab.say(f"larger batch: {rows} rows")
        trial = trial_on(lab, [large])
        return EvidenceList(
            [
                Evidence(name="change", value=f"{rows} rows in place of {lab.rows}"),
                Evidence(name="learned", value=lab.baseline.learned, unit="share", where="as it is"),
                Evidence(name="learned", value=trial.learned, unit="share", where="changed"),
                Evidence(name="learned, evaluation mode", value=trial.eval_learned, unit="share", where="changed"),
                Evidence(name="loss", value=trial.loss, unit="loss", where="changed, every step"),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        return compared(evidence)
