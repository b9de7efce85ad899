"""An encoder with batch norm is called several times a step on differently distributed inputs; a stacked call learns.

## What it is
`[encoder(x) for x in xs]` in the forward pass of a net that compares pictures, where the xs are of different kinds: a
mixture and its sources, a photograph and a drawing, real and generated.

## Why it stops learning
In training each call is normalised by its own batch statistics, so that the difference between the kinds is taken away.
The running statistics mix the calls, and evaluation, which uses them, sees inputs that training never saw: the loss
falls, and every prediction is wrong. The graph of several calls is sound, and does no harm.

## How it is found
The check `calls-alike`: a batch norm that is called several times, on inputs whose statistics are more than a quarter
of a standard deviation from those of all calls; and the one-batch trial is learned in training mode, and lags by more
than 0.4 of the scale in evaluation mode.

## How it is proven
The same trial on a copy that makes one stacked call a step in place of several: evaluation mode learns the batch (0.8
or more), and with several calls it does not (below 0.5).

## How to fix
    codes = encoder(torch.stack(xs, 1).flatten(0, 1)).unflatten(0, (-1, len(xs)))  # rows stay rows
    # or GroupNorm in the encoder

## What it looks like but is not
Two views of one picture, a siamese net on like pairs, unmix under batch norm: several calls whose statistics agree.
GroupNorm and LayerNorm have no statistics to mix. A momentum too small or batches of two rows: `norm-statistics-gap`.

## Source
The notes' checklist, item 9, and real failure F9 (where the inputs were alike, and it was harmless); Ioffe & Szegedy
2015; "real and generated batches apart" of the GAN literature (Chintala 2016, "How to train a GAN", 4).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.causes import Cause, Findings, Settled, Suspicion
from diagnose.causes._modes import NOT, lagging
from diagnose.causes._reading import number, places
from diagnose.changes import Change
from diagnose.checks.overfit_one_batch import GAP
from diagnose.diagnosis import Fix, Proof, Side
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.trial import LEARNED, Trial

CHECK = "calls-alike"
APART = 0.25  # standard deviations: what like inputs reach at most (see the check); evaluation must lag as well


class SharedEncoderNormDrift(Cause):
    """Suspected when calls differ in their statistics and evaluation lags behind training."""

    when_learned = True
    explains = ("norm-statistics-gap",)
    questions = (9,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        off, calls = number(findings, CHECK, "furthest off"), number(findings, CHECK, "most calls")
        modes = lagging(findings)
        if modes is None or not (off > APART and calls > 1):
            return None
        learned, there = modes
        place = places(findings, CHECK, "furthest off")[0]
        reason = (
            f"{place} is called {calls:.0f} times a step on inputs {off:.2g} standard deviations apart: {learned:.0%} "
            f"of the batch is learned in training mode, {max(there, 0.0):.0%} in evaluation mode"
        )
        return Suspicion(0.95, reason, [place], {"norm": place})

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        name = _encoder(lab, suspicion.facts["norm"])

        def apply(twin: Learner) -> None:
            twin.model.forward = _Stacked(twin.model, twin.model.get_submodule(name))

        return Change(f"one stacked call of {name} a step", apply, "encoder(torch.stack(xs, 1).flatten(0, 1))")

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        change = self.cure(lab, suspicion)
        before, after = lab.baseline, lab.trial(change, scale=lab.scale)
        gain = _level(after) - _level(before)
        proven = _level(before) < NOT and after.eval_learned >= LEARNED and after.is_learned
        proof = Proof(change=change.name, kind="inspection", before=_side(before), after=_side(after))
        return Settled(proven, not gain >= GAP, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Stack what the encoder is called on and call it once a step, or give it norms that do not depend on "
            f"the batch: {suspicion.reason}.",
            code="codes = encoder(torch.stack(xs, 1).flatten(0, 1)).unflatten(0, (-1, len(xs)))  # or GroupNorm",
        )


def _level(trial: Trial) -> float:
    return trial.eval_learned if math.isfinite(trial.eval_learned) else 0.0


def _side(trial: Trial) -> Side:
    told = f"{max(_level(trial), 0.0):.0%} of the batch is learned in evaluation mode, {trial.learned:.0%} in training"
    numbers = {"learned, evaluation mode": trial.eval_learned, "learned, training mode": trial.learned}
    return Side(summary=told, numbers=numbers)


def _encoder(lab: Lab, norm: str) -> str:
    "The outermost module around a norm that is called as often a step, with one tensor."
    model, counts = lab.twin().model, {}
    path = norm.split(".")
    around = [".".join(path[: i + 1]) for i in range(len(path))]

    def count(name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
            plain = len(args) == 1 and not kwargs and isinstance(args[0], Tensor) and isinstance(output, Tensor)
            counts[name] = counts.get(name, 0) + 1 if plain else math.nan

        return hook

    hooks = [model.get_submodule(n).register_forward_hook(count(n), with_kwargs=True) for n in around]
    try:
        with torch.no_grad():
            lab.forward(model, training=True)
    finally:
        for h in hooks:
            h.remove()
    return next(n for n in around if counts.get(n) == counts.get(norm))


class _Stacked:
    """A model's forward pass with one call of its encoder: a first pass finds what it is called on, a second is given
    the pieces of what the one call returned. Evaluation is as it was.

    Raises:
        NotApplicable: what it is called on depends on what it returned before, or does not fit into one batch.
    """

    def __init__(self, model: nn.Module, encoder: nn.Module):
        self.model, self.encoder, self.forward = model, encoder, model.forward
        self.own = vars(encoder).get("forward"), encoder.forward

    def __call__(self, *inputs: Any) -> Any:
        if not self.model.training:
            return self.forward(*inputs)
        given: list[Tensor] = []
        buffers = [(b, b.clone()) for b in self.model.buffers()]
        with torch.random.fork_rng(devices=sorted({p.device for p in self.model.parameters() if p.is_cuda}, key=str)):
            self._pass(lambda x: given.append(x) or self._plain(x), inputs)
        for buffer, was in buffers:
            buffer.copy_(was)
        if len({x.shape[1:] for x in given}) != 1:
            raise NotApplicable("the calls differ in the shapes of their inputs")
        pieces = self.encoder(torch.cat(given)).split([len(x) for x in given])
        if sum(map(len, pieces)) != sum(map(len, given)):
            raise NotApplicable("the encoder does not return a row for each row")
        left = list(zip(given, pieces))

        def answer(x: Tensor) -> Tensor:
            expected, piece = left.pop(0)
            if not torch.allclose(x, expected, rtol=1e-3, atol=1e-5):
                raise NotApplicable("what the encoder is called on depends on what it returned before")
            return piece

        return self._pass(answer, inputs)

    def _plain(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.own[1](x)

    def _pass(self, called: Callable[[Tensor], Tensor], inputs: tuple) -> Any:
        self.encoder.forward = called
        try:
            return self.forward(*inputs)
        finally:
            del self.encoder.forward
            if self.own[0] is not None:
                self.encoder.forward = self.own[0]
