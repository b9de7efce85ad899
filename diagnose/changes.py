"""Changes: one named alteration of a subject each, made on a copy. The undo is to drop the copy.

A change that only one cause needs lives in that cause's file; here are those that several share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from fastai.learner import Learner
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from diagnose.errors import NotApplicable


@dataclass(frozen=True)
class Change:
    """One alteration.

    Attributes:
        name: what is different, as the report says it: "learning rate 2e-06".
        apply: makes it, on a twin whose optimizer may not exist yet.
        code: the same change as the owner would write it.
    """

    name: str
    apply: Callable[[Learner], None]
    code: str = ""


def left_out(names: list[str]) -> Change:
    """Without the callbacks of these class names."""

    def apply(twin: Learner) -> None:
        twin.remove_cbs([cb for cb in twin.cbs if type(cb).__name__ in names])

    plural = "callbacks" if len(names) > 1 else "callback"
    return Change(f"without the {plural} {' and '.join(names)}", apply, f"learn.remove_cbs([{', '.join(names)}])")


def unhooked() -> Change:
    """Without the hooks that `register_hook` has put on parameters."""

    def apply(twin: Learner) -> None:
        for p in twin.model.parameters():
            if p._backward_hooks:
                p._backward_hooks.clear()

    code = "for p in learn.model.parameters():\n    if p._backward_hooks:\n        p._backward_hooks.clear()"
    return Change("without hooks on parameters", apply, code)


def scaled_rate(rate: float | slice, factor: float) -> float | slice:
    """A learning rate, or a slice of rates over parameter groups, times `factor`."""
    if isinstance(rate, slice):
        return slice(None if rate.start is None else rate.start * factor, rate.stop * factor)
    return rate * factor


def rate_text(rate: float | slice) -> str:
    """A learning rate as people write it."""
    if isinstance(rate, slice):
        return f"slice({'' if rate.start is None else f'{rate.start:.3g}, '}{rate.stop:.3g})"
    return f"{rate:.3g}"


def _build_optimizer(learn: Learner) -> None:
    if learn.opt is None:
        learn.create_opt()


def learning_rate(learn: Learner, factor: float) -> Change:
    """The configured learning rate times `factor`, every parameter group alike."""
    rate = scaled_rate(learn.lr, factor)

    def apply(twin: Learner) -> None:
        _build_optimizer(twin)  # building it later would read the rate from a partial and undo this
        twin.lr = rate

    text = rate_text(rate)
    return Change(f"learning rate {text}", apply, f"learn.lr = {text}")


def settings(name: str, code: str = "", **values: float) -> Change:
    """Hyper-parameters of the optimizer set to the given values in every group; those that it does not have are left.

    Args:
        values: under fastai's names: wd, mom, sqr_mom, eps.

    Raises:
        NotApplicable: on applying, if it has none of them.
    """

    def apply(twin: Learner) -> None:
        _build_optimizer(twin)
        known = {k: v for k, v in values.items() if all(k in hyper for hyper in twin.opt.hypers)}
        if not known:
            raise NotApplicable(f"the optimizer has no {' and no '.join(values)}")
        twin.opt.set_hypers(**known)
        if "wd" in known:
            twin.wd = known["wd"]  # fit sets the Learner's own over the optimizer's

    return Change(name, apply, code)


def fresh_optimizer() -> Change:
    """An optimizer built anew, over all parameters that the model has now."""

    def apply(twin: Learner) -> None:
        twin.opt = None
        if callable(getattr(twin.opt_func, "clear_state", None)):
            raise NotApplicable("opt_func is an optimizer that was already built: it cannot be built anew on a copy")
        twin.splitter = _whole_model  # the user's own splitter may be what leaves parameters out
        twin.create_opt()

    return Change("optimizer built over all parameters of the model", apply, "learn.create_opt()")


def _whole_model(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


def unfrozen() -> Change:
    """Every parameter trainable, and held by the optimizer."""

    def apply(twin: Learner) -> None:
        twin.model.requires_grad_(True)
        missing = {id(p) for p in twin.model.parameters()}
        if twin.opt is not None:
            missing -= {id(p) for group in twin.opt.param_lists for p in group}
        if missing:
            fresh_optimizer().apply(twin)

    return Change("every parameter trainable", apply, "learn.model.requires_grad_(True)\nlearn.create_opt()")


def scaled_loss(factor: float, name: str, code: str = "") -> Change:
    """The loss times `factor`."""

    def apply(twin: Learner) -> None:
        twin.loss_func = _Scaled(twin.loss_func, factor)

    return Change(name, apply, code)


class _Scaled(nn.Module):
    def __init__(self, loss_func: Callable, factor: float):
        super().__init__()
        self.loss_func, self.factor = loss_func, factor

    def forward(self, *args: Any) -> Tensor:
        return self.loss_func(*args) * self.factor


class Appended(nn.Module):
    """A model followed by a function of its output."""

    def __init__(self, model: nn.Module, then: Callable[[Tensor], Tensor]):
        super().__init__()
        self.model, self.then = model, then

    def forward(self, *inputs: Any) -> Any:
        return self.then(self.model(*inputs))


def larger_outputs(factor: float) -> Change:
    """Outputs times a number, before the loss."""

    def apply(twin: Learner) -> None:
        twin.model = Appended(twin.model, partial(torch.mul, other=torch.tensor(factor)))

    return Change(f"outputs times {factor:g}", apply, f"return {factor:g} * scores  # the last line of forward")


def log_probabilities() -> Change:
    """The logarithm of a softmaxed output: a softmax of it gives the probabilities back, so one of two is undone."""

    def apply(twin: Learner) -> None:
        twin.model = Appended(twin.model, lambda p: p.clamp_min(1e-12).log())

    return Change("logarithm of the model's probabilities", apply)


def logits() -> Change:
    """The inverse sigmoid of the output: the loss's own sigmoid gives the probabilities back, so one is undone."""

    def apply(twin: Learner) -> None:
        twin.model = Appended(twin.model, partial(torch.logit, eps=1e-7))

    return Change("inverse sigmoid of the model's output", apply)


# ---- broadcasting inside a loss ------------------------------------------------------------------------------


def broadcasts_by_accident(a: Any, b: Any) -> bool:
    """True for two tensors of equally many elements whose ranks differ, (n, 1) against (n,): broadcasting makes (n, n).

    An explicit pairwise comparison, (n, 1, d) against (1, n, d), has equal ranks and is left alone.
    """
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.ndim == b.ndim or a.numel() != b.numel():
        return False
    if a.numel() < 2 or not min(a.ndim, b.ndim):
        return False
    try:
        return torch.broadcast_shapes(a.shape, b.shape).numel() > a.numel()
    except RuntimeError:
        return False


class BroadcastWatch(TorchFunctionMode):
    """Notes every accidental broadcast while it is active, and mends it if asked to.

    Attributes:
        seen: (operation, shape, shape) of each.
    """

    def __init__(self, mend: bool = False):
        super().__init__()
        self.mend, self.seen = mend, []

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: dict | None = None) -> Any:
        if len(args) > 1 and broadcasts_by_accident(args[0], args[1]):
            a, b = args[:2]
            self.seen.append((getattr(func, "__name__", str(func)), tuple(a.shape), tuple(b.shape)))
            if self.mend:
                args = (a, b.reshape(a.shape), *args[2:]) if a.ndim > b.ndim else (a.reshape(b.shape), b, *args[2:])
        return func(*args, **(kwargs or {}))


def aligned_loss() -> Change:
    """Target and prediction brought to one shape wherever the loss would broadcast them by accident."""

    def apply(twin: Learner) -> None:
        twin.loss_func = _Aligned(twin.loss_func)

    return Change("target reshaped to the prediction's shape inside the loss", apply)


class _Aligned(nn.Module):
    def __init__(self, loss_func: Callable):
        super().__init__()
        self.loss_func = loss_func

    def forward(self, *args: Any) -> Tensor:
        with BroadcastWatch(mend=True):
            return self.loss_func(*args)


# ---- cut graphs and constant weights ---------------------------------------------------------------------------


class GraphUncut(TorchFunctionMode):
    """Inside it `detach` gives the tensor itself and `no_grad` has no effect: gradients flow where they were cut."""

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: dict | None = None) -> Any:
        if func in (Tensor.detach, torch.detach) or getattr(func, "__name__", "") == "detach":
            return args[0]
        with torch.enable_grad():
            return func(*args, **(kwargs or {}))


def uncut_graph() -> Change:
    """A forward pass in which neither `detach` nor `no_grad` cuts the graph."""

    def apply(twin: Learner) -> None:
        twin.model = _Uncut(twin.model)

    return Change("forward pass without detach and no_grad", apply)


class _Uncut(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return self.model(*inputs)
        with GraphUncut():
            return self.model(*inputs)


def reinitialised(names: list[str] | None = None) -> Change:
    """Weights drawn anew from Kaiming's normal distribution, biases set to zero; all layers, or those named.

    Source: He et al. 2015, "Delving deep into rectifiers", fan-in mode with the gain of ReLU.
    """

    def apply(twin: Learner) -> None:
        for name, p in twin.model.named_parameters():
            if names is not None and name not in names:
                continue
            with torch.no_grad():
                if p.ndim > 1:
                    nn.init.kaiming_normal_(p, nonlinearity="relu")
                elif name.endswith("bias"):
                    p.zero_()

    return Change("weights drawn anew (Kaiming)", apply, "apply_init(learn.model, nn.init.kaiming_normal_)")
