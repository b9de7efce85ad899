"""How far a change of the inputs gets in a model: the last layer that it moves, and where it is lost."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from diagnose.checks._probing import hooked, leaves
from diagnose.lab import Lab
from diagnose.stats import alike, tensors


class Reach(NamedTuple):
    """Where a change of the inputs ends.

    Attributes:
        moved: the last layer whose output it moves; "" if it moves none.
        still: the next layer, which does not move; "" for the model's output.
        inside: whether that layer is given something else and answers alike; else the change is lost on the way to it,
            in the code of a `forward`.
        source: the last layer with weights up to the one that is moved; "" if there is none.
    """

    moved: str
    still: str
    inside: bool
    source: str = ""

    @property
    def place(self) -> str:
        """In words; "" if no layer is moved."""
        if not self.moved:
            return ""
        return self.still if self.inside else f"between {self.moved} and {self.still or 'the output'}"


class _Call(NamedTuple):
    module: nn.Module
    name: str
    given: list[Tensor]
    output: list[Tensor]


def reach(lab: Lab, model: nn.Module, altered: tuple) -> Reach | None:
    """How far the difference between the fixed batch and altered inputs gets, in evaluation mode; None if the model
    calls other layers for them.

    Raises:
        NotApplicable: the forward pass raised on the altered inputs.
    """
    before, after = _calls(lab, model, None), _calls(lab, model, altered)
    if [c.name for c in before] != [c.name for c in after]:
        return None
    moves = [not alike(a.output, b.output) for a, b in zip(before, after)]
    if not any(moves):
        return Reach("", "", False)
    given = [not alike(a.given, b.given) for a, b in zip(before, after)]
    absorbing = [i for i, (into, out) in enumerate(zip(given, moves)) if into and not out]
    if absorbing:
        at = absorbing[-1]
        last = max((i for i in range(at) if moves[i]), default=None)
        return Reach(before[last].name if last is not None else "the inputs", before[at].name, True)
    last = max(i for i, m in enumerate(moves) if m)
    following = before[last + 1].name if last + 1 < len(before) else ""
    weighted = (c.name for c in reversed(before[: last + 1]) if any(True for _ in c.module.parameters(recurse=False)))
    return Reach(before[last].name, following, False, next(weighted, ""))


def _calls(lab: Lab, model: nn.Module, xb: tuple | None) -> list[_Call]:
    "Calls of layers in order, with what they were given before they could write into it."
    names, given, found = leaves(model), [], []

    def enter(module: nn.Module, inputs: tuple) -> None:
        given.append(copies(inputs))

    def leave(module: nn.Module, inputs: tuple, output: object) -> None:
        found.append(_Call(module, names[module], given.pop(), copies(output)))

    with hooked(names, leave, enter):
        lab.forward(model, xb)
    return found


def copies(tree: object) -> list[Tensor]:
    """Copies of the tensors of a structure."""
    return [t.detach().clone() for t in tensors(tree)]
