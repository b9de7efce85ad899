"""What a training is made of between two batches, as tensors and JSON, and how it goes on from there.

On the CPU a training that goes on from here has the bits of one that was never interrupted: weights, buffers, gradients
that wait for others, optimizer, place in the schedule and in the loader, what the Recorder knows, loss scale, and every
random stream. `ReplayLoader` draws items from (seed, epoch, index), so its place is a number, and the batches that were
trained on are passed over without being drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback, CancelEpochException
from fastai.callback.training import GradientAccumulation
from fastai.learner import Learner
from fastcore.foundation import L
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from diagnose.errors import DiagnoseError
from sslwang.checkpoint import Tensors

NAMED = 3  # tensors that a message names before it counts the others


@dataclass(frozen=True)
class Position:
    """The next batch of a training: epoch and batch in it, both from 0."""

    epoch: int = 0
    batch: int = 0


def bare(model: nn.Module) -> nn.Module:
    """The network itself, where it is wrapped for several processes."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def taken(learn: Learner, position: Position) -> tuple[Tensors, dict[str, Any]]:
    """The state of a training whose next batch is at `position`; nothing in it changes.

    Returns:
        Tensors by name, which share memory with the training, and what JSON holds.
    """
    tensors: Tensors = {f"model|{name}": t.detach() for name, t in _held(learn)}
    names = {id(p): name for name, p in _held(learn)}
    zero, scalars = [], {}
    for p, *_ in learn.opt.all_params():
        name, state = names[id(p)], {}
        if p.grad is not None:
            if p.grad.any():
                tensors[f"grad|{name}"] = p.grad
            else:
                zero.append(name)
        for key, value in learn.opt.state[p].items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer|{name}|{key}"] = value.detach()
            else:
                state[key] = _plain(value)
        scalars[name] = state
    recorder = learn.recorder
    tensors["recorder|losses"] = torch.tensor([float(x) for x in recorder.losses], dtype=torch.float64)
    tensors["recorder|lrs"] = torch.tensor([float(x) for x in recorder.lrs], dtype=torch.float64)
    tensors["recorder|smooth"] = recorder.smooth_loss.val.detach()
    tensors |= _random_tensors()
    scaler, accumulation = getattr(learn, "scaler", None), _accumulation(learn)
    return tensors, {
        "position": asdict(position),
        "train_iter": learn.train_iter,
        "pct_train": learn.pct_train,
        "optimizer": {"hypers": [{k: _plain(v) for k, v in h.items()} for h in learn.opt.hypers], "state": scalars},
        "zero gradients": zero,
        "waiting": accumulation.count if accumulation else 0,
        "scaler": scaler.state_dict() if isinstance(scaler, torch.amp.GradScaler) else None,
        "loader epoch": getattr(learn.dls.train, "epoch", None),
        "recorder": {
            "values": [[_number(v) for v in row] for row in recorder.values],
            "iters": list(recorder.iters),
            "count": recorder.smooth_loss.count,
        },
        "random": _random_rest(),
    }


def put_back(learn: Learner, tensors: Tensors, rest: dict[str, Any], source: str) -> None:
    """Weights, buffers, gradients and the state of the optimizer into a Learner whose optimizer exists; all or nothing.

    Args:
        source: for messages.

    Raises:
        DiagnoseError: tensors that are missing, left over or of another shape, by name.
    """
    held = dict(_held(learn))
    given = {n.removeprefix("model|"): t for n, t in tensors.items() if n.startswith("model|")}
    wrong = {
        "missing": [n for n in held if n not in given],
        "left over": [n for n in given if n not in held],
        "of another shape": [n for n, t in held.items() if n in given and given[n].shape != t.shape],
    }
    if any(wrong.values()):
        told = "; ".join(f"{len(found)} {what}: {_listed(found)}" for what, found in wrong.items() if found)
        raise DiagnoseError(f"{source} is a checkpoint of another network: {told}")
    for name, t in held.items():
        t.detach().copy_(given[name])
    names = {id(p): name for name, p in held.items()}
    zero, scalars = set(rest["zero gradients"]), rest["optimizer"]["state"]
    for p, *_ in learn.opt.all_params():
        name = names[id(p)]
        grad = tensors.get(f"grad|{name}")
        p.grad = torch.zeros_like(p) if name in zero else None if grad is None else grad.to(p.device, p.dtype)
        prefix = f"optimizer|{name}|"
        state = {n.removeprefix(prefix): t.to(p.device) for n, t in tensors.items() if n.startswith(prefix)}
        learn.opt.state[p] = {**scalars.get(name, {}), **state}


class GoOn(Callback):
    """Puts back what a fit begins anew, at the moment at which it was taken: before the next batch of training, or
    before the epoch if that is where the training stood.

    Args:
        streams: put the random streams back too; of several processes only the first, whose they were.
    """

    order = -100  # before any callback that reads or moves what is put back

    def __init__(self, position: Position, tensors: Tensors, rest: dict[str, Any], streams: bool = True):
        super().__init__()
        self.streams = streams
        self.position, self.tensors, self.rest, self.done = position, tensors, rest, False

    def before_epoch(self) -> None:
        """Between two epochs there is no batch to wait for: beginning to read the loader draws a random number."""
        if self.position.batch == 0:
            self._put_back()

    def before_batch(self) -> None:
        """In the middle of an epoch."""
        if self.training:
            self._put_back()

    def after_train(self) -> None:
        """Every batch of the epoch had been trained on."""
        self._put_back()

    def _put_back(self) -> None:
        if self.done:
            return
        self.done = True
        learn, rest, tensors = self.learn, self.rest, self.tensors
        for hyper, values in zip(learn.opt.hypers, rest["optimizer"]["hypers"], strict=True):
            hyper.update(values)  # here, for `fit` has set the Learner's own weight decay
        learn.train_iter = rest["train_iter"]
        if self.position.batch:  # an epoch that begins sets it anew
            learn.pct_train = rest["pct_train"]
        recorder, saved = learn.recorder, rest["recorder"]
        device = recorder.smooth_loss.val.device
        recorder.losses = list(tensors["recorder|losses"].float().unbind())
        recorder.lrs = tensors["recorder|lrs"].tolist()
        recorder.values = [L(row) for row in saved["values"]]
        recorder.iters = list(saved["iters"])
        recorder.smooth_loss.count = saved["count"]
        recorder.smooth_loss.val = tensors["recorder|smooth"].to(device)
        if saved["count"]:
            learn.smooth_loss = recorder.smooth_loss.value
        if (accumulation := _accumulation(learn)) is not None:
            accumulation.count = rest["waiting"]
        if rest["scaler"] and isinstance(getattr(learn, "scaler", None), torch.amp.GradScaler):
            learn.scaler.load_state_dict(rest["scaler"])
        if self.position.batch == 0 and rest["loader epoch"] is not None:
            learn.dls.train.epoch = rest["loader epoch"]
        if self.streams:
            _set_random(tensors, rest["random"])


@contextmanager
def beginning_at(learn: Learner, position: Position, loader_epoch: int | None) -> Iterator[None]:
    """Inside, a fit begins at an epoch and, in that, at a batch; the batches before are passed over, not drawn."""

    def fit() -> None:
        for epoch in range(position.epoch, learn.n_epoch):
            learn.epoch = epoch
            learn._with_events(learn._do_epoch, "epoch", CancelEpochException)

    def all_batches() -> None:
        first = position.batch if learn.dl is learn.dls.train and learn.epoch == position.epoch else 0
        learn.n_iter = len(learn.dl)
        if first:
            learn.dl.epoch, learn.dl.begin = loader_epoch - 1, first
        for i, batch in enumerate(learn.dl, first):
            learn.one_batch(i, batch)

    learn._do_fit, learn.all_batches = fit, all_batches
    try:
        yield
    finally:
        del learn._do_fit, learn.all_batches


def _held(learn: Learner) -> Iterator[tuple[str, torch.Tensor]]:
    "Parameters and buffers, those that no state_dict holds among them, of the network and of the loss."
    loss = learn.loss_func
    for prefix, module in (("", bare(learn.model)), ("loss.", loss if isinstance(loss, nn.Module) else None)):
        if module is not None:
            yield from ((f"{prefix}{n}", p) for n, p in module.named_parameters())
            yield from ((f"{prefix}{n}", b) for n, b in module.named_buffers())


def _accumulation(learn: Learner) -> GradientAccumulation | None:
    return next((cb for cb in learn.cbs if isinstance(cb, GradientAccumulation)), None)


# ---- random streams --------------------------------------------------------------------------------------------------


def _random_tensors() -> Tensors:
    found = {"random|torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        found |= {f"random|cuda {i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return found


def _random_rest() -> dict[str, Any]:
    kind, keys, place, has, cached = np.random.get_state()  # noqa: NPY002 - user code draws from this stream
    version, words, gauss = random.getstate()
    return {
        "python": [version, list(words), gauss],
        "numpy": [kind, keys.tolist(), int(place), int(has), float(cached)],
    }


def _set_random(tensors: Tensors, rest: dict[str, Any]) -> None:
    torch.set_rng_state(tensors["random|torch"])
    if torch.cuda.is_available():
        states = [t for n, t in tensors.items() if n.startswith("random|cuda")]
        if len(states) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([tensors[f"random|cuda {i}"] for i in range(len(states))])
    version, words, gauss = rest["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *more = rest["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *more))  # noqa: NPY002


# ---- plain values ----------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    "A value that JSON holds and gives back with the same bits."
    return value.item() if isinstance(value, np.generic) else value


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
