"""Faults, one a file: each makes a healthy subject ill on purpose, for the tests and for `diagnose bench`."""

from __future__ import annotations

from typing import ClassVar

import torch
from fastai.learner import Learner
from torch import nn

from diagnose.errors import NotApplicable
from diagnose.isolate import untouched
from diagnose.registry import held_out


class Fault:
    """One way to spoil a Learner.

    Attributes:
        cause: id of the cause that the diagnosis must name.
        also: ids of causes that describe the very same defect; the bench counts them in a column of their own.
    """

    id: ClassVar[str]
    doc: ClassVar[str]
    cause: ClassVar[str]
    also: ClassVar[tuple[str, ...]] = ()

    @property
    def held_out(self) -> bool:
        """Whether no threshold may be set by it: see `registry.held_out`."""
        return held_out(self.id)

    def inject(self, learn: Learner) -> None:
        """Change `learn` in place.

        Raises:
            NotApplicable: this subject cannot have this fault; the reason is told.
        """
        raise NotImplementedError


def linears(model: nn.Module) -> list[tuple[nn.Module, str, nn.Linear]]:
    """Every linear layer, as (parent, name in the parent, layer), in order of registration."""
    found = []
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and path:
            parent, _, name = path.rpartition(".")
            found.append((model.get_submodule(parent), name, module))
    return found


def last_linear(model: nn.Module) -> tuple[nn.Module, str, nn.Linear]:
    """The last linear layer, with its parent and its name there.

    Raises:
        NotApplicable: the model has none.
    """
    found = linears(model)
    if not found:
        raise NotApplicable("the model has no linear layer")
    return found[-1]


def places_before(learn: Learner, layer: nn.Module) -> int:
    """Axes between rows and features of what a layer is given: 0 for rows of features, 1 for sequences of them.

    Raises:
        NotApplicable: the layer is not used, or the model raises.
    """
    given: list[int] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].ndim - 2))
    try:
        with untouched(learn) as twin, torch.no_grad():
            twin._split(twin.dls.one_batch())  # as fastai tells inputs from targets
            twin.model.eval()
            twin.model(*twin.xb)
    finally:
        hook.remove()
    if not given:
        raise NotApplicable("the last linear layer is not used")
    return given[0]


def parts_with_weights(model: nn.Module) -> list[str]:
    """Names of the model's children that have weights, two at least.

    Raises:
        NotApplicable: fewer than two children have weights.
    """
    found = [n for n, c in model.named_children() if any(True for _ in c.parameters())]
    if len(found) < 2:
        raise NotApplicable("the model has no two parts in a row")
    return found


def split_in_two(model: nn.Module) -> tuple[nn.Module, str]:
    """A part that runs before another part, both with weights: its parent and its name there.

    Raises:
        NotApplicable: fewer than two children have weights.
    """
    return model, parts_with_weights(model)[-2]
