"""Callbacks let the optimizer step: what they skip, clip or cancel is known.

## What it does
Trains a copy with its own callbacks for three optimizer steps (at most 64 batches) on the fixed batch and counts
batches, steps and cancellations, with the callback that raised each, and compares the length of the gradient before and
after the callbacks had it. Callbacks that write, log or draw stay out, as in every trial. Nothing is run if the Learner
has only fastai's own furniture.

## Why it matters
A callback that cancels in `before_step` or `before_backward` leaves a run in which the loss is computed and nothing is
learned; clipping to a tiny norm is a tiny learning rate under SGD.

## How it is judged
Fails if 64 batches make no step and each one's gradient is thrown away; warns if the gradients add up, as they do for
a step that comes later still. Accumulation (one step for several batches) and clipping are good practice: they pass
and are stated with their numbers.

## What to do
Look at the callback and the event that are named.

## Source
fastai's events and `Cancel*Exception`s (fastai.callback.core); the notes' checklist, item 2.
"""

import math
import sys
from collections import Counter

from fastai.callback.core import Callback, CancelFitException
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.training import GradientAccumulation
from fastai.learner import Learner

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._calls import is_number, texts
from diagnose.errors import DiagnoseError, NotApplicable, SubjectError
from diagnose.isolate import seed_everything, twin
from diagnose.lab import Lab
from diagnose.stats import total_norm

STEPS, MOST = 3, 64
FURNITURE = {"TrainEvalCallback", "Recorder", "CastToTensor", "ProgressCallback"}
CLIPPED = 0.99


class Callbacks(Check):
    """Counts steps and cancellations under the Learner's own callbacks."""

    stage = "probe"
    order = 35
    cost = "3 steps if there are callbacks beyond fastai's own, up to 64 if they make none"

    def measure(self, lab: Lab) -> EvidenceList:
        mine = [type(cb).__name__ for cb in lab.learn.cbs if type(cb).__name__ not in FURNITURE]
        if not mine:
            return EvidenceList([Evidence(name="callbacks", value=[])])
        for cb in lab.learn.cbs:
            if isinstance(cb, GradientAccumulation) and cb.n_acc > MOST * lab.rows:
                raise NotApplicable(f"{cb.n_acc} rows make one step, more than {MOST} batches of {lab.rows}")
        student = twin(lab.learn, [lab.batch] * MOST)
        kept = [type(cb).__name__ for cb in student.cbs if type(cb).__name__ not in FURNITURE]
        found = EvidenceList([Evidence(name="callbacks", value=mine), Evidence(name="callbacks run", value=kept)])
        if not kept:
            return found
        seed_everything(lab.seed)
        count = _Count()
        try:
            if student.opt is None:
                student.create_opt()
            count.watch(student)
            student.fit(1, cbs=[count, _Before(count, not any(isinstance(cb, MixedPrecision) for cb in student.cbs))])
        except (DiagnoseError, NotApplicable, KeyboardInterrupt):
            raise
        except Exception as e:
            raise SubjectError("training on one batch", e) from e
        found += [
            Evidence(name="batches", value=count.batches),
            Evidence(name="optimizer steps", value=count.steps, unit="steps", expected=">= 1"),
            Evidence(name="gradient kept for the next batch", value=count.gathers),
            Evidence(name="cancelled by", value=[f"{who} ({n} times)" for who, n in count.cancelled.items()]),
        ]
        if count.ratios:
            found.append(Evidence(name="gradient after / before callbacks", value=count.ratios, where="every step"))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        if evidence.get("callbacks") is None:
            return Judgement("skip", "not measured")
        mine, kept = texts(evidence.get("callbacks")), texts(evidence.get("callbacks run"))
        if not mine:
            return Judgement("pass", "no callback beyond fastai's own 4")
        if not kept:
            return Judgement("pass", f"{len(mine)} callbacks ({listed(mine)}), all of them only write or judge epochs")
        steps, batches = evidence.get("optimizer steps"), evidence.get("batches")
        if not is_number(steps) or math.isnan(steps):
            return Judgement("skip", "not measured")
        cancelled = texts(evidence.get("cancelled by"))
        by = f": cancelled by {listed(cancelled)}" if cancelled else ""
        if steps < 1:
            told = f"{steps} optimizer steps in {batches} batches{by}"
            if evidence.get("gradient kept for the next batch"):
                return Judgement("warn", f"{told}; gradients add up, as if for a later step")
            return Judgement("fail", told)
        ratios = evidence.get("gradient after / before callbacks")
        ratios = [r for r in ratios if is_number(r)] if isinstance(ratios, list) else []
        clipped = [r for r in ratios if not r >= CLIPPED]
        note = f"; gradients cut to {min(clipped):.2g} of their length" if clipped else ""
        return Judgement("pass", f"{steps} optimizer steps in {batches} batches with {listed(kept)}{by}{note}")


class _Count(Callback):
    "Counts batches and cancellations, and stops after a few steps."

    order = 1000

    def __init__(self):
        self.batches = self.steps = 0
        self.cancelled: Counter[str] = Counter()
        self.ratios: list[float] = []
        self.length: float | None = None
        self.gathers = False

    def watch(self, student: Learner) -> None:
        "Counts real steps: fastai fires after_step after a cancelled one too."
        step = student.opt.step

        def counted(*args, **kwargs):
            # fastai steps after a cancelled backward pass too, with nothing to step on
            self.steps += any(p.grad is not None for p in student.model.parameters())
            if self.length:
                self.ratios.append(_length(student) / self.length)
            return step(*args, **kwargs)

        student.opt.step = counted

    def before_backward(self):
        self.gathers = self.batches > 0 and _length(self.learn) > 0

    def after_batch(self):
        self.batches += 1
        if self.steps >= STEPS:
            raise CancelFitException

    def before_validate(self):
        raise CancelFitException

    def _note(self, event: str) -> None:
        "The callback whose frame raised what is being handled."
        trace, who = sys.exc_info()[2], ""
        while trace is not None:
            owner = trace.tb_frame.f_locals.get("self")
            if isinstance(owner, Callback):
                who = f"{type(owner).__name__}.{trace.tb_frame.f_code.co_name}"
            trace = trace.tb_next
        if who and not who.startswith(type(self).__name__ + "."):
            self.cancelled[f"{who} ends the {event}"] += 1

    def after_cancel_step(self):
        self._note("step")

    def after_cancel_backward(self):
        self._note("backward pass")

    def after_cancel_batch(self):
        self._note("batch")

    def after_cancel_train(self):
        self._note("epoch's training")

    def after_cancel_epoch(self):
        self._note("epoch")

    def after_cancel_fit(self):
        self._note("fit")


class _Before(Callback):
    "Measures the gradient before any callback alters it, after mixed precision has unscaled it."

    def __init__(self, count: _Count, unscaled: bool):
        self.count, self.order = count, -1000 if unscaled else MixedPrecision.order + 0.5

    def before_step(self):
        self.count.length = _length(self.learn)


def _length(learn: Learner) -> float:
    return total_norm([p.grad for p in learn.model.parameters() if p.grad is not None])
