"""Everything that the forward pass uses belongs to the model, and the model uses its inputs.

## What it does
Finds modules that the model reaches without having registered them (plain lists and dicts, closures, globals that a
method names), asks autograd whether the loss depends on their parameters, and whether the optimizer holds them. Finds
tensors that a method reads from a global, and then looks whether the output follows the inputs at all.

## Why it matters
Layers in a plain list are neither trained nor saved nor moved to the GPU. A forward pass that loops over a variable of
the notebook instead of its argument answers for that one batch whatever it is given.

## How it is judged
Warns if a parameter of a stray module would get a gradient and is not held by the optimizer. Strays that are frozen,
held, or get no gradient (a teacher in a list, to keep it out of the state) pass and are named. Fails if a method reads
a global tensor and the output does not change when every input is replaced (by more than 1e-6 of its size).

## What to do
`nn.ModuleList`, `nn.ModuleDict` or an attribute. In `forward`, use the arguments; keep constants with
`register_buffer`.

## Source
PyTorch's documentation of `ModuleList`; real failure F3 of the notes (`def forward(self, *x): ... for x in xb`).
"""

import dis
import math
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._calls import is_number, texts
from diagnose.errors import DiagnoseError, NotApplicable
from diagnose.isolate import held_parameters, seed_everything, stray_modules
from diagnose.lab import Lab
from diagnose.stats import floats, replaced, tensors

FOLLOWS = 1e-6  # change of the output, relative to its largest element: rounding stays below


class StrayModules(Check):
    """Finds what a model uses without owning it."""

    stage = "inspection"
    order = 30
    cost = "no pass; 1 forward and backward pass if there are strays, 2 forward passes if globals hold tensors"

    def measure(self, lab: Lab) -> EvidenceList:
        model = lab.learn.model
        strays = stray_modules(model)
        found = EvidenceList([Evidence(name="stray modules", value=list(strays))])
        if any(p.requires_grad for m in strays.values() for p in m.parameters()):
            copy = lab.twin()
            found += self._trained(lab, copy, stray_modules(copy.model))
        names = sorted(global_tensors(model))
        found.append(Evidence(name="global tensors read", value=names))
        if names:
            moved = self._moved(lab, lab.twin().model)
            expected = f"> {FOLLOWS:g}"
            found.append(Evidence(name="output moved by other inputs", value=moved, unit="share", expected=expected))
        return found

    def _trained(self, lab: Lab, copy: Any, strays: dict[str, nn.Module]) -> EvidenceList:
        "Strays whose parameters the loss depends on, and that no optimizer steps."
        own = {id(p) for p in copy.model.parameters()} | {id(p) for _, p in held_parameters(copy)}
        free = {n: [p for p in m.parameters() if p.requires_grad and id(p) not in own] for n, m in strays.items()}
        free = {n: ps for n, ps in free.items() if ps}
        count = sum(p.numel() for ps in free.values() for p in ps)
        found = EvidenceList([Evidence(name="trainable parameters outside the optimizer", value=count)])
        if not free:
            return found
        kept = [(b, b.clone()) for m in strays.values() for b in m.buffers()]
        copy.model.train()
        seed_everything(lab.seed)
        try:
            loss = lab.loss_of(copy, lab.predicted(copy, copy.model(*lab.xb)))
            every = [p for ps in free.values() for p in ps]
            grads = torch.autograd.grad(loss, every, allow_unused=True) if loss.requires_grad else [None] * len(every)
        except (DiagnoseError, NotApplicable, KeyboardInterrupt):
            raise
        except Exception as e:
            raise NotApplicable(f"the forward and backward pass raised {type(e).__name__}: {e}") from e
        finally:
            for buffer, bits in kept:  # a module of a global is the user's own, not a copy
                buffer.copy_(bits)
        reached = {id(p) for p, g in zip(every, grads) if g is not None and bool(g.abs().sum() > 0)}
        names = [n for n, ps in free.items() if any(id(p) in reached for p in ps)]
        found.append(Evidence(name="get a gradient that no optimizer uses", value=names, expected="none"))
        return found

    def _moved(self, lab: Lab, model: nn.Module) -> float:
        "How far the output moves when every input is replaced; jittered weights, as a layer may start at zero."
        seed_everything(lab.seed)
        with torch.no_grad():
            for p in model.parameters():
                p += torch.randn_like(p) * max(0.01 * float(p.float().pow(2).mean().sqrt()), 1e-3)
        other = [
            torch.randn_like(t) * t.std().nan_to_num(1.0).clamp_min(1e-2) if t.is_floating_point() else t.roll(1, 0)
            for t in (t if t.ndim else t.reshape(1) for t in tensors(lab.xb))
        ]
        other = [o.reshape(t.shape) for o, t in zip(other, tensors(lab.xb))]
        still, moved = lab.forward(model), lab.forward(model, replaced(lab.xb, other))
        pairs = [(a, b) for a, b in zip(floats(still), floats(moved)) if a.shape == b.shape and a.numel()]
        size = max((float(a.abs().max()) for a, _ in pairs), default=0.0)
        gap = max((float((a - b).abs().max()) for a, b in pairs), default=math.inf)
        return gap / max(size, 1e-12)

    def judge(self, evidence: EvidenceList) -> Judgement:
        if evidence.get("stray modules") is None:
            return Judgement("skip", "not measured")
        strays, read = texts(evidence.get("stray modules")), texts(evidence.get("global tensors read"))
        moved = evidence.get("output moved by other inputs")
        if read and not (is_number(moved) and moved > FOLLOWS):
            return Judgement(
                "fail",
                f"the forward pass reads {listed(read)}, and replacing every input moves the output by "
                f"{moved if is_number(moved) else math.nan:.2g} of its size (more than {FOLLOWS:g} expected)",
            )
        if lost := texts(evidence.get("get a gradient that no optimizer uses")):
            count = evidence.get("trainable parameters outside the optimizer")
            return Judgement(
                "warn",
                f"{count} trainable parameters belong to no registered module, the loss depends on them and no "
                f"optimizer steps them: {listed(lost)}",
            )
        note = f"; reads {listed(read)}, as it may: the output follows the inputs" if read else ""
        if strays:
            return Judgement("pass", f"{len(strays)} unregistered modules, none left untrained: {listed(strays)}{note}")
        return Judgement("pass", f"0 unregistered modules{note}")


def global_tensors(model: nn.Module) -> set[str]:
    """Globals that hold tensors and that a method of a module of the user's reads, as "Class.method: name"."""
    found = set()
    for cls in {type(m) for m in model.modules()}:
        for owner in cls.__mro__:
            if owner.__module__.startswith(("torch.", "fastai.", "torchvision.")) or owner is object:
                continue
            for name, method in vars(owner).items():
                if isinstance(method, types.FunctionType) and name != "__init__":
                    for used in _globals_of(method.__code__):
                        if _holds_tensors(method.__globals__.get(used)):
                            found.add(f"{owner.__name__}.{name}: global {used}")
    return found


def _globals_of(code: types.CodeType) -> Iterator[str]:
    yield from (str(i.argval) for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _globals_of(inner)


def _holds_tensors(value: Any, depth: int = 0) -> bool:
    if isinstance(value, Tensor):
        return True
    if isinstance(value, (list, tuple)) and depth < 2:
        return any(_holds_tensors(v, depth + 1) for v in value[:8])
    return False
