"""The output follows the size of the batch, down to a single row.

## What it does
In evaluation mode, gives the model all rows but one, two rows and one row of the batch, and looks whether the shape of
the output follows: every axis stays as long as it was or shrinks with the batch.

## Why it matters
A `squeeze()` drops the batch axis together with the one that was meant as soon as a batch holds one row, as the last
one of an epoch may. A batch size written into a `view` glues rows together.

## How it is judged
Warns if the shape does not follow, or if the model raises for one row and takes two. A model that raises for odd
numbers only works on pairs and passes.

## What to do
Write `squeeze(-1)` for `squeeze()`, `flatten(1)` for `view(16, -1)`.

## Source
Real failure F29 of the notes: `.squeeze()` dropped the batch axis of a batch of one.
"""

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._numbers import texts
from diagnose.checks._probing import rows_of
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import floats


class BatchSizes(Check):
    """Smaller batches, and the shapes of their outputs."""

    stage = "probe"
    order = 12
    cost = "3 forward passes"

    def measure(self, lab: Lab) -> EvidenceList:
        rows, found = lab.rows, EvidenceList()
        sizes = [k for k in dict.fromkeys((rows - 1, 2, 1)) if 1 <= k < rows]
        if not sizes:
            raise NotApplicable(f"the batch has {rows} row")
        whole = [tuple(t.shape) for t in floats(lab.forward(lab.twin().model))]
        if not whole:
            raise NotApplicable("the model's output holds no floating-point tensor")
        found.append(Evidence(name="shape", value=_text(whole), where=f"{rows} rows"))
        wrong, raised = [], []
        for k in sizes:
            place = f"{k} row{'s' * (k > 1)}"
            xb = rows_of(lab.xb, list(range(k)), rows)
            try:
                shapes = [tuple(t.shape) for t in floats(lab.forward(lab.twin().model, xb))]
            except NotApplicable as e:
                raised.append(place)
                found.append(Evidence(name="raised", value=str(e), where=place))
                continue
            found.append(Evidence(name="shape", value=_text(shapes), where=place))
            if not follows(whole, shapes, rows, k):
                wrong.append(place)
        found.append(Evidence(name="shape does not follow", value=wrong, expected="none"))
        found.append(Evidence(name="raises", value=raised))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        shapes = {e.where: str(e.value) for e in evidence.all("shape")}
        wrong, raised = texts(evidence, "shape does not follow"), texts(evidence, "raises")
        if not shapes or evidence.get("shape does not follow") is None:
            return Judgement("skip", "not measured")
        whole = next(iter(shapes))
        told = f"{shapes[whole]} for {whole}"
        if wrong:
            return Judgement(
                "warn", f"the output is {told}, and {shapes.get(wrong[0], 'not measured')} for {listed(wrong)}"
            )
        if "1 row" in raised and "2 rows" not in raised and len(raised) == 1:
            return Judgement("warn", f"the model takes 2 rows and raises for 1: {evidence.get('raised', '1 row')}")
        if raised:
            return Judgement("pass", f"the output is {told} and follows the batch, which may not be {listed(raised)}")
        return Judgement("pass", f"the output is {told}, and follows the batch down to {list(shapes)[-1]}")


def follows(whole: list[tuple], part: list[tuple], rows: int, kept: int) -> bool:
    """Whether shapes of an output for fewer rows are those for all rows, with axes that shrink with the batch.

    An axis that follows the batch is one of those that hold a multiple of it; at least one must follow if any is.
    """
    if [len(s) for s in whole] != [len(s) for s in part]:
        return False
    for old, new in zip(whole, part):
        if any(n != o and n * rows != o * kept for o, n in zip(old, new)):
            return False
        if old and not old[0] % rows and old[0] and new[0] * rows != old[0] * kept:
            return False
    return True


def _text(shapes: list[tuple]) -> str:
    return ", ".join("×".join(map(str, s)) or "a number" for s in shapes)
