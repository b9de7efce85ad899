"""Outputs, loss and targets belong together: dtype, shape and range are what the loss expects.

## What it does
Calls the subject's own loss with its own targets, for the model's outputs and for random ones, on the CPU, where a
wrong index is an error message and not a dead device. The kind of loss is measured, never read off its name: a loss of
class indices refuses the index one past the last output; a softmax inside the loss does not notice a number added to
all outputs of a row; a loss without a lower bound falls ever further down its own gradient. If the loss raises, the
targets are tried in other forms and those that it accepts are named. The last operations of the model are read off the
autograd graph, and what they cost is measured by optimising outputs with and without them.

## Why it matters
Binary cross-entropy against class ids runs to minus infinity; a last activation that is applied twice leaves a sliver
of the range; a head with too few outputs crashes in the middle of an epoch, on a GPU without a readable message.

## How it is judged
Fails if the loss raises or is not a finite number; if it has no lower bound for these targets but has one for the same
targets clamped to [0, 1], or for log-softmaxed outputs; if it does not depend on the outputs; if two activations in a
row at the end of the model put more than a tenth of the distance from the best constant to the floor out of reach, or
one (ReLU, tanh) more than half. Warns if one puts more than a tenth out of reach; if the loaders name more classes than
the model has outputs; if targets under a softmax are true for several outputs of some rows and for fewer of others.
A single sigmoid or softmax is judged by `loss-contract`.

## What to do
Class ids (long, shape (rows,)): `CrossEntropyLossFlat()` and one output a class. Several labels a row: one-hot floats
in [0, 1] and `BCEWithLogitsLossFlat()`. Numbers: `MSELossFlat()`, targets and outputs of one shape, no last activation.

## Source
PyTorch's documentation of `CrossEntropyLoss`, `NLLLoss`, `BCELoss` and `BCEWithLogitsLoss`; real failures F4 and F11
of the notes; pytorch issue reports of device-side assertions from labels out of range (fastai#1835, fastai#2428).
"""

import copy
import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from fastai.callback.core import Callback
from torch import Tensor
from torch.nn import functional as F

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, stated
from diagnose.errors import DiagnoseError, NotApplicable
from diagnose.isolate import seed_everything
from diagnose.lab import Lab
from diagnose.stats import floats, replaced, tensors
from diagnose.trial import confined_by, scale_of

LOST_TO_ONE = 0.5  # share of the way to the floor that one last activation may put out of reach before it is a failure
LOST = 0.1  # the same for two in a row, and where one is worth a warning; as in loss-contract
IGNORED = -100  # PyTorch's default ignore_index
RAY = (1e3, 1e4)  # how far down the gradient a loss without a lower bound is followed
RESHAPES = ("View", "Squeeze", "Unsqueeze", "Reshape", "Clone", "Transpose", "Permute", "Alias", "ToCopy", "Unsafe")
ACTIVATIONS = {
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Relu": torch.relu,
    "Softmax": partial(torch.softmax, dim=1),
    "LogSoftmax": partial(torch.log_softmax, dim=1),
}
TWICE = {("Sigmoid", "Sigmoid"), ("Softmax", "Softmax"), ("LogSoftmax", "Softmax"), ("LogSoftmax", "Sigmoid")}
TWICE |= {("Softmax", "Sigmoid"), ("Sigmoid", "Softmax")}
CHANGES_LOSS = ("after_pred", "after_loss", "before_backward")


class LossFitsTargets(Check):
    """Calls the loss with its own targets and probes what it expects."""

    stage = "inspection"
    order = 5
    cost = "1 forward pass, the loss some twenty times; some hundred times if an activation ends the model"
    decisive = True

    def measure(self, lab: Lab) -> EvidenceList:
        if not len(lab.yb):
            raise NotApplicable("the batch has no target: fastai computes no loss without one")
        student = lab.twin()
        student.model.eval()
        seed_everything(lab.seed)
        try:
            with torch.enable_grad():
                output = lab.predicted(student, student.model(*lab.xb))
        except Exception as e:
            raise NotApplicable(f"the forward pass raised {type(e).__name__}; shape-trace shows where") from e
        if not floats(output):
            raise NotApplicable("the model's output holds no floating-point tensor")
        loss = _Loss(student.loss_func, lab.yb, lab.seed)
        output = loss.on_cpu(output)
        fixed = replaced(output, [t.detach() for t in tensors(output)])
        found = EvidenceList(
            [
                Evidence(name="output", value=[_told(t) for t in tensors(fixed)]),
                Evidence(name="target", value=[_told(t) for t in tensors(loss.yb)]),
            ]
        )
        found += _ranges(loss, fixed)
        try:
            value = loss(fixed)
        except (DiagnoseError, NotApplicable, KeyboardInterrupt):
            raise
        except Exception as e:
            found.append(
                Evidence(name="loss raised", value=f"{type(e).__name__}: {_first_line(e)}", expected="nothing")
            )
            found.append(Evidence(name="accepts the targets", value=_accepted(loss, fixed)))
            return found
        found.append(Evidence(name="loss", value=float(value.detach()), unit="loss", expected="finite"))
        if not math.isfinite(float(value.detach())):
            return found
        found += self._moves(lab, loss, fixed)
        found += self._bounds(lab, loss, output, fixed)
        found += self._kind(lab, loss, fixed)
        found += self._last_activations(lab, loss, output, fixed)
        return found

    def _moves(self, lab: Lab, loss: "_Loss", fixed: Any) -> EvidenceList:
        "Whether the loss follows the outputs, and the targets."
        one, other = (loss.number(_noise(fixed, lab.seed + i)) for i in range(2))
        if one is None or other is None:  # a loss that refuses outputs that are no probabilities, say
            return EvidenceList()
        rolled = replaced(loss.yb, [t.roll(1, 0) if t.ndim else t for t in tensors(loss.yb)])
        turned = loss.number(_noise(fixed, lab.seed), rolled)
        found = EvidenceList([Evidence(name="follows the outputs", value=not _same(one, other), expected="true")])
        if turned is not None:
            found.append(Evidence(name="follows the targets", value=not _same(one, turned)))
        replacing = [type(cb).__name__ for cb in lab.learn.cbs if _may_replace_loss(cb)]
        found.append(Evidence(name="callbacks that may replace the loss", value=replacing))
        return found

    def _bounds(self, lab: Lab, loss: "_Loss", output: Any, fixed: Any) -> EvidenceList:
        "Whether the loss falls without end, and what would stop it."
        start, kind = _noise(fixed, lab.seed), confined_by(output)
        squash = ACTIVATIONS[{"sigmoid": "Sigmoid", "softmax": "Softmax"}.get(kind, "LogSoftmax")] if kind else None
        endless = _endless(loss, start, then=squash)
        found = EvidenceList([Evidence(name="falls without end", value=endless, expected="false")])
        if not endless:
            return found
        clamped = replaced(loss.yb, [t.clamp(0, 1) for t in tensors(loss.yb)])
        outside = any(bool(((t < 0) | (t > 1)).any()) for t in tensors(loss.yb))
        if outside and _endless(loss, start, clamped, then=squash) is False:
            found.append(Evidence(name="bounded for targets in [0, 1]", value=True))
        classes = _classes(fixed, loss.yb)
        if not kind and classes and _endless(loss, start, then=partial(torch.log_softmax, dim=classes[1])) is False:
            found.append(Evidence(name="bounded for log-softmaxed outputs", value=True))
        return found

    def _kind(self, lab: Lab, loss: "_Loss", fixed: Any) -> EvidenceList:
        "Index loss, softmax inside, and the numbers that go with them."
        found = EvidenceList()
        classes = _classes(fixed, loss.yb)
        if classes and loss.refuses_index(fixed, classes[0]):
            found.append(Evidence(name="class indices expected below", value=classes[0]))
            named = _named_classes(lab.learn.dls)
            if named is not None:
                found.append(Evidence(name="classes of the loaders", value=named, expected=f"<= {classes[0]}"))
        if isinstance(fixed, Tensor) and fixed.ndim > 1 and fixed.shape[1] > 1:
            noise = _noise(fixed, lab.seed)
            shift = torch.linspace(-3, 3, noise.shape[0]).reshape(-1, *[1] * (noise.ndim - 1)).to(noise)
            plain, shifted = loss.number(noise), loss.number(noise + shift)
            other = loss.number(_noise(fixed, lab.seed + 1))
            inside = None not in (plain, shifted, other) and _same(plain, shifted, 1e-4) and not _same(plain, other)
            found.append(Evidence(name="softmax inside the loss", value=inside))
            y = tensors(loss.yb)[0]
            if inside and y.is_floating_point() and y.shape == fixed.shape:
                sums = y.sum(1).flatten().float()
                found.append(Evidence(name="least sum of a target", value=float(sums.min())))
                found.append(Evidence(name="largest sum of a target", value=float(sums.max()), expected="1"))
        return found

    def _last_activations(self, lab: Lab, loss: "_Loss", output: Any, fixed: Any) -> EvidenceList:
        "The activations that end the model, the last first, and what they put out of reach."
        if not isinstance(output, Tensor) or output.ndim < 2:
            return EvidenceList()
        chain = last_activations(output)
        found = EvidenceList([Evidence(name="last activations", value=chain)])
        twice = tuple(chain[:2]) in TWICE
        if not twice and (not chain or chain[0] not in ("Relu", "Tanh")):
            return found
        outer, inner = ACTIVATIONS[chain[0]], ACTIVATIONS[chain[1]] if twice else None
        start = _noise(fixed, lab.seed).abs() * 0.1 + 0.1
        try:
            if twice:
                free = scale_of(lambda z: loss(outer(z)), start)
                held = scale_of(lambda z: loss(outer(inner(z))), start)
            else:
                free = scale_of(loss, start)
                held = scale_of(lambda z: loss(outer(z)), start)
        except Exception:  # a loss that refuses what it is not made for says nothing about range
            return found
        if free.room and math.isfinite(free.floor):
            lost = (held.floor - free.floor) / free.room
            most = LOST if twice else LOST_TO_ONE
            found.append(Evidence(name="out of reach", value=lost, unit="share", expected=f"<= {most}"))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        shapes = f"outputs {_texts(evidence.get('output'))}, targets {_texts(evidence.get('target'))}"
        if raised := evidence.get("loss raised"):
            return Judgement("fail", f"the loss raised {raised} ({shapes}){self._why(evidence)}")
        value = evidence.get("loss")
        if value is None:
            return Judgement("skip", "not measured")
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            return Judgement("fail", f"the loss is {value} ({shapes})")
        low, high = evidence.get("least target"), evidence.get("largest target")
        if evidence.get("falls without end"):
            if evidence.get("bounded for targets in [0, 1]"):
                return Judgement(
                    "fail",
                    f"the loss has no lower bound: targets range from {stated(low)} to {stated(high)}, and with "
                    f"targets in [0, 1] it has one ({shapes})",
                )
            if evidence.get("bounded for log-softmaxed outputs"):
                return Judgement(
                    "fail",
                    f"the loss has no lower bound: it expects log-probabilities and gets free outputs ({shapes})",
                )
        outputs, named = evidence.get("class indices expected below"), evidence.get("classes of the loaders")
        if evidence.get("follows the outputs") is False:
            replacing = evidence.get("callbacks that may replace the loss", default=[])
            if replacing:
                return Judgement("warn", f"the loss does not depend on the outputs; {_texts(replacing)} may replace it")
            return Judgement("fail", f"the loss is {value:.4g} whatever the outputs are ({shapes})")
        chain, lost = evidence.get("last activations"), evidence.get("out of reach", default=0.0)
        chain = chain if isinstance(chain, list) else []
        twice = tuple(chain[:2]) in TWICE
        if not _at_most(lost, LOST):
            ends = f"{chain[1]} and then {chain[0]} end" if twice else f"{_texts(chain[:1])} ends"
            bad = twice or not _at_most(lost, LOST_TO_ONE)
            return Judgement(
                "fail" if bad else "warn",
                f"{ends} the model: {stated(lost, 2)} of what could be learned is out of reach (at most {LOST})",
            )
        if _is_number(named) and _is_number(outputs) and named > outputs:
            return Judgement("warn", f"the loaders name {named} classes and the model has {outputs} outputs")
        least, most = evidence.get("least sum of a target"), evidence.get("largest sum of a target")
        if evidence.get("softmax inside the loss") and _is_number(most) and not most <= 1.001 and least != most:
            return Judgement(
                "warn",
                f"a softmax over outputs of which one is meant to be true, and targets add up to {stated(least)} to "
                f"{stated(most)} in a row",
            )
        return Judgement("pass", f"loss {value:.4g}; {shapes}{self._notes(evidence)}")

    def _why(self, evidence: EvidenceList) -> str:
        told = ""
        low, high, outputs = (evidence.get(n) for n in ("least target", "largest target", "outputs"))
        if _is_number(outputs) and _is_number(high) and _is_number(low):
            if high >= outputs:
                told += (
                    f": the largest target is {high}, the model has {outputs} outputs, so at most {outputs - 1} fits"
                )
            elif low < 0:
                told += f": the least target is {low}"
        accepted = evidence.get("accepts the targets", default=[])
        return told + (f"; it accepts the targets {_texts(accepted)}" if accepted else "")

    def _notes(self, evidence: EvidenceList) -> str:
        notes = ""
        if evidence.get("class indices expected below") is not None:
            notes += f", class indices {evidence.get('least target')} to {evidence.get('largest target')}"
        if evidence.get("falls without end"):
            notes += "; the loss has no lower bound"
        if evidence.get("follows the targets") is False:
            notes += "; the loss of random outputs does not follow the order of the targets"
        return notes


class _Loss:
    "The subject's own loss on the CPU, with its targets, as one number."

    def __init__(self, func: Callable, yb: tuple, seed: int):
        self.seed = seed
        self.yb = self.on_cpu(yb)
        self.func = func
        if any(t.device.type != "cpu" for t in tensors(yb)):
            self.func = copy.deepcopy(func)
            if hasattr(self.func, "to"):  # nn.Module and fastai's BaseLoss alike
                self.func.to(torch.device("cpu"))

    @staticmethod
    def on_cpu(tree: Any) -> Any:
        return replaced(tree, [t.cpu() for t in tensors(tree)])

    def __call__(self, output: Any, yb: tuple | None = None) -> Tensor:
        seed_everything(self.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.func(output, *(self.yb if yb is None else yb)).float().mean()

    def number(self, output: Any, yb: tuple | None = None) -> float | None:
        "The loss as a number; None if it raises or is not finite."
        try:
            value = float(self(output, yb).detach())
        except Exception:
            return None
        return value if math.isfinite(value) else None

    def accepts(self, output: Any, yb: tuple) -> bool:
        "A finite number, without a warning: torch warns of broadcasting."
        seed_everything(self.seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return math.isfinite(float(self.func(output, *yb).float().mean()))
        except Exception:
            return False

    def refuses_index(self, output: Any, classes: int) -> bool:
        "True if the index `classes` raises and the one below does not."
        y = tensors(self.yb)[0]
        answers = []
        for index in (classes - 1, classes):
            changed = y.clone()
            changed.view(-1)[0] = index
            answers.append(self.number(output, replaced(self.yb, [changed])))
        return answers[0] is not None and answers[1] is None


def _ranges(loss: _Loss, fixed: Any) -> EvidenceList:
    found = EvidenceList()
    numbers = [t for t in tensors(loss.yb) if t.numel() and not t.is_complex()]
    if len(numbers) != 1:
        return found
    y = numbers[0]
    whole = not y.is_floating_point()
    seen = y[y != IGNORED] if whole and bool((y != IGNORED).any()) else y
    cast = int if whole else float
    found.append(Evidence(name="least target", value=cast(seen.min())))
    found.append(Evidence(name="largest target", value=cast(seen.max())))
    if classes := _classes(fixed, loss.yb):
        found.append(Evidence(name="outputs", value=classes[0], where=f"axis {classes[1]}"))
    return found


def _classes(output: Any, yb: tuple) -> tuple[int, int] | None:
    "Number of classes and their axis, where integer targets have the shape of the outputs less one axis."
    ys = tensors(yb)
    if not isinstance(output, Tensor) or len(ys) != 1 or output.ndim < 2 or ys[0].is_floating_point():
        return None
    y = ys[0]
    for axis in (1, output.ndim - 1):
        left = tuple(s for i, s in enumerate(output.shape) if i != axis)
        if tuple(y.shape) in (left, (*left[:1], 1, *left[1:])):
            return output.shape[axis], axis
    return None


def _accepted(loss: _Loss, fixed: Any) -> list[str]:
    "Other forms of the one target that the loss takes."
    ys = tensors(loss.yb)
    if len(ys) != 1 or not isinstance(fixed, Tensor) or not ys[0].ndim:
        return []
    y = ys[0]
    shapes: dict[str, Callable[[], Tensor]] = {"": lambda: y}
    if y.ndim > 1 and y.shape[1] == 1:
        shapes["without the axis of size 1"] = lambda: y.squeeze(1)
    if y.ndim == fixed.ndim - 1:
        shapes["with an axis of size 1 added"] = lambda: y.unsqueeze(1)
        shapes["one-hot"] = lambda: F.one_hot(y.long(), fixed.shape[1])
    if y.ndim > 1 and y.shape[1] > 1:
        shapes["as indices (argmax)"] = lambda: y.argmax(1)
    if y.numel() == fixed.numel() and y.shape != fixed.shape:
        shapes["in the outputs' shape"] = lambda: y.reshape(fixed.shape)
    found = []
    for shape, of in shapes.items():
        for kind in ("", "as long", "as float"):
            try:
                form = of()
            except Exception:  # one-hot of a class that has no output
                continue
            form = form.long() if kind == "as long" else form.float() if kind == "as float" else form
            if (shape or kind) and loss.accepts(fixed, replaced(loss.yb, [form])):
                found.append(" ".join(filter(None, (shape, kind))))
                break
    if not found and not _classes(fixed, loss.yb) and loss.accepts(fixed, replaced(loss.yb, [y.clamp(0, 1)])):
        found.append("clamped to [0, 1]")
    return found


def _endless(loss: _Loss, start: Any, yb: tuple | None = None, then: Callable | None = None) -> bool | None:
    "Whether the loss falls in proportion to the way down its own gradient; None if it cannot be told."
    parts = tensors(start)
    free = [i for i, t in enumerate(parts) if t.is_floating_point() and t.ndim]

    def at(values: list[Tensor]) -> Tensor:
        new = list(parts)
        for i, v in zip(free, values):
            new[i] = v if then is None else then(v)
        return loss(replaced(start, new), yb)

    try:
        values = [parts[i].float().clone().requires_grad_(True) for i in free]
        with torch.enable_grad():
            first = at(values)
            slopes = torch.autograd.grad(first, values, allow_unused=True)
        steepest = max((float(g.abs().max()) for g in slopes if g is not None), default=0.0)
        if not steepest > 0 or not math.isfinite(steepest):
            return None
        with torch.no_grad():
            near, far = (
                float(at([v if g is None else v - t * g / steepest for v, g in zip(values, slopes)])) for t in RAY
            )
    except Exception:
        return None
    return far < 5 * near < 0 and far < -max(1.0, abs(float(first.detach())))


def _noise(fixed: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return replaced(
        fixed,
        [
            torch.randn(t.shape, generator=generator).to(t) if t.is_floating_point() and t.ndim else t
            for t in tensors(fixed)
        ],
    )


def last_activations(output: Tensor) -> list[str]:
    """The activations that end the graph of an output, the last first, with only reshapes between them; at most two."""
    found: list[str] = []
    node = output.grad_fn
    while node is not None and len(found) < 2:
        name = type(node).__name__
        kind = next((k for k in ACTIVATIONS if name.startswith(f"{k}Backward")), None)
        if kind:
            found.append(kind)
        elif not name.startswith(RESHAPES):
            break
        node = node.next_functions[0][0] if node.next_functions else None
    return found


def _may_replace_loss(cb: Callback) -> bool:
    return not type(cb).__module__.startswith("fastai.") and any(hasattr(type(cb), e) for e in CHANGES_LOSS)


def _named_classes(dls: Any) -> int | None:
    try:
        named = dls.c
    except Exception:
        return None
    return named if isinstance(named, int) and not isinstance(named, bool) else None


def _told(t: Tensor) -> str:
    return f"{'×'.join(map(str, t.shape)) or 'scalar'} {str(t.dtype)[6:]}"


def _texts(value: Any) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list) and value else str(value or "unknown")


def _first_line(e: Exception) -> str:
    return (str(e).strip().splitlines() or [""])[0][:200].rstrip(".")


def _same(a: float, b: float, tolerance: float = 1e-6) -> bool:
    return abs(a - b) <= tolerance * max(abs(a), abs(b), 1e-6)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _at_most(value: Any, most: float) -> bool:
    return _is_number(value) and value <= most
