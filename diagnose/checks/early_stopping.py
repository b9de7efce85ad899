"""Callbacks that watch a metric wait for the right side: accuracy must rise, losses must fall.

## What it does
Finds every callback of the Learner that tracks a metric (early stopping, saving the best model, lowering the rate on a
plateau) and compares the side it counts as better with the side on which the metric is better. That is measured: the
metric is computed for outputs that were optimised under the subject's own loss, and for random outputs. Losses fall.
Where a metric cannot be computed so, its name decides, and the sentence says so. Callbacks that are handed to `fit` do
not exist before the call and are not seen.

## Why it matters
Early stopping on accuracy with the lower side as the better one stops a run while accuracy is still rising, and the
"best" model that was saved is the worst.

## How it is judged
Fails if the measured side is the other one, or if the metric's name is none that the recorder writes (fastai then stops
at the first step of `fit`). Warns if only the name says that it is the other side. A side that cannot be told passes,
and the sentence says so.

## What to do
`EarlyStoppingCallback(monitor="accuracy", comp=np.greater)`; without `comp`, fastai chooses `np.less` for names with
"loss" or "error" and `np.greater` for all others, so give `comp=np.less` for metrics such as `mse`.

## Source
Real failure F19 of the notes; `TrackerCallback` of fastai.
"""

import copy
import warnings
from typing import Any

import torch
from fastai.callback.tracker import TrackerCallback
from fastai.learner import Learner

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._calls import texts
from diagnose.errors import DiagnoseError, NotApplicable
from diagnose.isolate import seed_everything
from diagnose.lab import Lab
from diagnose.stats import replaced, tensors

STEPS = 60  # of Adam on the outputs themselves: enough for argmax and sign to be right
RISE = ("acc", "f1", "fbeta", "dice", "jaccard", "iou", "auc", "precision", "recall", "r2", "kappa", "corr", "bleu")
FALL = ("loss", "error", "mse", "mae", "rmse", "perplexity", "nll", "hamming")


class EarlyStopping(Check):
    """Compares the side that trackers wait for with the side on which the metric is better."""

    stage = "inspection"
    order = 50
    cost = "none without such a callback; else 1 forward pass and the loss some sixty times"

    def measure(self, lab: Lab) -> EvidenceList:
        trackers = [cb for cb in lab.learn.cbs if isinstance(cb, TrackerCallback)]
        if not trackers:
            raise NotApplicable("no callback of the Learner watches a metric")
        names = _recorded(lab.learn)
        better = {n: "lower" for n in names if n.endswith("loss")}
        metrics = {m.name: m for m in lab.learn.metrics}
        found = EvidenceList([Evidence(name="recorded", value=names)])
        for cb in trackers:
            where = f"{type(cb).__name__} on {cb.monitor}"
            found.append(
                Evidence(name="known to the recorder", value=cb.monitor in names, where=where, expected="true")
            )
            found.append(Evidence(name="waits for", value=_side(cb.comp), where=where))
            plain = cb.monitor.removeprefix("train_").removeprefix("valid_")
            metric = metrics.get(cb.monitor) or metrics.get(plain)
            how, side = "measured", better.get(cb.monitor, "")
            if not side and metric is not None:
                good, bad = _values(lab, metric)
                if good is not None and bad is not None and good != bad:
                    side = "higher" if good > bad else "lower"
                    found.append(Evidence(name="metric of the best outputs", value=good, where=where))
                    found.append(Evidence(name="metric of random outputs", value=bad, where=where))
            if not side:
                how, side = "by its name", _by_name(plain)
            found.append(Evidence(name="better is", value=side or "unknown", where=where))
            found.append(Evidence(name="told", value=how if side else "not", where=where))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        places = [e.where for e in evidence.all("waits for")]
        if not places:
            return Judgement("skip", "not measured")
        wrong, doubtful, told = [], [], []
        for where in places:
            if evidence.get("known to the recorder", where) is False:
                recorded = ", ".join(texts(evidence.get("recorded")))
                return Judgement("fail", f"{where}: no such name is recorded, only {recorded or 'none'}")
            waits, better = evidence.get("waits for", where), evidence.get("better is", where)
            if waits not in ("lower", "higher") or better not in ("lower", "higher"):
                told.append(f"{where}: which side is better could not be told")
            elif waits == better:
                told.append(f"{where} waits for {waits} values")
            else:
                good = evidence.get("metric of the best outputs", where)
                bad = evidence.get("metric of random outputs", where)
                numbers = f" (best outputs {good:.3g}, random {bad:.3g})" if _numbers(good, bad) else ""
                text = f"{where} waits for {waits} values, {better} is better{numbers}"
                (wrong if evidence.get("told", where) == "measured" else doubtful).append(text)
        if wrong:
            return Judgement("fail", listed(wrong))
        if doubtful:
            return Judgement("warn", f"{listed(doubtful)}, going by the name")
        return Judgement("pass", listed(told))


def _recorded(learn: Learner) -> list[str]:
    "Names that the recorder will write, as it makes them at the start of fit."
    recorder = getattr(learn, "recorder", None)
    train, valid = getattr(recorder, "train_metrics", False), getattr(recorder, "valid_metrics", True)
    names = [m.name for m in learn.metrics]
    if train and valid:
        return [f"{side}_{n}" for side in ("train", "valid") for n in ("loss", *names)]
    return ["train_loss", "valid_loss", *names] if valid else ["train_loss", *names]


def _side(comp: Any) -> str:
    "Which values a comparison counts as better, asked of it."
    try:
        up, down = bool(comp(2.0, 1.0)), bool(comp(1.0, 2.0))
    except Exception:  # a comparison of the user's own that takes something else
        return "unknown"
    return "higher" if up and not down else "lower" if down and not up else "unknown"


def _by_name(name: str) -> str:
    name = name.lower()
    if any(n in name for n in FALL):
        return "lower"
    return "higher" if any(n in name for n in RISE) else ""


def _values(lab: Lab, metric: Any) -> tuple[float | None, float | None]:
    "The metric for outputs optimised under the loss, and for random ones; None where it cannot be computed."
    try:
        output = lab.output
    except DiagnoseError:
        return None, None
    student = lab.twin()
    student.training = True
    seed_everything(lab.seed)
    noise = replaced(output, [torch.randn_like(t) if t.is_floating_point() else t for t in tensors(output)])
    for squash in (lambda z: z, torch.sigmoid):  # a loss that expects probabilities refuses anything else
        try:
            best = _best_outputs(student, noise, lab.yb, squash)
            random = replaced(noise, [squash(t) if t.is_floating_point() else t for t in tensors(noise)])
            return _value(student, metric, best, lab), _value(student, metric, random, lab)
        except Exception:  # a metric or loss that refuses such outputs: its name decides
            continue
    return None, None


def _best_outputs(student: Learner, start: Any, yb: tuple, squash: Any) -> Any:
    parts = [t.clone().requires_grad_(t.is_floating_point()) for t in tensors(start)]
    optimizer = torch.optim.Adam([t for t in parts if t.requires_grad], lr=0.3)

    def shaped() -> Any:
        return replaced(start, [squash(t) if t.requires_grad else t for t in parts])

    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(STEPS):
            optimizer.zero_grad()
            student.loss_func(shaped(), *yb).float().mean().backward()
            optimizer.step()
    return replaced(start, [t.detach() for t in tensors(shaped())])


def _value(student: Learner, metric: Any, output: Any, lab: Lab) -> float:
    metric = copy.deepcopy(metric)
    student.xb, student.yb, student.pred = lab.xb, lab.yb, output
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric.reset()
        metric.accumulate(student)
        return float(metric.value)


def _numbers(*values: Any) -> bool:
    return all(isinstance(v, (int, float)) for v in values)
