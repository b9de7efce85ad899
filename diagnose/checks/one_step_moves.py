"""One optimizer step moves what trains, and nothing that is frozen.

## What it does
Trains a copy for one step and compares every parameter and buffer bit by bit with what it was: trainable tensors that
have a gradient must move, frozen ones must not, and neither must the buffers of frozen modules, such as the running
statistics of a norm layer. Also finds modules on which someone set `requires_grad = False`, which sets an attribute
and freezes nothing.

## Why it matters
A freeze that does not freeze spoils the pre-trained weights that it was meant to keep; a frozen norm layer in training
mode goes on adapting its statistics, so that the frozen encoder is another one after every step.

## How it is judged
Warns if anything frozen moves, if a trainable tensor with a gradient (at least 1e-4 of the whole) does not, or if
`module.requires_grad` is False while its parameters train. Norm layers whose own parameters train, as fastai leaves
them in a frozen body, may move. Three things look like it and pass, with the number that tells them apart:

- A schedule that starts at a rate too small to move anything. It is played in 16 steps: the rate must reach a
  hundredth of the configured one, and everything must move.
- A teacher that follows the model by moving average: each of its tensors went from where it was straight towards one
  tensor that trains, all by the same share of the way (0.02 in BYOL).
- Statistics of a frozen norm layer that move and cost nothing: the one-batch trial is learned (0.8) in evaluation
  mode, which uses them. Not where someone put the layer into evaluation mode by hand, which `fit` undoes.

## What to do
`module.requires_grad_(False)` freezes parameters; `module.eval()` in every step, or fastai's BnFreeze, its statistics.

## Source
Real failure F18 of the notes: `net[0].requires_grad = False` left 4 of 4 parameters trainable; running means drifted.
Warm-up: Goyal et al. 2017, "Accurate, large minibatch SGD". Teachers: Tarvainen & Valpola 2017, "Mean teachers".
"""

import math
import statistics

from torch import nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed, odd_but_right, stated
from diagnose.checks._following import following
from diagnose.checks._numbers import number, texts
from diagnose.checks._recorded import series
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import same_bits, total_norm
from diagnose.trial import LEARNED, Trial

COUNTS = 1e-4  # of the whole gradient: a smaller one, such as that of a bias before a norm layer, is rounding
SEVERAL = 16  # steps of a second look, where the first step could not move anything
FRACTION = 0.01  # of the configured rate: a schedule that stays below it starves, and is no warm-up


class OneStepMoves(Check):
    """One step, then every tensor bit by bit."""

    stage = "probe"
    order = 45
    cost = "1 step, 16 more where gradients are accumulated or the rate starts near zero"

    def measure(self, lab: Lab) -> EvidenceList:
        before = lab.learn.model
        norms = {n: 0.0 if g is None else total_norm([g]) for n, g in lab.gradients.of.items()}
        least = COUNTS * math.sqrt(sum(v * v for v in norms.values() if math.isfinite(v)))
        old = dict(before.named_parameters())
        trainable = [n for n, p in old.items() if p.requires_grad]
        for steps in (1, SEVERAL):
            trial = lab.trial(steps=steps, scale=lab.scale, stop_at=math.inf, record=True)
            new = dict(trial.learner.model.named_parameters())
            moved = {n for n in old if n in new and not same_bits(old[n], new[n])}
            still = [n for n in trainable if norms.get(n, 0.0) > least and n not in moved]
            rates, configured = _rates(trial), _largest(lab.learn.lr)
            if trial.steps and not (still and rates and rates[-1] < configured):
                break
        if not trial.steps:
            raise NotApplicable(f"{SEVERAL} batches make no optimizer step")
        frozen = [n for n, p in old.items() if not p.requires_grad]
        follow = following(old, new, [n for n in frozen if n in moved], trainable)
        drift = _drift(before, trial.learner.model, set(follow))
        found = EvidenceList(
            [
                Evidence(name="optimizer steps", value=trial.steps, unit="steps"),
                Evidence(name="trainable", value=len(trainable), expected=f"of {len(old)} parameter tensors"),
                Evidence(name="trainable that moved", value=len(moved.intersection(trainable))),
                Evidence(name="trainable with a gradient that did not move", value=still, expected="none"),
                Evidence(name="learning rate", value=rates, where="every step"),
                Evidence(name="learning rate", value=configured, where="configured"),
                Evidence(name="frozen", value=len(frozen)),
                Evidence(
                    name="frozen that moved",
                    value=[n for n in frozen if n in moved and n not in follow],
                    expected="none",
                ),
                Evidence(name="frozen that follow what trains", value=list(follow)),
                Evidence(name="buffers of frozen modules that moved", value=list(drift), expected="none"),
                Evidence(
                    name="largest drift", value=max(drift.values(), default=0.0), unit="largest change of a value"
                ),
                Evidence(name="requires_grad set on a module", value=_without_effect(before), expected="none"),
            ]
        )
        if follow:
            found.append(Evidence(name="share of the way followed", value=statistics.median(follow.values())))
        if drift:
            found.append(Evidence(name="in evaluation mode by hand", value=_by_hand(before, drift), expected="none"))
            if lab.gradients.has_gradient:
                learned = lab.baseline.eval_learned
                found.append(
                    Evidence(name="learned, evaluation mode", value=learned, unit="share", expected=f">= {LEARNED}")
                )
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        if evidence.get("trainable that moved") is None:
            return Judgement("skip", "not measured")
        trainable, frozen = number(evidence, "trainable"), number(evidence, "frozen")
        moved = number(evidence, "trainable that moved")
        if named := texts(evidence, "requires_grad set on a module"):
            return Judgement(
                "warn",
                f"`requires_grad = False` on {listed(named)} sets an attribute and freezes nothing: "
                f"{stated(trainable)} parameter tensors train",
            )
        if named := texts(evidence, "frozen that moved"):
            return Judgement(
                "warn", f"{len(named)} of {stated(frozen)} frozen tensors moved in one step: {listed(named)}"
            )
        if named := texts(evidence, "trainable with a gradient that did not move"):
            told = f"{len(named)} of {stated(trainable)} trainable tensors have a gradient and did not move"
            return Judgement("warn", f"{told}: {listed(named)}")
        steps = number(evidence, "optimizer steps")
        span = "one step" if steps == 1 else f"{stated(steps)} steps"
        if not moved >= 1:
            return Judgement("warn", f"{stated(moved)} of {stated(trainable)} trainable tensors moved in {span}")
        note = f", none of {stated(frozen)} frozen ones did" if frozen else ""
        told = f"{stated(moved)} of {stated(trainable)} trainable tensors moved in {span}"
        return (
            _drifting(evidence)
            or _warming_up(evidence, told)
            or _taught(evidence, told)
            or Judgement("pass", told + note)
        )


def _drifting(evidence: EvidenceList) -> Judgement | None:
    named = texts(evidence, "buffers of frozen modules that moved")
    if not named:
        return None
    drift = stated(number(evidence, "largest drift"), 2)
    told = f"{len(named)} buffers of frozen modules moved by up to {drift}: {listed(named)}"
    if by_hand := texts(evidence, "in evaluation mode by hand"):
        return Judgement("warn", f"{told}; {listed(by_hand)} was in evaluation mode, and `fit` put it back")
    learned = number(evidence, "learned, evaluation mode")
    if not learned >= LEARNED:
        return Judgement("warn", f"{told}; evaluation mode, which uses them, learns {stated(learned)} of one batch")
    return odd_but_right(
        f"a freeze that does not freeze: {told}",
        f"evaluation mode, which uses them, learns {learned:.0%} of one batch (BnFreeze keeps them)",
    )


def _warming_up(evidence: EvidenceList, told: str) -> Judgement | None:
    found = evidence.get("learning rate", "every step")
    rates = [r for r in found if isinstance(r, float) and math.isfinite(r)] if isinstance(found, list) else []
    configured = number(evidence, "learning rate", "configured")
    if len(rates) < 2 or not rates[0] < FRACTION * configured:
        return None
    best = max(rates)
    if not best >= FRACTION * configured:
        return Judgement(
            "warn",
            f"the learning rate starts at {rates[0]:.3g} and reaches {best:.3g} in the plan, of {configured:.3g}",
        )
    return odd_but_right(
        f"an optimizer that does not step: the first step has a learning rate of {rates[0]:.3g}",
        f"the schedule raises it to {best:.3g} by step {rates.index(best) + 1} of {len(rates)}, and {told}",
    )


def _taught(evidence: EvidenceList, told: str) -> Judgement | None:
    if not (named := texts(evidence, "frozen that follow what trains")):
        return None
    share = stated(number(evidence, "share of the way followed"), 2)
    return odd_but_right(
        f"{len(named)} frozen tensors that move: {listed(named)}",
        f"each goes {share} of the way to a tensor that trains, as a moving average does; {told}",
    )


def _rates(trial: Trial) -> list[float]:
    "The largest learning rate of any parameter group, of every batch; empty if the optimizer does not tell."
    groups = []
    while column := series(trial, f"lr_{len(groups)}"):
        groups.append(column)
    return [max(step) for step in zip(*groups)]


def _largest(rate: object) -> float:
    rate = rate.stop if isinstance(rate, slice) else rate
    return float(rate) if isinstance(rate, (int, float)) else math.nan


def _drift(before: nn.Module, after: nn.Module, following: set[str]) -> dict[str, float]:
    """How far the buffers moved of modules that have parameters, all of them frozen and none of them following what
    trains; counters are not meant."""
    moved, others = {}, dict(after.named_modules())
    for name, module in before.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if not own or any(p.requires_grad for p in own.values()) or name not in others:
            continue
        if following.intersection(f"{name}.{n}" if name else n for n in own):
            continue
        now = dict(others[name].named_buffers(recurse=False))
        for key, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point() and key in now and not same_bits(buffer, now[key]):
                moved[f"{name}.{key}" if name else key] = float((now[key].float() - buffer.float()).abs().max())
    return moved


def _by_hand(model: nn.Module, buffers: dict[str, float]) -> list[str]:
    "Modules of these buffers that are in evaluation mode while the model around them is in training mode."
    modules = dict.fromkeys(name.rpartition(".")[0] for name in buffers)
    return [n for n in modules if model.training and not model.get_submodule(n).training]


def _without_effect(model: nn.Module) -> list[str]:
    "Modules with an attribute `requires_grad` that is False, over parameters that train."
    return [
        name or type(module).__name__
        for name, module in model.named_modules()
        if vars(module).get("requires_grad", True) is False and any(p.requires_grad for p in module.parameters())
    ]
