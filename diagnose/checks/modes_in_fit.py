"""Layers run in training mode while training, and in evaluation mode while validating.

## What it does
Trains a copy on two batches, validates it on one, and notes in which mode every batch norm with running statistics and
every drop-out runs in each phase.

## Why it matters
A batch norm that only ever runs in evaluation mode never measures anything: it divides by the 1 that it began with. A
drop-out that runs while validating costs every score.

## How it is judged
Warns if a batch norm runs in evaluation mode while training, its own parameters train, and its statistics have never
been measured; or if a batch norm or drop-out runs in training mode while validating. Frozen norm layers, and those with
measured statistics (a pretrained body that is fine-tuned with them), may run in evaluation mode; all are named.

## What to do
Look for `model.eval()` in a callback or in `forward`. fastai sets the modes before every epoch.

## Source
Ioffe & Szegedy 2015, "Batch normalization", algorithm 2; fastai's TrainEvalCallback. Exact, no threshold.
"""

import math

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._numbers import number, texts
from diagnose.checks._probing import hooked
from diagnose.errors import DiagnoseError, NotApplicable, SubjectError
from diagnose.isolate import seed_everything, twin
from diagnose.lab import Lab


class ModesInFit(Check):
    """Modes of batch norms and drop-outs in both phases of a fit."""

    stage = "probe"
    order = 44
    cost = "2 steps and 1 validation batch"

    def measure(self, lab: Lab) -> EvidenceList:
        student = twin(lab.learn, [lab.batch] * 2)
        names = {m: n or type(m).__name__ for n, m in student.model.named_modules() if _knows_modes(m)}
        if not names:
            raise NotApplicable("no layer knows modes: no batch norm with running statistics, no drop-out")
        seen: dict[tuple[bool, bool], dict[str, nn.Module]] = {}

        def note(module: nn.Module, inputs: tuple, output: object) -> None:
            seen.setdefault((bool(student.training), module.training), {})[names[module]] = module

        seed_everything(lab.seed)
        try:
            with hooked(names, note):
                student.fit(1)
        except (DiagnoseError, NotApplicable, KeyboardInterrupt):
            raise
        except Exception as e:
            raise SubjectError("training on two batches and validating on one", e) from e
        still, late = seen.get((True, False), {}), seen.get((False, True), {})
        norms = {n: m for n, m in still.items() if isinstance(m, _BatchNorm) and _trains(m)}
        empty = [n for n, m in norms.items() if _never_measured(m)]
        return EvidenceList(
            [
                Evidence(name="layers that know modes", value=len(names)),
                Evidence(name="in evaluation mode while training", value=list(still)),
                Evidence(name="of them norms that never measured anything", value=empty, expected="none"),
                Evidence(name="in training mode while validating", value=list(late), expected="none"),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        total = number(evidence, "layers that know modes")
        if not math.isfinite(total):
            return Judgement("skip", "not measured")
        if empty := texts(evidence, "of them norms that never measured anything"):
            told = (
                f"{len(empty)} of {total:.0f} layers run in evaluation mode while training, and never measure anything"
            )
            return Judgement("warn", f"{told}: {listed(empty)}")
        if late := texts(evidence, "in training mode while validating"):
            return Judgement("warn", f"{len(late)} of {total:.0f} layers train while validating: {listed(late)}")
        still = texts(evidence, "in evaluation mode while training")
        note = f"; in evaluation mode while training: {listed(still)}" if still else ""
        return Judgement("pass", f"{total:.0f} layers know modes, none runs in the wrong one{note}")


def _knows_modes(m: nn.Module) -> bool:
    return (isinstance(m, _BatchNorm) and m.track_running_stats) or (isinstance(m, _DropoutNd) and m.p > 0)


def _trains(m: nn.Module) -> bool:
    own = list(m.parameters(recurse=False))
    return not own or any(p.requires_grad for p in own)


def _never_measured(m: _BatchNorm) -> bool:
    return m.running_mean is not None and not bool(m.running_mean.any()) and bool((m.running_var == 1).all())
