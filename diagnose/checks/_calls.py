"""Calls of modules during one forward pass, in order, with the shapes and where each input came from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from diagnose.stats import tensors, version


@dataclass
class Call:
    """One call of a module.

    Attributes:
        name: of the module, as in `named_modules`.
        inputs, outputs: shapes.
        fed_by: name of the leaf module whose output, or a view of it, is the input; "" for anything else.
        leaf: it has no children.
        ended: it returned.
    """

    name: str
    module: nn.Module
    inputs: list[tuple[int, ...]]
    fed_by: str
    leaf: bool
    outputs: list[tuple[int, ...]] = field(default_factory=list)
    ended: bool = False


class Calls(list[Call]):
    """Every call in order of its start. `calls.recording(model)` records while it is active."""

    @contextmanager
    def recording(self, model: nn.Module) -> Iterator[Calls]:
        """Hooks on every module of a copy, taken off at the end."""
        names = {m: n or type(m).__name__ for n, m in model.named_modules()}
        made: dict[int, tuple[str, int, Tensor]] = {}  # tensors are kept, so that no address is used twice
        running: list[int] = []

        def enter(module: nn.Module, args: tuple, kwargs: dict) -> None:
            given = tensors([args, kwargs])
            first = next((t for t in given if t.is_floating_point()), None)
            source, written, _ = made.get(_address(first), ("", 0, None)) if first is not None else ("", 0, None)
            fed_by = source if source and version(first) == written else ""
            leaf = next(module.children(), None) is None
            running.append(len(self))
            self.append(Call(names[module], module, [tuple(t.shape) for t in given], fed_by, leaf))

        def leave(module: nn.Module, args: tuple, output) -> None:
            call = self[running.pop()]
            call.outputs, call.ended = [tuple(t.shape) for t in tensors(output)], True
            if call.leaf:
                for t in tensors(output):
                    passed_on = made.get(_address(t))
                    if passed_on is None or passed_on[1] != version(t) or not _hands_on(call.module):
                        made[_address(t)] = (call.name, version(t), t)

        hooks = [m.register_forward_pre_hook(enter, with_kwargs=True) for m in names]
        hooks += [m.register_forward_hook(leave) for m in names]
        try:
            yield self
        finally:
            for h in hooks:
                h.remove()

    @property
    def leaves(self) -> list[Call]:
        """Calls of modules without children."""
        return [c for c in self if c.leaf]

    @property
    def raised_in(self) -> Call | None:
        """The innermost call that did not return; None if all did."""
        return next((c for c in reversed(self) if not c.ended), None)


def _hands_on(module: nn.Module) -> bool:
    "Modules that change no value in evaluation mode: what comes out is what their predecessor made."
    return isinstance(module, (nn.Identity, nn.Flatten, nn.Unflatten, nn.modules.dropout._DropoutNd))


def _address(t: Tensor | None) -> int:
    if t is None:
        return 0
    try:
        return t.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse and other tensors without a storage
        return 0


def shape(size: tuple[int, ...]) -> str:
    """A shape as a sentence shows it."""
    return "×".join(map(str, size)) or "scalar"


def is_number(value: object) -> bool:
    """True for a number that is no truth value; NaN is one."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def texts(value: object) -> list[str]:
    """Evidence that should be a list of texts, whatever it is."""
    return [str(v) for v in value] if isinstance(value, list) else []


def traced(model: nn.Module, xb: tuple, training: bool = False) -> Calls:
    """Calls of one forward pass without a gradient; whatever it raises is raised."""
    calls, modes = Calls(), [(m, m.training) for m in model.modules()]
    model.train(training)
    try:
        with torch.no_grad(), calls.recording(model):
            model(*xb)
    finally:
        for m, mode in modes:
            m.training = mode
    return calls
