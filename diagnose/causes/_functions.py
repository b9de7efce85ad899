"""Changes to the functions that a forward pass calls, whether as modules, functions or methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode


class Calling(nn.Module):
    """A model whose function calls pass through `swap(func, args, kwargs, training)`, which calls `func` or another.

    Args:
        swap: gets the function with its arguments, and whether the model trains; returns the result.
    """

    def __init__(self, model: nn.Module, swap: Callable):
        super().__init__()
        self.model, self.swap = model, swap

    def forward(self, *inputs: Any) -> Any:
        begin = getattr(self.swap, "begin", None)
        if begin:
            begin(self.training)
        with _Mode(self.swap):
            return self.model(*inputs)


class _Mode(TorchFunctionMode):
    def __init__(self, swap: Callable):
        super().__init__()
        self.swap = swap

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: dict | None = None) -> Any:
        return self.swap(func, args, kwargs or {})
