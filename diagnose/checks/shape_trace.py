"""The forward pass of a training batch runs, and every layer is given the rank of tensor that it expects.

## What it does
Runs the fixed batch through a copy in training mode and writes down, layer by layer, the shape that goes in and the
shape that comes out. If the pass raises, it names the first layer whose input has another rank (number of dimensions)
or another last dimension than the layer takes, the layer that raised, and the layer where the shape came from.

## Why it matters
PyTorch's message speaks of a function deep inside ("Expected 3D or 4D tensor, but got: [2, 512]"), not of the place in
the model where the shape went wrong, such as a second pooling after a flatten.

## How it is judged
Fails if the forward pass raises. The ranks that layers take are those of PyTorch's documentation: convolutions and
pooling over k dimensions take k + 1 or k + 2, BatchNorm1d 2 or 3, BatchNorm2d 4, BatchNorm3d 5.

## What to do
Look at the layers from the one where the shape came from to the one that is named.

## Source
Real failure F12 of the notes (a head that pools, behind a body that has pooled already); PyTorch `torch.nn`.
"""

import math
import re

from torch import nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._calls import Call, Calls, is_number, shape
from diagnose.errors import unmasked
from diagnose.isolate import seed_everything
from diagnose.lab import Lab
from diagnose.stats import tensors

MOST = 200  # layers listed
SPATIAL = re.compile(r"(?:Conv|MaxPool|AvgPool|InstanceNorm|Pad|Unpool)\w*?([123])d")


class ShapeTrace(Check):
    """Runs the batch and writes shapes down, layer by layer."""

    stage = "probe"
    order = 5
    cost = "1 forward pass"
    decisive = True

    def measure(self, lab: Lab) -> EvidenceList:
        model, calls, raised = lab.twin().model, Calls(), None
        model.train()
        seed_everything(lab.seed)
        output = None
        with calls.recording(model):
            try:
                output = model(*lab.xb)
            except Exception as e:
                raised = unmasked(e)
        found = EvidenceList(
            [
                Evidence(name="input", value=[shape(tuple(t.shape)) for t in tensors(lab.xb)]),
                Evidence(name="output", value=[shape(tuple(t.shape)) for t in tensors(output)]),
                Evidence(name="layers run", value=len(calls.leaves)),
            ]
        )
        if raised is not None:
            found += self._place(calls, raised)
        found += [Evidence(name="shapes", value=_told(c), where=c.name) for c in calls.leaves[:MOST]]
        return found

    def _place(self, calls: Calls, raised: BaseException) -> EvidenceList:
        message = (str(raised).strip().splitlines() or [""])[0][:200]
        found = EvidenceList([Evidence(name="raised", value=f"{type(raised).__name__}: {message}", expected="nothing")])
        inner = calls.raised_in
        if inner is not None:
            found.append(Evidence(name="raised in", value=_named(inner)))
        wrong = next((c for c in calls if needs(c)), None)
        if wrong is None:
            return found
        found.append(Evidence(name="first wrong input", value=_shapes(wrong.inputs), where=_named(wrong)))
        found.append(Evidence(name="it takes", value=needs(wrong), where=_named(wrong)))
        before = [c for c in calls[: calls.index(wrong)] if c.leaf and c.ended]
        if origin := _origin(before, wrong):
            found.append(Evidence(name="shape came from", value=_named(origin), where=_told(origin)))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        layers, given = evidence.get("layers run"), evidence.get("input", default=[])
        if raised := evidence.get("raised"):
            told = f"the forward pass raised in {evidence.get('raised in') or 'the model itself'}"
            wrong = next(iter(evidence.all("first wrong input")), None)
            if wrong is None:
                return Judgement("fail", f"{told}: {raised}")
            takes = evidence.get("it takes")
            told += f"; the first wrong input is that of {wrong.where}: {wrong.value}, it takes {takes}"
            if origin := next(iter(evidence.all("shape came from")), None):
                told += f"; the shape came from {origin.value} ({origin.where})"
            return Judgement("fail", f"{told}: {raised}")
        if not is_number(layers) or math.isnan(layers):
            return Judgement("skip", "not measured")
        return Judgement("pass", f"{_joined(given)} in, {_joined(evidence.get('output'))} out, {layers} layers run")


def needs(call: Call) -> str:
    """What a layer takes, if its first input is not that; "" if it is, or if nothing is known of the layer."""
    if not call.inputs:
        return ""
    size, module = call.inputs[0], call.module
    ranks: tuple[int, ...] = ()
    if isinstance(module, nn.BatchNorm1d):
        ranks = (2, 3)
    elif isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
        ranks = (4,) if isinstance(module, nn.BatchNorm2d) else (5,)
    elif type(module).__module__.startswith("torch.nn.") and (found := SPATIAL.search(type(module).__name__)):
        ranks = (int(found[1]) + 1, int(found[1]) + 2)
    if ranks and len(size) not in ranks:
        return f"rank {' or '.join(map(str, ranks))}"
    if isinstance(module, nn.Linear) and (not size or size[-1] != module.in_features):
        return f"a last dimension of {module.in_features}"
    if isinstance(module, nn.modules.conv._ConvNd) and not isinstance(module, nn.modules.lazy.LazyModuleMixin):
        channels = size[-len(module.kernel_size) - 1]
        if channels != module.in_channels:
            return f"{module.in_channels} channels"
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and len(size) > 1 and size[1] != module.num_features:
        return f"{module.num_features} features in dimension 1"
    return ""


def _origin(before: list[Call], wrong: Call) -> Call | None:
    "The last layer that changed the rank, else the last that made the shape."
    turned = [c for c in before if c.inputs and c.outputs and len(c.inputs[0]) != len(c.outputs[0])]
    made = [c for c in before if c.outputs and wrong.inputs[0] in c.outputs]
    if turned and len(turned[-1].outputs[0]) == len(wrong.inputs[0]) and needs(wrong).startswith("rank"):
        return turned[-1]
    return made[-1] if made else (before[-1] if before else None)


def _named(call: Call) -> str:
    kind = type(call.module).__name__
    return call.name if call.name == kind else f"{call.name} ({kind})"


def _told(call: Call) -> str:
    return f"{_shapes(call.inputs)} -> {_shapes(call.outputs) if call.ended else 'raised'}"


def _shapes(sizes: list[tuple[int, ...]]) -> str:
    return ", ".join(map(shape, sizes)) or "no tensor"


def _joined(value: object) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list) and value else "unknown"
