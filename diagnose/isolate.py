"""Copies, restores, leaves no mark: the only file that knows a Learner's insides.

Three tools. `untouched` wraps an examination: whatever happens inside, also an exception or Ctrl-C, the Learner, its
loaders and every random stream end as they began. `twin` makes a second Learner that shares the data and nothing else.
`FixedBatches` is a loader that yields given batches.

Not covered, since no tool can: files that user code writes, non-deterministic CUDA kernels, persistent workers,
and state that a data set changes in place (attributes that it rebinds are restored).
"""

from __future__ import annotations

import copy
import inspect
import random
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.hook import HookCallback
from fastai.callback.progress import CSVLogger, ProgressCallback, ShowGraphCallback
from fastai.callback.tracker import TrackerCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import OptimWrapper
from fastcore.basics import noop
from fastcore.foundation import L
from torch import Tensor, nn

from diagnose.errors import DiagnoseError
from diagnose.stats import same_bits

_TRANSIENT = {"dl", "xb", "yb", "x", "y", "pred", "loss", "loss_grad", "iter", "n_iter", "lock", "logger", "cbs", "dls"}
_RECORDING_MODULES = ("tensorboard", "wandb", "comet", "neptune", "azureml", "captum", "mlflow", "clearml")
_WRITING_NAMES = {
    *("open", "save", "savefig", "savetxt", "to_csv", "to_parquet", "to_json", "dump", "export", "mkdir", "unlink"),
    *("write", "writerow", "write_text", "write_bytes", "rmtree", "imwrite", "imsave", "system", "Popen"),
    *("add_scalar", "add_scalars", "add_histogram", "add_image", "add_figure", "add_text", "SummaryWriter"),
    *("log_metric", "log_metrics", "log_image", "log_figure", "log_artifact", "wandb", "mlflow", "comet_ml", "neptune"),
    *("plt", "imshow", "display", "display_html"),
}
_COLLECTING_NAMES = {"append", "extend", "print"}


# ---- random streams and loaders ----------------------------------------------------------------------------


def seed_everything(seed: int) -> None:
    """Set the random streams of python, numpy and torch. Unlike fastai's `set_seed` it leaves the cudnn flags alone."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - user code draws from this stream
    torch.manual_seed(seed)


def loaders(learn: Learner) -> list[Any]:
    """The loaders of a Learner, whatever their kind: fastai's, torch's, lists of batches."""
    return list(getattr(learn.dls, "loaders", learn.dls))


class _Random:
    """Every random stream and the flags that a forward pass depends on."""

    def __init__(self):
        self.python, self.torch = random.getstate(), torch.get_rng_state()
        self.numpy = np.random.get_state()  # noqa: NPY002 - user code draws from this stream
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
        cudnn = torch.backends.cudnn
        self.cudnn = {k: getattr(cudnn, k) for k in ("deterministic", "benchmark", "enabled")}
        self.grad = torch.is_grad_enabled()
        self.amp = {d: torch.is_autocast_enabled(d) for d in ("cpu", "cuda")}

    def restore(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002
        torch.set_rng_state(self.torch)
        if self.cuda is not None:
            torch.cuda.set_rng_state_all(self.cuda)
        for k, v in self.cudnn.items():
            setattr(torch.backends.cudnn, k, v)
        torch.set_grad_enabled(self.grad)
        for device, on in self.amp.items():
            torch.set_autocast_enabled(device, on)


class _Attributes:
    """What an object's attributes are bound to, one level of containers copied, and the states of its generators."""

    def __init__(self, thing: Any):
        self.thing = thing
        self.bound = dict(vars(thing))
        self.inside = {k: _copy_container(v) for k, v in self.bound.items() if type(v) in (list, dict, set, L)}
        self.python = [(r, r.getstate()) for r in self.bound.values() if isinstance(r, random.Random)]
        self.torch = [(g, g.get_state()) for g in self.bound.values() if isinstance(g, torch.Generator)]
        self.numpy = [
            (g, copy.deepcopy(g.bit_generator.state)) for g in self.bound.values() if isinstance(g, np.random.Generator)
        ]

    def restore(self) -> None:
        vars(self.thing).clear()
        vars(self.thing).update(self.bound)
        for name, was in self.inside.items():
            now = self.bound[name]
            if isinstance(now, (dict, set)):
                now.clear()
                now.update(was)
            elif isinstance(now, L):
                now.items = list(was.items)
            else:
                now[:] = was
        for r, state in self.python:
            r.setstate(state)
        for g, state in self.torch:
            g.set_state(state)
        for g, state in self.numpy:
            g.bit_generator.state = state


def _copy_container(value: Any) -> Any:
    return L(list(value.items)) if type(value) is L else copy.copy(value)  # copying an L shares its list


def _stateful(learn: Learner) -> Iterator[Any]:
    "Loaders, their samplers and data sets: whatever reading a batch may change."
    seen: set[int] = set()
    todo: list[Any] = [learn.dls, *loaders(learn)]
    while todo:
        thing = todo.pop()
        if (
            id(thing) in seen
            or not hasattr(thing, "__dict__")
            or isinstance(thing, (type, types.ModuleType, nn.Module))
        ):
            continue
        seen.add(id(thing))
        yield thing
        bound = vars(thing)
        todo += [bound[k] for k in ("sampler", "batch_sampler", "dataset", "fake_l", "tls", "loaders") if k in bound]
        if type(thing) is L:  # of a TfmdLists, which is one too, this would read every item
            todo += list(thing)


# ---- the model and what it reaches -------------------------------------------------------------------------


def stray_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules that a model reaches without having registered them, by the place they were found in.

    Looked into: plain lists and dicts held by a module, closures of functions held by a module, and globals that a
    forward pass names. They are not copied with the model, not trained by its optimizer and not saved with it.
    """
    own = set(map(id, model.modules()))
    found: dict[str, nn.Module] = {}

    def note(place: str, value: Any, depth: int = 0) -> None:
        if isinstance(value, nn.Module):
            if id(value) not in own and all(value is not m for m in found.values()):
                found[place] = value
        elif depth < 3 and isinstance(value, (list, tuple)):
            for i, v in enumerate(value):
                note(f"{place}[{i}]", v, depth + 1)
        elif depth < 3 and isinstance(value, dict):
            for k, v in value.items():
                note(f"{place}[{k!r}]", v, depth + 1)
        elif depth < 3 and isinstance(value, partial):
            note(place, [value.func, *value.args, *value.keywords.values()], depth + 1)
        elif depth < 3 and isinstance(value, types.FunctionType):
            for name, cell in zip(value.__code__.co_freevars, value.__closure__ or ()):
                try:
                    note(f"{place}: closure {name}", cell.cell_contents, depth + 1)
                except ValueError:  # an empty cell
                    continue
            for name in value.__code__.co_names:
                if isinstance(value.__globals__.get(name), nn.Module):
                    note(f"{place}: global {name}", value.__globals__[name], depth + 1)

    for name, module in model.named_modules():
        place = name or type(module).__name__
        for key, value in vars(module).items():
            if key not in ("_modules", "_parameters", "_buffers") and not key.endswith("_hooks"):
                note(f"{place}.{key}", value)
        forward = type(module).forward
        if isinstance(forward, types.FunctionType) and not forward.__module__.startswith("torch."):
            note(f"{place}.forward", forward)
    return found


class _Tensors:
    """Bits, gradients, trainability and modes of every module that the Learner trains or reaches."""

    def __init__(self, learn: Learner):
        roots = [m for m in (learn.model, learn.loss_func) if isinstance(m, nn.Module)]
        roots += [*stray_modules(learn.model).values()] if isinstance(learn.model, nn.Module) else []
        self.modules = list({id(m): m for root in roots for m in root.modules()}.values())
        self.modes = [m.training for m in self.modules]
        self.hooks = [
            (d, dict(d))
            for m in self.modules
            for d in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks)
        ]
        held = [(m._parameters, n, p) for m in self.modules for n, p in m._parameters.items()]
        held += [(m._buffers, n, b) for m in self.modules for n, b in m._buffers.items()]
        self.held = held
        unique = {id(t): t for _, _, t in held if t is not None}.values()
        if learn.opt is not None:
            unique = {id(t): t for t in [*unique, *(p for group in learn.opt.param_lists for p in group)]}.values()
        self.tensors = [
            (t, t.detach().clone(), t.grad, None if t.grad is None else t.grad.clone(), t.requires_grad) for t in unique
        ]

    def restore(self) -> None:
        for table, name, tensor in self.held:
            table[name] = tensor
        for tensor, bits, grad, grad_bits, trainable in self.tensors:
            if not same_bits(tensor, bits):
                tensor.data.copy_(bits)
            if grad is not None and not same_bits(grad, grad_bits):
                grad.data.copy_(grad_bits)
            tensor.grad = grad
            if tensor.is_leaf:
                tensor.requires_grad_(trainable)
        for module, mode in zip(self.modules, self.modes):
            module.training = mode
        for table, was in self.hooks:
            if dict(table) != was:
                table.clear()
                table.update(was)


@contextmanager
def untouched(learn: Learner) -> Iterator[Learner]:
    """Everything that looking at a Learner may change ends as it began, also after an exception or Ctrl-C.

    Covers weights, buffers, gradients, trainability, modes and hooks (stray modules included), hyper-parameters,
    attributes and callback lists, loaders with their random generators, the random streams of python, numpy and torch
    on every device, and the cudnn, autocast and gradient flags. Optimizer state is never touched: trials own a copy.
    """
    streams, model = _Random(), _Tensors(learn)
    things = [_Attributes(t) for t in [learn, *learn.cbs, *_stateful(learn)]]
    try:
        yield learn
    finally:
        model.restore()
        for thing in things:
            thing.restore()
        streams.restore()


@contextmanager
def random_streams() -> Iterator[None]:
    """Whatever happens inside, the random streams and the flags that a forward pass depends on end as they began."""
    streams = _Random()
    try:
        yield
    finally:
        streams.restore()


# ---- a second Learner --------------------------------------------------------------------------------------


class FixedBatches(list):
    """A loader that yields given batches in the given order; anything else is asked of the loader they came from."""

    def __init__(self, batches: list[Any], source: Any):
        super().__init__(batches)
        self._source = source

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_source":
            raise AttributeError(name)
        return getattr(self._source, name)


def fixed_loaders(learn: Learner, batches: list[Any]) -> DataLoaders:
    """Loaders of the same kind that train on exactly the given batches. Validation is one batch, and never run."""
    source = loaders(learn)[0]
    device = getattr(learn.dls, "device", None)
    fixed = DataLoaders(
        FixedBatches(batches, source), FixedBatches(batches[:1], source), path=getattr(learn.dls, "path", ".")
    )
    if device is not None:
        fixed.device = device
    return fixed


def writes(cb: Callback) -> str | None:
    """Why a callback stays out of trials, since it writes, logs or draws; None if it may take part."""
    if isinstance(cb, (ProgressCallback, ShowGraphCallback, CSVLogger, TrackerCallback, HookCallback)):
        return f"fastai's {type(cb).__name__} draws, writes or judges epochs"
    if isinstance(cb, MixedPrecision) and not torch.cuda.is_available():
        return "mixed precision needs a CUDA device and has no effect without one"
    for cls in type(cb).__mro__:
        if cls.__module__.startswith("fastai.") and not any(w in cls.__module__ for w in _RECORDING_MODULES):
            break
        if any(w in cls.__module__ for w in _RECORDING_MODULES):
            return f"{type(cb).__name__} records to another tool"
        for f in vars(cls).values():
            if used := _WRITING_NAMES & _names_in(f):
                return f"{type(cb).__name__} calls {sorted(used)[0]}"
    return None


def _names_in(function: Any) -> set[str]:
    "What a function of Python's own calls or reads by name; nothing of another thing."
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return _names(code) if code else set()


def _names(code: types.CodeType) -> set[str]:
    nested = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return set(code.co_names).union(*map(_names, nested)) if nested else set(code.co_names)


def left_out_callbacks(learn: Learner) -> dict[str, str]:
    """Callbacks of the user's own that trials leave out, with the reason. fastai's own furniture is not mentioned."""
    told = {type(cb).__name__: writes(cb) for cb in learn.cbs if not isinstance(cb, (ProgressCallback, HookCallback))}
    return {name: why for name, why in told.items() if why}


def twin(learn: Learner, batches: list[Any] | None = None) -> Learner:
    """A second Learner: copied model, optimizer (state included), loss and callbacks; shared data; no metrics.

    One memo serves all copies, so that whatever held a parameter holds its copy: an optimizer with stale
    parameters stays one with stale parameters, a loss that is a callback's method stays bound to the copied callback.

    Args:
        learn: the original, which is not changed.
        batches: what the copy trains on; None shares the original's loaders.

    Raises:
        DiagnoseError: the model cannot be copied.
    """
    new = object.__new__(type(learn))
    dls = learn.dls if batches is None else fixed_loaders(learn, batches)
    memo: dict[int, Any] = {id(learn): new, id(learn.dls): dls}
    for thing in _stateful(learn):
        memo.setdefault(id(thing), thing)
    for module in learn.model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()  # torch refuses to copy a tensor that has a history
    try:
        model = copy.deepcopy(learn.model, memo)
    except Exception as e:
        raise DiagnoseError(
            f"the model {type(learn.model).__name__} cannot be copied ({type(e).__name__}: {e}); "
            "keep files, locks, generators and the like out of it"
        ) from e
    for mine, theirs in zip(model.parameters(), learn.model.parameters()):
        _carry_hooks(theirs, mine, memo)
    names = {cb.name for cb in learn.cbs}
    plain = {
        k: v for k, v in vars(learn).items() if k not in _TRANSIENT | names and k not in ("model", "opt", "_metrics")
    }
    new.__dict__.update({k: _copied(v, memo) for k, v in plain.items()})
    new.__dict__.update(model=model, dls=dls, _metrics=L(), lock=threading.Lock(), logger=noop, create_mbar=False)
    new.__dict__.update(training=False, cbs=L(), opt=copy.deepcopy(learn.opt, memo))
    for cb in learn.cbs:
        if writes(cb):
            continue
        mine = _copied(cb, memo)
        if mine is not cb:  # else it cannot be copied, and a shared callback would be changed
            mine.learn = new
            setattr(new, mine.name, mine)
            new.cbs.append(mine)
    return new


def _carry_hooks(original: Tensor, mine: Tensor, memo: dict[int, Any]) -> None:
    """What `register_hook` puts on a parameter alters its gradient, and is no part of what `deepcopy` copies. Those
    that write or collect stay out, as such callbacks do: they would tell of the trials."""
    if hooks := original._backward_hooks:
        trains = mine.requires_grad
        mine.requires_grad_(True)  # else it refuses them
        for hook in hooks.values():
            if not (_WRITING_NAMES | _COLLECTING_NAMES) & _names_in(getattr(hook, "func", hook)):
                mine.register_hook(_copied(hook, memo))
        mine.requires_grad_(trains)


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)):
        return value
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # an open file, a lock, a generator: shared, as a copy could not work either
        return value


def held_parameters(learn: Learner) -> list[tuple[int, Tensor]]:
    """What the optimizer holds, as (group, parameter). Builds the optimizer if there is none yet: call it on a twin."""
    if learn.opt is None:
        learn.create_opt()
    return [(i, p) for i, group in enumerate(learn.opt.param_lists) for p in group]


def declared_frozen(learn: Learner) -> set[int]:
    """Ids of parameters whose freeze was declared by `learn.freeze()` or `freeze_to`."""
    idx = getattr(learn.opt, "frozen_idx", 0) if learn.opt is not None else 0
    return {id(p) for group in (learn.opt.param_lists[:idx] if idx else []) for p in group}


def optimizer_name(learn: Learner) -> str:
    """What steps the weights, in words."""
    func = learn.opt_func
    if isinstance(learn.opt, OptimWrapper):
        return type(learn.opt.opt).__name__
    if isinstance(func, partial):
        inner = func.keywords.get("opt")
        return getattr(inner, "__name__", None) or getattr(func.func, "__name__", str(func.func))
    return getattr(func, "__name__", type(func).__name__)
