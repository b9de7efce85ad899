"""Learning rates, momentum, eps and weight decay of every parameter group can train what they are given.

## What it does
Reads the settings of every group as `fit` would set them, and one gradient of the first batch. From these it computes
what a first step moves: for optimizers with an eps (Adam and its kin) the rate times |g| / (|g| + eps), element by
element, for others the rate times the gradient; in relation to the size of the weights.

## Why it matters
A rate of zero trains nothing; momentum of 1 never forgets and diverges; an eps far above the gradients divides every
step down, without a word; rate times weight decay is the share of each weight that one step takes away.

## How it is judged
Fails if every group's rate is zero, negative or not finite, if a momentum or beta is not in [0, 1), or if rate times
weight decay is 1 or more (it is 1 - that share which is left). Warns if one group of trainable parameters has rate 0;
if rate times weight decay is above 0.1 (half of a weight is gone in 7 steps); if the first step would move the median
weight tensor by more than 10 times its size; and if eps is above 1e-4, above 4 times the median absolute gradient, and
the first step is below 1/1000 of the weights, the ratio of a healthy step (Karpathy): with g = 1e-4, eps 1e-3 makes
steps 11 times smaller. A large eps that a large rate makes up for passes, and so does a small rate alone: the
learning-rate ladder measures that.

## What to do
eps=1e-8 (PyTorch) or 1e-5 (fastai); betas (0.9, 0.99); weight decay 0.01; look for the rate with `learn.lr_find()`.

## Source
Kingma & Ba 2015, "Adam"; Loshchilov & Hutter 2019 (decoupled decay); Karpathy's CS231n notes, "Ratio of
weights:updates"; real failure F6 of the notes (eps=1e-3, rate 1e-5, "weights do not change").
"""

import math
from typing import Any

import torch
from fastai.learner import Learner
from torch import Tensor

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed, stated
from diagnose.checks._calls import is_number
from diagnose.errors import DiagnoseError, NotApplicable
from diagnose.isolate import held_parameters
from diagnose.lab import Lab

NAMES = ("lr", "mom", "sqr_mom", "eps", "wd")
LARGE_EPS = 1e-4  # above the defaults of PyTorch (1e-8) and fastai (1e-5): somebody chose it
DAMPED = 4.0  # times the median absolute gradient: the median step is a fifth of what it would be
HEALTHY_STEP = 1e-3  # of the size of the weights
HUGE_STEP = 10.0
SAMPLED = 10_000  # elements of a tensor
DECAYED = 0.1  # share of a weight that one step takes away


class OptimizerSettings(Check):
    """Reads every parameter group's settings and compares them with one gradient."""

    stage = "inspection"
    order = 25
    cost = "1 forward and backward pass, shared with gradient-flow"

    def measure(self, lab: Lab) -> EvidenceList:
        copy = lab.twin()
        try:
            held = held_parameters(copy)
            copy.opt.set_hypers(lr=copy.lr)
            if getattr(copy, "wd", None) is not None:
                copy.opt.set_hypers(wd=copy.wd)
            hypers = list(copy.opt.hypers)
        except (DiagnoseError, NotApplicable, KeyboardInterrupt):
            raise
        except Exception as e:
            raise NotApplicable(f"the optimizer's settings cannot be read ({type(e).__name__}: {e})") from e
        grads = self._gradients(lab, copy)
        found = EvidenceList([Evidence(name="parameter groups", value=len(hypers))])
        for i, hyper in enumerate(hypers):
            where = f"group {i}"
            members = [p for group, p in held if group == i]
            trains = sum(p.requires_grad for p in members)
            found.append(Evidence(name="trainable tensors", value=trains, where=where))
            found += [
                Evidence(name=n, value=float(hyper[n]), where=where)
                for n in NAMES
                if is_number(_plain(hyper.get(n))) and (n != "eps" or hyper[n])
            ]
            if trains:
                found += _first_step({k: _plain(v) for k, v in hyper.items()}, members, grads, where)
        return found

    def _gradients(self, lab: Lab, copy: Learner) -> dict[int, Tensor]:
        "Gradients by the identity of the copy's parameters; none where they cannot be computed."
        try:
            of = lab.gradients.of
        except (DiagnoseError, NotApplicable):  # other checks say why
            return {}
        named = dict(copy.model.named_parameters())
        return {id(named[n]): g for n, g in of.items() if g is not None and not g.is_sparse and n in named}

    def judge(self, evidence: EvidenceList) -> Judgement:
        groups = [e.where for e in evidence.all("trainable tensors") if is_number(e.value) and e.value > 0]
        if not groups:
            return Judgement("skip", "no group of trainable parameters was measured")
        values = {g: {n: evidence.get(n, g) for n in (*NAMES, *STEP)} for g in groups}
        bad = [f"lr {stated(v['lr'])} of {g}" for g, v in values.items() if not _in(v["lr"], 0, math.inf)]
        still = [g for g, v in values.items() if v["lr"] == 0]
        for g, v in values.items():
            bad += [
                f"{n} {stated(v[n])} of {g}, not in [0, 1)"
                for n in ("mom", "sqr_mom")
                if v[n] is not None and not (_in(v[n], 0, 1) and v[n] < 1)
            ]
            bad += [
                f"eps {stated(v['eps'])} of {g}" for _ in [0] if v["eps"] is not None and not _in(v["eps"], 0, math.inf)
            ]
            if _decay(v) >= 1:
                bad.append(f"rate times weight decay {_decay(v):.3g} of {g}, not below 1")
        if bad:
            return Judgement("fail", f"settings that cannot train: {listed(bad)}")
        if len(still) == len(groups):
            return Judgement("fail", f"the learning rate of all {len(groups)} groups is 0")
        doubts = [f"{g} has learning rate 0 and parameters that should train" for g in still]
        for g, v in values.items():
            step = v["first step / weights"]
            if _decay(v) > DECAYED:
                doubts.append(
                    f"{g} loses {_decay(v):.0%} of each weight to weight decay in one step (at most {DECAYED:.0%})"
                )
            if is_number(step) and not step <= HUGE_STEP:
                doubts.append(f"the first step moves {g} by {step:.3g} times its size (at most {HUGE_STEP:g})")
            grad, eps = v["median |gradient|"], v["eps"]
            known = all(map(is_number, (eps, grad, step)))
            if known and eps > LARGE_EPS and eps > DAMPED * grad and step < HEALTHY_STEP:
                without = evidence.get("first step / weights without eps", g)
                doubts.append(
                    f"eps {eps:g} of {g} is above the median absolute gradient {grad:.2g}: the first step moves "
                    f"weights by {step:.2g} of their size, {stated(without, 2)} without eps"
                )
        if doubts:
            return Judgement("warn", listed(doubts))
        rates = sorted({v["lr"] for v in values.values()})
        span = f"{rates[0]:.3g}" if len(rates) == 1 else f"{rates[0]:.3g} to {rates[-1]:.3g}"
        steps = [v["first step / weights"] for v in values.values() if is_number(v["first step / weights"])]
        note = f"; a first step moves weights by {min(steps):.2g} of their size" if steps else ""
        return Judgement("pass", f"{len(groups)} groups, learning rate {span}{note}")


STEP = ("first step / weights", "median |gradient|")


def _first_step(hyper: dict[str, Any], members: list[Tensor], grads: dict[int, Tensor], where: str) -> EvidenceList:
    "Median over weight tensors of what the first step moves, relative to their size; with and without eps."
    pairs = [(_some(p.detach()), _some(grads[id(p)])) for p in members if p.ndim > 1 and id(p) in grads]
    pairs = [(p, g) for p, g in pairs if bool(p.any()) and bool(g.any()) and bool(torch.isfinite(g).all())]
    rate, eps = hyper.get("lr"), hyper.get("eps")
    if not pairs or not is_number(rate):
        return EvidenceList()
    every = torch.cat([g[g != 0].abs().flatten() for _, g in pairs])
    found = EvidenceList([Evidence(name="median |gradient|", value=float(every.median()), where=where)])

    def moved(eps: float | None) -> float:
        sizes = [g / (g.abs() + max(eps, 1e-12)) if eps is not None else g for _, g in pairs]
        ratios = [float(s.norm() / p.norm()) for s, (p, _) in zip(sizes, pairs)]
        return rate * float(torch.tensor(ratios).median())

    step = moved(float(eps) if is_number(eps) else None)
    expected = f"<= {HUGE_STEP:g}"
    found.append(Evidence(name="first step / weights", value=step, unit="‖Δw‖/‖w‖", where=where, expected=expected))
    if is_number(eps):
        found.append(Evidence(name="first step / weights without eps", value=moved(0.0), unit="‖Δw‖/‖w‖", where=where))
    return found


def _some(t: Tensor) -> Tensor:
    "Elements at even distances: a median does not need millions."
    flat = t.flatten()
    return flat[:: max(flat.numel() // SAMPLED, 1)].float()


def _decay(values: dict[str, Any]) -> float:
    rate, decay = values["lr"], values["wd"]
    product = rate * decay if is_number(rate) and is_number(decay) else 0.0
    return product if math.isfinite(product) else math.inf


def _in(value: Any, least: float, most: float) -> bool:
    return is_number(value) and math.isfinite(value) and least <= value <= most


def _plain(value: Any) -> Any:
    "A setting that optimizers keep as a tensor, as a number."
    return float(value) if isinstance(value, Tensor) and value.numel() == 1 else value
