"""Norm layers normalise over the axis they are meant for, over more than one number, and each in one place.

## What it does
Runs the batch once and looks at what every norm layer is given: whether a BatchNorm1d counts its features along
dimension 1 of a (rows, slots, features) tensor, as a Linear layer beside it shows that the features stand last; how
many numbers share one mean; and whether one BatchNorm layer is fed by different layers.

## Why it matters
BatchNorm1d of a (rows, slots, features) tensor gives each slot, not each feature, its own mean and scale: features keep
wildly different sizes. A mean over one number leaves zero, whatever the input was. Running statistics of one layer in
two places fit neither.

## How it is judged
Warns if a BatchNorm1d has as many features as dimension 1, dimension 2 differs, and the Linear layer that feeds it or
that runs next takes or makes as many numbers as dimension 2. Channels first, as Conv1d makes them, pass, and so does a
norm whose two dimensions are equal. Warns if one mean is taken over a single number, and if one BatchNorm is
fed by two different layers. An encoder that is called once for each input passes: the same layer feeds its norm.

## What to do
`x.flatten(0, 1)` before BatchNorm1d and `unflatten` after it, or `nn.LayerNorm(features)`; one norm layer for a place.

## Source
PyTorch's documentation of BatchNorm1d: (N, C, L), statistics over (N, L); real failures F8 and F9 of the notes.
"""

import math

from torch import nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._calls import Call, Calls, is_number, shape, texts, traced
from diagnose.errors import NotApplicable, SubjectError
from diagnose.isolate import seed_everything
from diagnose.lab import Lab

BATCH = nn.modules.batchnorm._BatchNorm
NORMS = (BATCH, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)


class NormAxes(Check):
    """Looks at the axes, the group sizes and the places of norm layers."""

    stage = "probe"
    order = 13
    cost = "1 forward pass"

    def measure(self, lab: Lab) -> EvidenceList:
        model = lab.twin().model
        norms = [m for m in model.modules() if isinstance(m, NORMS)]
        if not norms:
            raise NotApplicable("the model has no norm layer")
        seed_everything(lab.seed)
        try:
            calls = traced(model, lab.xb)
        except Exception as e:
            raise SubjectError("running the forward pass", e) from e
        ran = [c for c in calls.leaves if isinstance(c.module, NORMS) and c.inputs]
        single = [f"{c.name} ({shape(c.inputs[0])})" for c in ran if _numbers_per_mean(c) == 1]
        found = EvidenceList(
            [
                Evidence(name="norm layers", value=len(norms)),
                Evidence(name="slots taken for features", value=_slots(calls), expected="none"),
                Evidence(name="mean over one number", value=list(dict.fromkeys(single)), expected="none"),
            ]
        )
        fed: dict[str, dict[str, None]] = {}
        for c in ran:
            if isinstance(c.module, BATCH):
                fed.setdefault(c.name, {})[c.fed_by] = None
        shared = [f"{n} (fed by {' and '.join(by)})" for n, by in fed.items() if len(by) > 1 and "" not in by]
        often = [n for n in fed if sum(c.name == n for c in ran) > 1 and len(fed[n]) == 1]
        found.append(Evidence(name="one norm in several places", value=shared, expected="none"))
        found.append(Evidence(name="called several times in one place", value=often))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        total = evidence.get("norm layers")
        if not is_number(total) or math.isnan(total):
            return Judgement("skip", "not measured")
        if slots := texts(evidence.get("slots taken for features")):
            return Judgement(
                "warn", f"{len(slots)} of {total} norm layers normalise slots, not features: {listed(slots)}"
            )
        if single := texts(evidence.get("mean over one number")):
            return Judgement(
                "warn",
                f"{len(single)} of {total} norm layers take the mean of 1 number, which leaves 0: {listed(single)}",
            )
        if shared := texts(evidence.get("one norm in several places")):
            return Judgement("warn", f"{len(shared)} of {total} norm layers serve several places: {listed(shared)}")
        often = texts(evidence.get("called several times in one place"))
        note = f"; {len(often)} of them run several times in one pass, on inputs of one kind" if often else ""
        return Judgement("pass", f"{total} norm layers, each over its own axis{note}")


def _slots(calls: Calls) -> list[str]:
    "BatchNorm1d layers on (rows, slots, features), with a Linear layer beside them that shows where the features are."
    found = []
    leaves = [c for c in calls.leaves if c.inputs and (any(True for _ in c.module.parameters()))]
    for i, c in enumerate(leaves):
        size = c.inputs[0]
        if not isinstance(c.module, nn.BatchNorm1d) or len(size) != 3 or size[1] == size[2]:
            continue
        near = leaves[max(i - 1, 0) : i + 2]
        if any(isinstance(o.module, nn.modules.conv._ConvNd) for o in near):
            continue
        before = i > 0 and isinstance(leaves[i - 1].module, nn.Linear) and leaves[i - 1].outputs[:1] == [size]
        after = i + 1 < len(leaves) and isinstance(leaves[i + 1].module, nn.Linear)
        after = after and leaves[i + 1].inputs[0] == size
        if before or after:
            found.append(f"{c.name}, {c.module.num_features} features of {shape(size)}")
    return list(dict.fromkeys(found))


def _numbers_per_mean(call: Call) -> int:
    "How many numbers of one row share one mean; of all rows for a BatchNorm, which needs more than one row anyway."
    size, module = call.inputs[0], call.module
    if isinstance(module, nn.LayerNorm):
        return math.prod(module.normalized_shape)
    if isinstance(module, nn.GroupNorm):
        return math.prod(size[1:]) // module.num_groups
    if isinstance(module, BATCH):
        return math.prod(size) // max(size[1], 1) if len(size) > 1 else 0
    return math.prod(size[2:])
