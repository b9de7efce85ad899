"""Loads: what became of the weights that were read while a Learner was built.

`recording()` watches `nn.Module.load_state_dict` and `torch.load` and changes nothing of what they do; `Load` says of
one state dict how many of its tensors stand in the model, and how many more would under another prefix. `strict=False`
and filters over keys never say so themselves.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from diagnose.errors import DiagnoseError

ALIKE = 0.5  # correlation of a tensor with what has become of it; of two drawn independently it is about 1/√elements
SAMPLED = 50  # names from which a common prefix is guessed


@dataclass(frozen=True)
class Load:
    """One state dict, and what of it arrived. Only tensors whose values vary are counted: ones and zeros tell nothing.

    Attributes:
        source: "encoder.pth", or "a state dict".
        into: class of the module that it was loaded into. place: its name in the model; None if it is not part of it.
        names: of the tensors that were offered.
        arrived: names of those that stand in the module.
        renamed: {name: name in the module} of those that did not arrive and would after `removed` is taken from the
            beginning of their names and `added` put there.
        without: names in the module that got nothing.
        sizes: elements of each tensor that was offered.
        handed: something was loaded, or meant to be: False for a file that was only read.
        tensors: those of `renamed`.
    """

    source: str
    into: str
    place: str | None
    names: list[str]
    arrived: list[str]
    renamed: dict[str, str]
    removed: str
    added: str
    without: list[str]
    sizes: dict[str, int] = field(repr=False)
    handed: bool = True
    tensors: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def missing(self) -> list[str]:
        """Names of those that were offered and do not stand in the module."""
        arrived = set(self.arrived)
        return [n for n in self.names if n not in arrived]

    @property
    def lost(self) -> bool:
        """Nothing arrived, or less (in elements) than would arrive under another prefix.

        Parts that are left out on purpose, such as another head, fit under no other prefix, or are the smaller part.
        """
        if not self.arrived:
            return True
        return len(self.renamed) > 1 and self._elements(self.renamed) > self._elements(self.arrived)

    def _elements(self, names: Iterable[str]) -> int:
        return sum(self.sizes[n] for n in names)


# ---- recording ---------------------------------------------------------------------------------------------------


@dataclass
class _Call:
    "One call of `load_state_dict`: what was offered that was not the module's own already."

    module: nn.Module
    offered: dict[str, Tensor]
    arrived: set[str]
    filled: set[tuple[int, str]]
    order: int


@dataclass
class _File:
    "One state dict that `torch.load` gave."

    name: str
    tensors: dict[str, Tensor]
    order: int
    arrived: set[str] = field(default_factory=set)
    filled: set[tuple[int, str]] = field(default_factory=set)


class Recording:
    """What `recording()` saw, in the thread that it was started in."""

    def __init__(self):
        self.thread = threading.get_ident()
        self.files: list[_File] = []
        self.calls: list[_Call] = []
        self.running = False

    def read(self, source: Any, given: Any) -> None:
        """Note what `torch.load` gave."""
        for tensors in _state_dicts(given):
            self.files.append(_File(_name(source), tensors, len(self.files) + len(self.calls)))

    def loaded(self, module: nn.Module, offered: dict[str, Tensor]) -> None:
        """Note what became of the tensors that `load_state_dict` was given."""
        slots = _slots(module)
        arrived = {n for n, t in offered.items() if n in slots and _equal(slots[n][1], t)}
        filled = {slots[n][0] for n in arrived}
        self.calls.append(_Call(module, offered, arrived, filled, len(self.files) + len(self.calls)))
        here = {_address(t): n for n, t in offered.items()}
        index = _Index(slots)
        for file in self.files:
            for name, tensor in file.tensors.items():
                if name in file.arrived:
                    continue
                if found := index.find(name, here.get(_address(tensor), name), tensor, _equal):
                    file.arrived.add(name)
                    file.filled.add(slots[found][0])

    def loads(self, model: nn.Module) -> list[Load]:
        """What arrived, once the Learner is built.

        Args:
            model: the Learner's. What was copied into it by hand, and trained since, is recognised by its values.
        """
        places = {m: n for n, m in model.named_modules()}
        found, told = [], set()
        filled = set().union(*(c.filled for c in self.calls), *(f.filled for f in self.files))
        for file in self.files:
            addresses = {_address(t) for t in file.tensors.values()}
            handed = [c for c in self.calls if c.order > file.order and not addresses.isdisjoint(_addresses(c.offered))]
            told.update(map(id, handed))
            empty = [c for c in self.calls if c.order > file.order and not c.offered]  # a filter that matched nothing
            target = (handed or empty)[-1].module if handed or empty else model
            if not file.arrived:
                file.arrived, where = _recognised(file.tensors, model)
                filled |= where
            load = _load(file.name, target, places, file.tensors, file.arrived, filled)
            meant = bool(handed or file.arrived or (empty and load.renamed))
            found.append(load if meant else replace(load, handed=False))
        for call in self.calls:
            if call.offered and id(call) not in told:
                found.append(_load("a state dict", call.module, places, call.offered, call.arrived, filled))
        found = [f for f in found if f.handed or len(f.renamed) > 1]  # else it may be anything, read for other ends
        return [f for i, f in enumerate(found) if not (f.lost and _done_by_another(f, found[:i] + found[i + 1 :]))]


def _done_by_another(load: Load, others: list[Load]) -> bool:
    "Whether another load brought the same tensors where this one did not: a second attempt, after the prefix was seen."
    wanted = set(load.renamed.values()) or set(load.names)
    return any(
        (o.into, o.place) == (load.into, load.place) and not o.lost and len(o.arrived) >= len(wanted) for o in others
    )


_lock = threading.Lock()
_active: list[Recording] = []
_original: dict[str, Any] = {}


@contextmanager
def recording() -> Iterator[Recording]:
    """Record what is loaded in this thread while the context lasts. Nothing is left behind, also by an exception."""
    record = Recording()
    with _lock:
        if not _active:
            _patch()
        _active.append(record)
    try:
        yield record
    finally:
        with _lock:
            _active.remove(record)
            if not _active:
                _unpatch()


def _mine() -> list[Recording]:
    thread = threading.get_ident()
    return [r for r in list(_active) if r.thread == thread and not r.running]


def _patch() -> None:
    load_state_dict, load = nn.Module.load_state_dict, torch.load

    @functools.wraps(load_state_dict)
    def recorded_load_state_dict(self, state_dict, *args, **kwargs):
        mine = _mine()
        if not mine:
            return load_state_dict(self, state_dict, *args, **kwargs)
        offered = _foreign(self, state_dict)
        for r in mine:
            r.running = True  # calls inside it, such as an override's of its parent, are part of it
        try:
            return load_state_dict(self, state_dict, *args, **kwargs)
        finally:
            for r in mine:
                r.running = False
                with contextlib.suppress(Exception):  # to look must never be what raises
                    r.loaded(self, offered)

    @functools.wraps(load)
    def recorded_load(f, *args, **kwargs):
        given = load(f, *args, **kwargs)
        for r in _mine():
            with contextlib.suppress(Exception):
                r.read(f, given)
        return given

    _original.update(load_state_dict=load_state_dict, load=load, ours=(recorded_load_state_dict, recorded_load))
    nn.Module.load_state_dict, torch.load = recorded_load_state_dict, recorded_load


def _unpatch() -> None:
    "Who has patched over ours in the meantime keeps theirs; ours does nothing then, since nobody records."
    ours = _original.pop("ours")
    if nn.Module.load_state_dict is ours[0]:
        nn.Module.load_state_dict = _original.pop("load_state_dict")
    if torch.load is ours[1]:
        torch.load = _original.pop("load")
    _original.clear()


# ---- a checkpoint that the user names ------------------------------------------------------------------------------


def compared(path: str | Path, model: nn.Module) -> list[Load]:
    """What of a checkpoint stands in a model, by name and shape and by values, whatever it was trained since.

    Args:
        path: what `torch.save` or `Learner.save` wrote: a state dict, or a dict that holds one. Nothing of it is run.

    Raises:
        DiagnoseError: no such file, or no state dict in it.
    """
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as e:
        raise DiagnoseError(f"weights {path}: no such file") from e
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as e:
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise DiagnoseError(f"weights {path}: not a file of tensors that torch.save wrote ({reason})") from e
    found = list(_state_dicts(given))
    if not found:
        raise DiagnoseError(f"weights {path}: no state dict in it (a dict of names and tensors, some named ...weight)")
    tensors = max(found, key=len)
    places = {m: n for n, m in model.named_modules()}
    return [_load(Path(path).name, model, places, tensors, *_recognised(tensors, model))]


# ---- names, shapes and values --------------------------------------------------------------------------------------


def _recognised(tensors: dict[str, Tensor], model: nn.Module) -> tuple[set[str], set[tuple[int, str]]]:
    "Names of tensors that stand in a model by their values, whatever training has made of them, and where."
    slots, arrived, filled = _slots(model), set(), set()
    index = _Index(slots)
    for name, tensor in tensors.items():
        if at := index.find(name, name, tensor, _alike):
            arrived.add(name)
            filled.add(slots[at][0])
    return arrived, filled


def _load(
    source: str,
    target: nn.Module,
    places: dict[nn.Module, str],
    tensors: dict[str, Tensor],
    arrived: set[str],
    filled: set[tuple[int, str]],
) -> Load:
    slots = _slots(target)
    free = {n: t for n, (key, t) in slots.items() if key not in filled}
    left = {n: t for n, t in tensors.items() if n not in arrived}
    if arrived:
        # what would fit by its own name was left out on purpose; a filter may have kept what it was to leave out
        left = {n: t for n, t in left.items() if n not in free or free[n].shape != t.shape}
    removed, added, renamed = _renaming(left, free, allow_same=not arrived)
    return Load(
        source=source,
        into=type(target).__name__,
        place=places.get(target),
        names=sorted(tensors),
        arrived=sorted(arrived),
        renamed=renamed,
        removed=removed,
        added=added,
        without=sorted(free),
        sizes={n: t.numel() for n, t in tensors.items()},
        tensors={n: tensors[n] for n in renamed},
    )


def _renaming(left: dict[str, Tensor], free: dict[str, Tensor], allow_same: bool) -> tuple[str, str, dict[str, str]]:
    "The prefix to remove and the one to add under which most elements fit, by name and shape."
    candidates: dict[tuple[str, str], None] = {}
    for name, tensor in list(left.items())[:SAMPLED]:
        parts = name.split(".")
        for other, t in free.items():
            if t.shape != tensor.shape:
                continue
            theirs, same = other.split("."), 0
            while same < min(len(parts), len(theirs)) and parts[-1 - same] == theirs[-1 - same]:
                same += 1
            if same:
                candidates[
                    "".join(f"{p}." for p in parts[: len(parts) - same]),
                    "".join(f"{p}." for p in theirs[: len(theirs) - same]),
                ] = None
    best: tuple[str, str, dict[str, str]] = ("", "", {})
    most = 0
    for removed, added in candidates:
        if removed == added and not allow_same:
            continue
        fitting = {}
        for name, tensor in left.items():
            other = added + name[len(removed) :]
            if name.startswith(removed) and other in free and free[other].shape == tensor.shape:
                fitting[name] = other
        size = sum(left[n].numel() for n in fitting)
        if size > most:
            most, best = size, (removed, added, fitting)
    return best


def _state_dicts(given: Any, depth: int = 2) -> Iterator[dict[str, Tensor]]:
    "State dicts in what `torch.load` gave: a module's, or dicts of tensors of which some are called weight."
    if isinstance(given, nn.Module):
        given = given.state_dict()
    if not isinstance(given, dict):
        return
    tensors = {k: v for k, v in given.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if len(tensors) == len(given) and any(k.rpartition(".")[2] == "weight" for k in tensors):
        if telling := {k: v for k, v in tensors.items() if _telling(v)}:
            yield telling
    elif depth:
        for key, value in given.items():
            if not str(key).startswith("opt"):
                yield from _state_dicts(value, depth - 1)


def _foreign(module: nn.Module, state_dict: Any) -> dict[str, Tensor]:
    "Tensors of a state dict that tell something and are not the module's own."
    try:
        own = {_address(t) for _, t in _slots(module).values()}
        return {k: v for k, v in dict(state_dict).items() if _telling(v) and _address(v) not in own}
    except Exception:  # whatever is wrong with it, load_state_dict itself will say
        return {}


def _telling(t: Any) -> bool:
    "A floating-point tensor of more than one value: another could not equal it by chance."
    if (
        not isinstance(t, Tensor)
        or not t.is_floating_point()
        or t.numel() < 2
        or t.is_meta
        or t.layout != torch.strided
    ):
        return False
    return bool((t != t.flatten()[0]).any())


def _slots(module: nn.Module) -> dict[str, tuple[tuple[int, str], Tensor]]:
    "Floating-point parameters and buffers by name, each with a key that outlives a move to another device."
    found = {}
    for prefix, owner in module.named_modules():
        own = [*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)]
        for name, t in own:
            if not is_lazy(t) and t.is_floating_point():
                found[f"{prefix}.{name}" if prefix else name] = ((id(owner), name), t)
    return found


class _Index:
    "Tensors of a module by shape, to find one by its values."

    def __init__(self, slots: dict[str, tuple[tuple[int, str], Tensor]]):
        self.slots = slots
        self.by_shape: dict[torch.Size, list[str]] = {}
        for name, (_, t) in slots.items():
            self.by_shape.setdefault(t.shape, []).append(name)

    def find(self, name: str, first: str, tensor: Tensor, same: Any) -> str | None:
        "The name of a tensor of the module that is the same; those with a likely name are looked at first."
        tail = name.rpartition(".")[2]
        names = [n for n in self.by_shape.get(tensor.shape, ()) if n.rpartition(".")[2] == tail]
        names.sort(key=lambda n: (n not in (first, name), not n.endswith(name) and not name.endswith(n)))
        return next((n for n in names if same(self.slots[n][1], tensor)), None)


def _equal(mine: Tensor, theirs: Tensor) -> bool:
    "Bit for bit, in the module's type."
    if mine.shape != theirs.shape or mine.is_meta:
        return False
    a, b = mine.detach().flatten(), theirs.detach().flatten()
    b_head = b[:16].to(device=a.device, dtype=a.dtype)
    return torch.equal(a[:16], b_head) and torch.equal(a, b.to(device=a.device, dtype=a.dtype))


def _alike(mine: Tensor, theirs: Tensor) -> bool:
    "Correlated as a tensor is with what training has made of it."
    if mine.shape != theirs.shape or mine.is_meta or mine.numel() < 16:
        return _equal(mine, theirs)
    a, b = (t.detach().flatten().double().cpu() for t in (mine, theirs))
    a, b = a - a.mean(), b - b.mean()
    size = float(a.norm() * b.norm())
    return size > 0 and float(a @ b) / size >= ALIKE


def _address(t: Tensor) -> tuple[int, torch.Size]:
    return t.data_ptr(), t.shape


def _addresses(tensors: dict[str, Tensor]) -> set[tuple[int, torch.Size]]:
    return {_address(t) for t in tensors.values()}


def _name(source: Any) -> str:
    if isinstance(source, (str, Path)):
        return Path(source).name
    name = getattr(source, "name", None)
    return Path(name).name if isinstance(name, str) else "a buffer"
