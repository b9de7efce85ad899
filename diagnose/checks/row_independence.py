"""What the model says of one row depends on that row alone.

## What it does
Alters one row of the inputs, in evaluation mode, and looks which rows of the output change, and which rows of what
passes between the modules on the way. Weights are jittered by a hundredth first, so that a zero-initialised layer hides
nothing. If the output has one score per pair of rows (its shape follows the batch size twice), it mixes on purpose.

## Why it matters
A wrong view, permute, softmax or pooling over the batch hands row 1 the answer for row 0. Such a model can memorise
one batch, and learns nothing that holds for another.

## How it is judged
Fails if any other row changes by more than 1e-5 of the largest output. In a healthy model the change is exactly zero,
or rounding (below 1e-6).

## What to do
Look at the reshape between the two modules that are named. Stack roles with `stack(dim=1).flatten(0, 1)` and take them
apart with `unflatten(0, (rows, roles))`; `cat` followed by `view` mixes rows.

## Source
Karpathy 2019, "A Recipe for Training Neural Networks" (use backprop to chart dependencies); the notes'
checklist, item 8.
"""

import math

import torch
from torch import Tensor, nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._numbers import number
from diagnose.checks._probing import jittered
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import floats, replaced, rows_changed, tensors

TOLERANCE = 1e-5  # of the largest output: rounding of a batched kernel stays below 1e-6


class RowIndependence(Check):
    """Alters one row and looks which rows change."""

    stage = "probe"
    order = 40
    cost = "3 forward passes"

    def measure(self, lab: Lab) -> EvidenceList:
        rows = lab.rows
        if rows < 3:
            raise NotApplicable(f"the batch has {rows} rows, at least 3 are needed")
        for t in tensors(lab.xb):
            if not t.ndim or t.shape[0] != rows:  # edges of a graph, a mask: rows may depend on each other on purpose
                shape = "×".join(map(str, t.shape)) or "one number"
                raise NotApplicable(f"an input of shape {shape} has not one entry for each of {rows} rows")
        model = jittered(lab)
        altered = 1
        still, seen_still = _traced(lab, model, lab.xb)
        moved, seen_moved = _traced(lab, model, altered_row(lab.xb, altered, lab.seed))
        outs = [(a, b) for a, b in zip(floats(still), floats(moved)) if a.shape[0] == rows]
        if not outs:
            raise NotApplicable("the output has no row for each row of the input")
        changed = sorted({i for a, b in outs for i in rows_changed(a, b, TOLERANCE)})
        others = [i for i in changed if i != altered]
        found = EvidenceList(
            [
                Evidence(name="altered row", value=altered),
                Evidence(name="altered row changes its own output", value=altered in changed, expected="true"),
                Evidence(name="other rows that change", value=others, expected="none", where=f"of {rows} rows"),
            ]
        )
        if others:
            fewer = lab.forward(model, replaced(lab.xb, [t[:-1] for t in tensors(lab.xb)]))
            follows = any(
                a.ndim > 1 and a.shape[1] == rows and b.shape[1] == rows - 1
                for a, b in zip(floats(still), floats(fewer), strict=False)
                if b.ndim > 1
            )
            found.append(Evidence(name="one score per pair of rows", value=follows))
            clean, dirty = _where(seen_still, seen_moved, rows, altered)
            found.append(Evidence(name="rows still apart after", value=clean))
            found.append(Evidence(name="rows mixed at", value=dirty))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        others = evidence.get("other rows that change", default=None)
        if not isinstance(others, list) or not math.isfinite(number(evidence, "altered row")):
            return Judgement("skip", "not measured")
        if not others:
            return Judgement("pass", "altering one row changes no other row of the output")
        if evidence.get("one score per pair of rows"):
            return Judgement("pass", f"{len(others)} other rows change, as a score for every pair of rows must")
        return Judgement(
            "fail",
            f"altering row {evidence.get('altered row')} changes {len(others)} other rows; apart after "
            f"{evidence.get('rows still apart after')}, mixed at {evidence.get('rows mixed at')}",
        )


def altered_row(xb: tuple, row: int, seed: int) -> tuple:
    """The inputs with one row replaced: by another row plus noise of the same size, or by another row's integers."""
    generator = torch.Generator().manual_seed(seed)
    new = []
    for t in tensors(xb):
        t = t.clone()
        other = t[(row + 1 + t.shape[0] // 2) % t.shape[0]]
        if t.is_floating_point():
            noise = torch.randn(other.shape, generator=generator).to(t)
            t[row] = other + noise * t.float().std().clamp_min(1e-3).to(t.dtype)
        else:
            t[row] = other
        new.append(t)
    return replaced(xb, new)


def _traced(lab: Lab, model: nn.Module, xb: tuple) -> tuple[object, list[tuple[str, str, list[Tensor]]]]:
    "Output, and what goes into and comes out of every module in order of execution."
    names = {m: n or type(m).__name__ for n, m in model.named_modules()}
    seen: list[tuple[str, str, list[Tensor]]] = []
    hooks = [m.register_forward_pre_hook(lambda m, i: seen.append((names[m], "in", _copies(i)))) for m in names]
    hooks += [m.register_forward_hook(lambda m, i, o: seen.append((names[m], "out", _copies(o)))) for m in names]
    try:
        return lab.forward(model, xb), seen
    finally:
        for h in hooks:
            h.remove()


def _copies(tree: object) -> list[Tensor]:
    return [t.detach().clone() for t in floats(tree)]  # a later in-place activation would overwrite the original


def _where(still: list, moved: list, rows: int, altered: int) -> tuple[str, str]:
    "The last place where rows are apart, and the first where they are mixed."
    clean = "the input"
    for (name, side, before), (_, _, after) in zip(still, moved):
        mixed = [a for a, b in zip(before, after) if a.shape == b.shape and _is_mixed(a, b, rows, altered)]
        if mixed:
            return clean, f"the input of {name}" if side == "in" else name
        if any(t.shape[0] % rows == 0 for t in before if t.shape[0]):
            clean = name if side == "out" else clean
    return clean, "the output"


def _is_mixed(before: Tensor, after: Tensor, rows: int, altered: int) -> bool:
    "True if more than the altered row changed, whether k roles of a row stand together or all rows of a role do."
    count = before.shape[0]
    if not count or count % rows:
        return False
    changed, k = rows_changed(before, after, TOLERANCE), count // rows
    return bool({i // k for i in changed} - {altered}) and bool({i % rows for i in changed} - {altered})
