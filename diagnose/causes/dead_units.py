"""A large share of units outputs zero for every input (dying ReLU).

## What it is
Biases so far below zero, or weights after one step that was too long, that no input lifts a unit above zero.

## Why it stops learning
Where a ReLU answers zero its slope is zero: a unit that is dead for every row gets no gradient and never comes back.

## How it is found
The check `activations`: at least nine of ten units of a layer are zero for every row and place, before any step.
Healthy layers start with at most four of ten.

## How it is proven
The layer that feeds the dead units is reset to PyTorch's initialisation; where none can be named, every ReLU becomes a
LeakyReLU of slope 0.1: the same batch is learned in as many steps, and as it is not.

## How to fix
    layer.reset_parameters()          # the layer before the activation
    # or nn.LeakyReLU() for nn.ReLU(), a norm layer before it, a lower rate

## What it looks like but is not
Sparse activations on purpose leave enough alive, and the batch is learned. Units that die in training under a rate that
is too high are alive at the start.

## Source
Maas et al. 2013, "Rectifier nonlinearities improve neural network acoustic models"; the notes' checklist, item 7.
"""

from collections.abc import Callable
from typing import Any

import torch
from fastai.learner import Learner
from torch import Tensor
from torch.nn import functional as F

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._functions import Calling
from diagnose.causes._reading import by_place
from diagnose.changes import Change
from diagnose.checks._calls import traced
from diagnose.checks.activations import MOST
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6}
SLOPE = 0.1


class DeadUnits(Cause):
    """Suspected when nearly all units of a layer are dead before any step."""

    explains = ("lr-too-high", "lr-too-low", "representation-collapse", "capacity-too-small", "head-too-weak")
    questions = (7,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        dead = {w: v for w, v in by_place(findings, "activations", "dead units").items() if v >= MOST}
        if not dead:
            return None
        worst = max(dead, key=lambda w: dead[w])
        return Suspicion(0.75, f"{dead[worst]:.0%} of the units after {worst} are zero for every row", list(dead))

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        if feeders := self._feeders(lab, suspicion.where):

            def reset(twin: Learner) -> None:
                for name in feeders:
                    twin.model.get_submodule(name).reset_parameters()

            return Change(
                f"{', '.join(feeders)} initialised anew", reset, f"learn.model.{feeders[0]}.reset_parameters()"
            )

        def leak(twin: Learner) -> None:
            twin.model = Calling(twin.model, _leaky)

        return Change(f"LeakyReLU of slope {SLOPE} for every ReLU", leak)

    def _feeders(self, lab: Lab, dead: list[str]) -> list[str]:
        model = lab.twin().model
        fed = dict.fromkeys(c.fed_by for c in traced(model, lab.xb) if c.name in dead and c.fed_by)
        return [n for n in fed if hasattr(model.get_submodule(n), "reset_parameters")]

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Initialise the layer before {suspicion.where[0]} anew, put a norm layer there, or use LeakyReLU.",
            code="layer.reset_parameters()  # or nn.LeakyReLU() for nn.ReLU()",
        )


def _leaky(func: Callable, args: tuple, kwargs: dict) -> Any:
    return F.leaky_relu(args[0], SLOPE) if func in RELUS and args else func(*args, **kwargs)
