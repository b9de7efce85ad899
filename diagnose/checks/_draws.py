"""Random draws held at their mean, so that what is left of a difference is not chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def _second(args: tuple, kwargs: dict, name: str, usual: float) -> float:
    return kwargs.get(name, args[1] if len(args) > 1 else usual)


def _mean_of_normal(args: tuple, kwargs: dict) -> Tensor | float:
    return kwargs.get("mean", args[0] if args else 0.0)


def _mean_of_normal_(args: tuple, kwargs: dict) -> float:
    return _second(args, kwargs, "mean", 0.0)


def _mean_of_uniform_(args: tuple, kwargs: dict) -> float:
    low, high = _second(args, kwargs, "from", 0.0), kwargs.get("to", args[2] if len(args) > 2 else 1.0)
    return (low + high) / 2


def _mean_of_bernoulli(args: tuple, kwargs: dict) -> Tensor | float:
    given = kwargs.get("p", args[1] if len(args) > 1 else None)
    return args[0] if given is None else given


MEANS: dict[Any, Callable[[tuple, dict], Tensor | float]] = {
    **dict.fromkeys((torch.randn, torch.randn_like), lambda args, kwargs: 0.0),
    **dict.fromkeys((torch.rand, torch.rand_like), lambda args, kwargs: 0.5),
    **dict.fromkeys((torch.bernoulli, Tensor.bernoulli), _mean_of_bernoulli),
    torch.normal: _mean_of_normal,
    Tensor.normal_: _mean_of_normal_,
    Tensor.uniform_: _mean_of_uniform_,
    Tensor.bernoulli_: lambda args, kwargs: _second(args, kwargs, "p", 0.5),
    Tensor.exponential_: lambda args, kwargs: 1 / _second(args, kwargs, "lambd", 1.0),
}
UNDROPPED = {
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout),
    *(torch.alpha_dropout, torch.feature_dropout, torch.feature_alpha_dropout),
}


class DrawsAtTheirMean(TorchFunctionMode):
    """While it is entered, what Python code draws from torch is the mean of what it would draw, and drop-out drops
    nothing. Draws inside compiled or C++ modules stay as they are."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in UNDROPPED:
            return kwargs.get("input", args[0] if args else None)
        if func not in MEANS:
            return func(*args, **kwargs)
        mean = MEANS[func](args, kwargs)
        if isinstance(mean, Tensor):
            mean = mean.clone()  # it may be what the draw is written into
        out = func(*args, **kwargs)
        with torch.no_grad():
            return out.copy_(mean) if isinstance(mean, Tensor) else out.fill_(mean)
