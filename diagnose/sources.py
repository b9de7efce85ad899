"""Where gauges get their numbers: the outputs of modules, and the parameters with their gradients and updates.

A model is listened to during a recorded forward pass only. On a device a reference to each output is kept, and after
the pass one copy takes samples of all of them. In the processor's memory an output that autograd keeps anyway is read
after the pass, all by one call; another one at once: to keep it takes memory that PyTorch would have used again, and
fresh pages cost more than all else (0.7 to 1.8 thousand of them, 2 ms a step of a small net).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from operator import is_
from types import MethodType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from diagnose.gauges import Activations, Call, Moment, Parameters, Rows, own_name, to_host
from diagnose.packed import CHUNK, WIDTH, Pages, Summary
from diagnose.sampling import SAMPLE, Copy, Places, Reduced, Samples, Window, lies, lying, sample
from diagnose.stats import LIMITS, at_limits, compiled, dense, dots, exact, plain, read, real, squares, tensors, version

log = logging.getLogger("diagnose")

OVERWRITTEN_EVERY = 8  # recorded steps: an output that is overwritten in place must be copied in the middle of the pass
_KEY = "diagnose.watch"  # among a module's forward hooks
_ROW = 8 * WIDTH  # bytes of the statistics of a tensor


class ActivationSource:
    """Samples of every output of every module.

    Args:
        steps: recorded steps held before a block is reduced.
        whole: read every element instead of samples.
    """

    def __init__(self, steps: int, whole: bool = False):
        self.samples, self.whole = Samples(steps), whole
        self._packed: list[tuple[int, list[Call], np.ndarray]] = []
        self._packed_bytes = 0
        self._saturated: list[tuple[int, Call, Tensor]] = []
        self._keys: list[tuple[str, type[nn.Module], int]] = []  # of the outputs of a pass: name, kind and part
        self._outputs: list[Tensor | None] = []
        self._versions: list[int] = []
        self._wrapped: list[tuple[dict[str, Any], Wrapped]] = []
        self._hooks: list[tuple[nn.Module, Callable]] = []
        self._root: Callable | None = None
        self._attached, self._copy_now = False, True
        self._last: Tensor | None = None
        self._last_version = 0
        self._at_once = self._hold = self._fails = False
        self._shift = 0
        self._read: list[int] = []  # indices into `_keys` of what was read at once
        self._later: list[int] = []  # and of what autograd keeps
        self._keeping = _Keeping()
        self._kept: list[tuple | None] = []  # by index, the key of what autograd keeps
        self._lying: dict[int, _Lying] = {}  # by the same index
        self._batches: dict[tuple[int, ...], _Batch] = {}
        self._pages: Pages | None = None
        self._matrix, self._address = np.empty((0, WIDTH)), 0
        self._overwritten: set[str] = set()
        self._calls: dict[tuple[str, int, int], Call] = {}
        self._sequences: dict[tuple, _Sequence] = {}
        self._newest: tuple[list, _Sequence] = [], _Sequence([], {})
        self.sizes: dict[Call, int] = {}
        self._sized: tuple = ()
        self.kinds: dict[Call, type[nn.Module]] = {}
        self.refused: dict[str, str] = {}
        self._recorded = 0

    # ---- listening ---------------------------------------------------------------------------------------------------

    def start(self, model: nn.Module) -> None:
        """Read the model's modules; what cannot be recorded is told in `refused`."""
        self.detach()
        self._wrapped, self._hooks, self._root, self._keeping = [], [], None, _Keeping()
        for name, module in modules(model, self.refused):
            tell = self._teller(name, type(module))
            if module is model:
                self._root = tell
            elif _plainly_called(module):
                self._wrapped.append((vars(module), Wrapped(module, module.forward, tell)))
            else:
                self._hooks.append((module, lambda module, inputs, output, tell=tell: tell(output)))

    def root(self, output: Any) -> None:
        """The output of the model itself, whose own hooks are looked up before its forward pass puts them on."""
        if self._root is not None:
            self._root(output)

    def prepare(self, step: int, samples: bool, hold: bool) -> None:
        """For the next pass: which step it is, whether samples are wanted, and whether the whole outputs are."""
        self._at_once = samples and not self.whole and not self._fails
        self._hold, self._shift = hold or not samples, step + 1

    def attach(self) -> None:
        """Listen to the modules; `detach` must follow."""
        self._forget()
        if self._at_once:
            if self._pages is None or self._pages.shape[0] < len(self._lying):
                self._pages = Pages((max(len(self._lying), 16), WIDTH))
            self._matrix, self._address = self._pages.next()
        self._kept = self._keeping.begin(self._hold) if self._at_once else []
        self._copy_now = self._recorded % OVERWRITTEN_EVERY == 0
        self._recorded += 1
        for attributes, wrapped in self._wrapped:
            attributes["forward"] = wrapped
        for module, hook in self._hooks:
            module._forward_hooks[_KEY] = hook  # `register_forward_hook` takes ten times as long, at every step
        self._attached = True

    def detach(self) -> None:
        """Listen no more."""
        if self._attached:
            for attributes, _ in self._wrapped:
                attributes.pop("forward", None)
            for module, _ in self._hooks:
                module._forward_hooks.pop(_KEY, None)
            self._attached = False

    def _forget(self) -> None:
        self._keys.clear()
        self._outputs.clear()
        self._versions.clear()
        self._read, self._later, self._last = [], [], None

    def _teller(self, name: str, kind: type[nn.Module]) -> Callable[[Any], None]:
        "What is called with every output of a module."
        keys, outputs, versions, overwritten = self._keys, self._outputs, self._versions, self._overwritten
        own, limited = (name, kind, 0), kind in LIMITS

        def tell(output: Any) -> None:
            # two layers of a network lie between two of these: whatever is called here is called cold
            if not self._attached:
                return  # a copy of the module was made in the middle of a pass
            if not isinstance(output, Tensor):
                for part, t in enumerate(self._parts(name, output)):
                    keys.append((name, kind, part))
                    outputs.append(t)
                    versions.append(version(t))
                return
            if output is self._last and version(plain(output)) == self._last_version:
                return  # a container hands on its last part's output
            self._last, at = output, len(keys)
            if at < len(self._kept) and self._kept[at] is own:
                self._later.append(at)
                self._last_version = 0
                keys.append(own)
                outputs.append(output)
                versions.append(0)
                return
            output = plain(output)
            self._last_version = written = version(output)
            read = self._at_once and self._read_safely(at, own, output, written)
            if not read and name in overwritten:
                if not self._copy_now:
                    return
                output = output.detach().clone()
                written = version(output)
            keys.append(own)
            needed = self._hold or limited or not read or self._keeping.looks_at(at)
            outputs.append(output if needed else None)
            versions.append(written)

        return tell

    def _parts(self, name: str, output: Any) -> list[Tensor]:
        "Tensors of an output of any kind."
        try:
            return tensors(output)
        except Exception as error:
            self.refused[name] = f"its output, {type(output).__name__}, cannot be read: {type(error).__name__}: {error}"
            return []

    def _read_safely(self, at: int, key: tuple, output: Tensor, written: int) -> bool:
        "An error of ours must not end a pass of the model."
        try:
            if self._read_now(at, output):
                if not written:
                    self._keeping.saw(at, key, output)
                return True
        except Exception as error:
            self._fail(error)
        return False

    def _fail(self, error: Exception) -> None:
        self._fails, self._at_once, self._kept = True, False, []
        log.warning("outputs are read by PyTorch from here on: %s: %s", type(error).__name__, error)

    def _lies(self, at: int, output: Tensor) -> _Lying:
        known = self._lying.get(at)
        if known is None or not known.like(output):
            known, self._sized = _Lying(output), ()
            self._lying[at] = known
        return known

    def _read_now(self, at: int, output: Tensor) -> bool:
        "Read an output where it lies, if it can be."
        known = self._lies(at, output)
        if known.rows is None:
            return False
        if at >= len(self._matrix):
            self._make_room(at)
        known.read(output.data_ptr(), *known.how, self._shift, self._address + at * _ROW)
        self._read.append(at)
        return True

    def _make_room(self, at: int) -> None:
        if at >= len(self._matrix):
            before, self._pages = self._matrix, Pages((2 * at, WIDTH))
            self._matrix, self._address = self._pages.next()
            self._matrix[: len(before)] = before

    # ---- taking ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def take(self, place: int, step: int, samples: bool = True) -> list[tuple[Call, Tensor]]:
        """After the pass: take the samples of this step, if wanted. Returns every call with its whole output."""
        self.detach()
        self._last = None
        sequence, changed = self._sequence(self._keys), None
        if self._later:
            self._read_later()
        elif self._at_once and self._keeping.learns:
            self._release(self._keeping.end(self._keys, self._outputs, self._versions))
        read = self._read
        if read and samples:
            whole = len(read) == len(self._keys)
            calls = sequence.calls if whole else [sequence.calls[i] for i in read]
            self._packed.append((place, calls, self._matrix[: len(read)] if whole else self._matrix[read]))
            if self._sized != (sequence, read):
                self.sizes.update(zip(calls, [self._lying[i].size for i in read]))
                self._sized = sequence, read
        held = [i for i, t in enumerate(self._outputs) if t is not None]
        if not held:
            self._forget()
            return []
        outputs, versions = [plain(self._outputs[i]) for i in held], [self._versions[i] for i in held]
        calls = [sequence.calls[i] for i in held]
        now = [*map(version, outputs)]
        if now != versions:
            changed = tuple([a != b for a, b in zip(now, versions)])
            at_once = set(read)
            self._overwritten.update(c.layer for c, i, gone in zip(calls, held, changed) if gone and i not in at_once)
        about = (tuple(held), tuple(read), _about(outputs), changed)
        self._forget()
        known = sequence.passes.get(about)
        if known is None:
            at_once = set(about[1])
            known = self._pass(calls, outputs, changed, [i in at_once for i in held])
            if known.repeats:
                _keep(sequence.passes, about, known)
        if known.chosen is not None:
            outputs = [outputs[i] for i in known.chosen]
        found = list(zip(known.calls, outputs))
        if samples:
            self._take_samples(place, step, known, outputs)
        return found

    def _release(self, indices: Iterable[int]) -> None:
        "Outputs that are read, and that nobody needs whole."
        if not self._hold:
            for i in indices:
                if self._keys[i][1] not in LIMITS:
                    self._outputs[i] = None

    def _read_later(self) -> None:
        "Read what autograd keeps; what was overwritten all the same, or cannot be read any more, will be read at once."
        later, values = self._later, [plain(self._outputs[i]) for i in self._later]
        try:
            if gone := [i for i, t in zip(later, values) if version(t)]:
                later, values = self._keeping.drop(gone, later, values)
            lying = [self._lies(i, t) for i, t in zip(later, values)]
            if gone := [i for i, how in zip(later, lying) if how.rows is None]:
                later, values = self._keeping.drop(gone, later, values)
                lying = [how for how in lying if how.rows is not None]
            batch = self._batches.get(tuple(later))
            if later and (batch is None or batch.lying != lying):
                batch = _Batch(later, values, lying)
                _keep(self._batches, tuple(later), batch)
            if later:
                self._make_room(later[-1])
                batch.read(values, self._shift, self._address)
                self._release(later)
                self._read = sorted([*self._read, *later]) if self._read else later
        except Exception as error:
            self._fail(error)

    def _take_samples(self, place: int, step: int, known: _Pass, outputs: list[Tensor]) -> None:
        if known.lying is not None:
            addresses = np.array([outputs[i].data_ptr() for i in known.there])
            packed = read(addresses, known.lying, False, True, step + 1)
            self._packed.append((place, [known.calls[i] for i in known.there], packed))
        if known.large:
            packed = exact([outputs[i] for i in known.large], kurtosis=False)
            self._packed.append((place, [known.calls[i] for i in known.large], packed))
        self.sizes.update(known.sizes)
        if known.small and known.copies is None:
            named = [(known.calls[i], sample(outputs[i], step + 1)) for i in known.small]
            copies = [(copy, [known.small[i] for i in members]) for copy, members in self.samples.copies(named)]
            if known.repeats:
                known.copies = [(copy, [(i, Window.of(outputs[i])) for i in members]) for copy, members in copies]
            view = dict(zip(known.small, (v for _, v in named)))
            for copy, members in copies:
                self.samples.take(place, copy, [view[i] for i in members])
        elif known.small:
            for copy, members in known.copies:
                self.samples.take(place, copy, [window.view(outputs[i], step + 1) for i, window in members])
        for i in known.limited:
            at = at_limits(self.kinds[known.calls[i]], sample(outputs[i], step + 1).float())
            self._saturated.append((place, known.calls[i], at.float().mean()))

    def _sequence(self, keys: list[tuple]) -> _Sequence:
        "The calls of a pass: of every output which module's, which of its calls, and which part."
        if keys == self._newest[0]:
            return self._newest[1]
        found = self._sequences.get(tuple(keys))
        if found is None:
            calls, counts = [], {}
            for name, kind, part in keys:
                number = counts[name] = counts.get(name, -1) + (part == 0)
                call = self._calls.get((name, number, part))
                if call is None:
                    call = self._calls[name, number, part] = Call(name, kind.__name__, number, part)
                    self.kinds[call] = kind
                calls.append(call)
            found = _Sequence(calls, {})
            _keep(self._sequences, tuple(keys), found)
        self._newest = list(keys), found
        return found

    def _pass(
        self, calls: list[Call], outputs: list[Tensor], changed: tuple[bool, ...] | None, read: list[bool]
    ) -> _Pass:
        for call, t in zip(calls, outputs):
            if t.is_complex():
                self.refused[call.layer] = (
                    "its output is complex: put out real and imaginary part to have them recorded"
                )
        chosen = [i for i, t in enumerate(outputs) if t.numel() and not t.is_complex() and not (changed and changed[i])]
        mine, their = [outputs[i] for i in chosen], [calls[i] for i in chosen]
        new = [i for i, j in enumerate(chosen) if not read[j]]
        there = [i for i in new if lies(mine[i])]
        others = [i for i in new if i not in set(there)]
        large = [i for i in others if self.whole and mine[i].numel() > SAMPLE]
        small = [i for i in others if not (self.whole and mine[i].numel() > SAMPLE)]
        limited = [i for i, call in enumerate(their) if self.kinds[call] in LIMITS]
        repeats = all(t.layout == torch.strided for t in mine)
        sizes = {call: t.numel() for call, t in zip(their, mine)}
        rows = lying([mine[i] for i in there], self.whole) if there else None
        return _Pass(
            None if len(chosen) == len(calls) else chosen, their, there, large, small, limited, sizes, repeats, rows
        )

    def reduce(self, moments: list[Moment]) -> Activations:
        """The statistics of what was taken; the memory is free for the next block."""
        found = self.samples.reduce(len(moments), False)
        taken = sum(packed.nbytes for _, _, packed in self._packed)
        self._packed_bytes = max(self._packed_bytes, taken // len(moments))
        if self._packed:
            found = _joined(found, self._packed, self._calls.values())
        rows = Rows(moments, found.places, found.names, found.packed)
        shares = to_host([v for _, _, v in self._saturated])
        saturated = rows.column({(k, c): float(v) for (k, c, _), v in zip(self._saturated, shares)})
        self.clear()
        return Activations(rows, dict(self.sizes), saturated)

    @property
    def bytes_a_step(self) -> int:
        """Memory that one recorded step takes."""
        return self.samples.bytes_a_step + self._packed_bytes

    def resize(self, steps: int) -> None:
        """Hold so many recorded steps from now on."""
        self.samples.resize(steps)

    def clear(self) -> None:
        """Forget what was taken."""
        self.samples.clear()
        self._packed, self._saturated = [], []


@dataclass
class _Pass:
    """What is done with the outputs of a forward pass, the same as long as calls, shapes and kinds are.

    Attributes:
        chosen: indices of the outputs that are recorded, None for all; the other indices count these only.
        calls: of the recorded ones.
        there: to be read where they are, as `lying` tells. large: to be read whole. small: to be sampled, by `copies`.
        limited: of bounded activations.
        sizes: elements of every call's output.
        repeats: whether another pass that looks like this one can be done by the same copies.
    """

    chosen: list[int] | None
    calls: list[Call]
    there: list[int]
    large: list[int]
    small: list[int]
    limited: list[int]
    sizes: dict[Call, int]
    repeats: bool
    lying: Any
    copies: list[tuple[Copy, list[tuple[int, Window]]]] | None = None


class Wrapped:
    """Stands for a module's forward pass, and tells of its output. With a hook on it a module takes 17 µs more, between
    two layers of a small net: PyTorch looks for hooks of eight kinds then."""

    __slots__ = ("forward", "module", "tell")

    def __init__(self, module: nn.Module, forward: Callable, tell: Callable[[Any], None]):
        self.module, self.forward, self.tell = module, forward, tell

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self.forward(*args, **kwargs)
        self.tell(output)
        return output

    # A copy that a model makes of its parts in the middle of a pass, as for a teacher, has a forward pass of its own.

    def __deepcopy__(self, memo: dict) -> MethodType:
        return MethodType(type(self.module).forward, deepcopy(self.module, memo))

    def __reduce__(self) -> tuple:
        return getattr, (self.module, "forward")  # before the copy has attributes of its own


def _plainly_called(module: nn.Module) -> bool:
    "Whether what calls a module takes the output of its class's forward pass as it is."
    attributes, hooked = vars(module), module._forward_hooks or nn.modules.module._global_forward_hooks
    ordinary = type(module).__call__ is nn.Module.__call__ and attributes.get("_compiled_call_impl") is None
    return ordinary and not hooked and "forward" not in attributes and not isinstance(module, torch.jit.ScriptModule)


class _Keeping:
    """Which outputs of a pass somebody keeps until it is over, as autograd does, and nobody overwrites.

    Learned from two passes. In the first one nothing of ours holds an output: whose memory is there at the end is kept
    by somebody. In the second one those are held, and tell whether they were overwritten.
    """

    def __init__(self):
        self._alive: dict[int, tuple[tuple, StorageWeakRef]] = {}
        self._candidates: dict[int, tuple] | None = None
        self._known: list[tuple | None] = []
        self.learns, self._holding = True, False

    def begin(self, holding: bool) -> list[tuple | None]:
        """A pass begins, of which all outputs are held if `holding`. Returns the keys of those that are kept."""
        self._alive, self._holding = {}, holding
        return self._known

    def saw(self, at: int, key: tuple, output: Tensor) -> None:
        """An output that nobody has written into."""
        if self.learns and self._candidates is None and not self._holding:
            self._alive[at] = key, StorageWeakRef(output.untyped_storage())

    def looks_at(self, at: int) -> bool:
        """Whether that output is to be held."""
        return self.learns and self._candidates is not None and at in self._candidates

    def end(self, keys: list[tuple], outputs: list[Tensor | None], versions: list[int]) -> list[int]:
        """The pass is over. Returns what was looked at."""
        if self._candidates is None:
            if self._alive:
                self._candidates = {at: key for at, (key, memory) in self._alive.items() if not memory.expired()}
                self.learns = bool(self._candidates)
            return []
        looked_at = [at for at, key in self._candidates.items() if at < len(keys) and keys[at] is key]
        same = {at for at in looked_at if outputs[at] is not None and version(plain(outputs[at])) == versions[at] == 0}
        self._known, self.learns = [key if at in same else None for at, key in enumerate(keys)], False
        return looked_at

    def drop(self, gone: list[int], later: list[int], values: list[Tensor]) -> tuple[list[int], list[Tensor]]:
        """Those that are gone will not be kept from now on. Returns the others."""
        for at in gone:
            self._known[at] = None
        rest = [(i, t) for i, t in zip(later, values) if i not in gone]
        return [i for i, _ in rest], [t for _, t in rest]


class _Batch:
    "Outputs that lie like these are read by one call, each to the row of its index."

    def __init__(self, indices: list[int], values: list[Tensor], how: list[_Lying]):
        self.lying = how
        self._rows, self._where = lying(values, False), np.array(indices, dtype=np.int64)
        self._addresses = np.zeros(len(values), dtype=np.int64)
        self._at, self._where_at = self._addresses.ctypes.data, self._where.ctypes.data

    def read(self, values: list[Tensor], shift: int, matrix: int) -> None:
        """Statistics to the matrix at that address."""
        self._addresses[:] = [t.data_ptr() for t in values]
        compiled().statistics_to(self._at, self._rows, shift, matrix, self._where_at)


class _Lying:
    "How a tensor lies in memory; `rows` is None if it cannot be read there."

    def __init__(self, t: Tensor):
        self.shape, self.stride, self.dtype, self.device = t.shape, _stride(t), t.dtype, t.device
        self.size = t.numel()
        self.rows = rows = lying([t], False) if self.size and lies(t) else None
        if rows is not None:
            self.read, self.how = compiled().reader(), (rows.table, rows.unit, rows.longest)

    def like(self, t: Tensor) -> bool:
        """Whether another one lies in the same way."""
        if self.rows is None:
            same = t.dtype is self.dtype and t.device == self.device
            return same and t.shape == self.shape and _stride(t) == self.stride
        try:
            return t.shape == self.shape and t.stride() == self.stride and t.dtype is torch.float32 and t.is_cpu
        except RuntimeError:  # a sparse one has no stride
            return False


class _Sequence(NamedTuple):
    "Calls in the order of a forward pass, and the kinds of passes that had these calls."

    calls: list[Call]
    passes: dict[tuple, _Pass]


def _keep(known: dict, key: Any, value: Any) -> None:
    "Remember a few: sizes that never repeat are not worth it."
    if len(known) >= 16:
        known.clear()
    known[key] = value


def _joined(found: Reduced, packed: list[tuple[int, list[Any], np.ndarray]], order: Iterable) -> Reduced:
    "Samples, and what was read where it is, by step; within a step by `order`."
    result = Reduced()
    places = [found.places, *(np.full(len(p), place) for place, _, p in packed)]
    result.names = [*found.names, *(name for _, names, _ in packed for name in names)]
    result.places, result.packed = np.concatenate(places), np.concatenate([found.packed, *(p for _, _, p in packed)])
    if len(found.places) or len({place for place, _, _ in packed}) < len(packed):
        rank = {name: i for i, name in enumerate(order)}
        by_order = np.lexsort((np.array([rank[n] for n in result.names]), result.places))
        result.places, result.packed = result.places[by_order], result.packed[by_order]
        result.names = [result.names[i] for i in by_order.tolist()]
    return result


def _about(outputs: list[Tensor]) -> tuple:
    "Shape, stride, kind and device of each, to know them again by."
    try:
        return tuple([(t.shape, t.stride(), t.dtype, t.device) for t in outputs])
    except RuntimeError:  # a sparse one has no stride
        return tuple([(t.shape, t.layout, t.dtype, t.device) for t in outputs])


def modules(model: nn.Module, refused: dict[str, str]) -> list[tuple[str, nn.Module]]:
    """Modules that may carry hooks, by name without the prefix of a wrapper; what may not is told in `refused`."""
    found, closed = [], []
    if isinstance(model, nn.DataParallel):
        refused[""] = "DataParallel runs copies of the model in threads: use one device, or DistributedDataParallel"
        return []
    for name, module in model.named_modules():
        if any(name == c or name.startswith(f"{c}.") or not c for c in closed):
            continue
        if isinstance(module, torch.jit.ScriptModule):
            closed.append(name)
            refused[name] = "scripted: its parts do not call hooks, so script the model after training"
        elif type(module).__name__ == "OptimizedModule":
            closed.append(f"{name}._orig_mod" if name else "_orig_mod")
            refused[name] = (
                "compiled: hooks on its parts would compile it anew, so record a fit of the model that is not compiled"
            )
            found.append((name, module))
        else:
            found.append((own_name(model, name), module))
    return found


class ParameterSource:
    """Samples of parameters and of their gradients, before and after the optimizer's step.

    Args:
        steps: recorded steps held before a block is reduced.
        whole: read every element for the statistics instead of samples; changes, distances and cosines are sampled.
        exact_every: recorded steps between exact norms.
    """

    def __init__(self, steps: int, whole: bool = False, exact_every: int = 20):
        self.steps, self.whole, self.exact_every = steps, whole, exact_every
        weights, gradients = Places(), Places()
        self.before, self.after = Samples(steps, weights), Samples(steps, weights)
        self.gradients, self.applied, self.previous = (Samples(steps, gradients) for _ in range(3))
        self._packed: dict[str, list[tuple[list[tuple[int, str]], np.ndarray]]] = {"weights": [], "gradients": []}
        self._start: Samples | None = None
        self._plans: dict[str, _Plan] = {}
        self._missing: list[tuple[int, str]] = []
        self._sparse: dict[tuple[int, str], int] = {}
        self._exact: list[tuple[int, list[str], list[Tensor], list[str], list[Tensor]]] = []
        self._weights_there, self._gradients_there = _There(), _There()
        self._weight_rows: list[_Read] = []
        self._gradient_rows: list[_Read] = []
        self._applied_rows: list[_Read] = []
        self._carry: dict[Any, tuple[Tensor, np.ndarray]] = {}
        self._carry_step: int | None = None
        self._recorded = self._row_bytes = 0
        self.named: dict[str, nn.Parameter] = {}
        self._values: list[nn.Parameter] = []
        self.refused: dict[str, str] = {}

    def start(self, model: nn.Module) -> None:
        """Read the model's parameters; what is not a plain tensor of real numbers is told in `refused`."""
        named, refused = {}, {}
        for name, p in model.named_parameters():
            name = own_name(model, name)
            if isinstance(p, nn.parameter.UninitializedParameter):
                refused[name] = "not initialised yet: show the model a batch before the fit"
            elif p.is_complex():
                refused[name] = "complex: keep real and imaginary part as two parameters to have them recorded"
            elif p.is_meta:
                refused[name] = "on the meta device: it holds no numbers, move it with `to_empty`"
            elif p.numel():
                named[name] = p
        if {n: id(p) for n, p in named.items()} != {n: id(p) for n, p in self.named.items()}:
            self.__init__(self.steps, self.whole, self.exact_every)
        self.named, self.refused, self._values = named, refused, list(named.values())

    def _copy(self, into: Samples, place: int, which: str, values: list[Tensor | None]) -> _Plan:
        "Copy samples; by a plan, which is returned, as long as the tensors stay where they are."
        plan = self._plans.get(which)
        if plan is None or not plan.holds(values):
            named = [(n, sample(t)) for n, t in zip(self.named, values) if t is not None]
            about = [None if t is None else (t.shape, t.dtype, t.device, _stride(t)) for t in values]
            if plan is None or plan.about != about or not plan.plain:
                plan = self._plans[which] = _Plan(about, into.copies(named))
            plan.look(values, [v for _, v in named])
        for copy, views in plan.views:
            into.take(place, copy, views)
        plan.let_go()
        return plan

    def _grads(self) -> list[Tensor | None]:
        return [p.grad for p in self._values]

    @torch.no_grad()
    def take_previous(self, place: int, step: int) -> None:
        """The gradients of the step before a recorded one, for the cosine."""
        found = self._grads()
        if self._gradients_there.find(found):
            self._gradients_there.glance(step)
        else:
            self._copy(self.previous, place, "previous", found)

    @torch.no_grad()
    def take_before(self, place: int, step: int, weights: bool, gradients: bool) -> None:
        """What stands before the step: weights, and gradients unscaled and not yet clipped."""
        if weights:
            self._take_weights(place)
        found = self._grads() if gradients else []
        if gradients:
            self._take_gradients(place, step, found)
        if self._recorded % self.exact_every == 0:
            self._take_exact(place, self._values if weights else [], found)
        self._recorded += 1

    def _take_weights(self, place: int) -> None:
        there = self._weights_there
        if there.find(self._values):
            mine = there.read(place, True, self.whole)
            if there.first_squares is None:
                there.begin(mine)
            self._weight_rows.append(mine)
            return
        self._copy(self.before, place, "before", self._values)
        if self.whole:
            self._take_whole("weights", place, self._values)

    def _take_gradients(self, place: int, step: int, found: list[Tensor | None]) -> None:
        there = self._gradients_there
        if there.find(found):
            self._gradient_rows.append(there.read(place, False, self.whole))
            there.keep(step, self._gradient_rows[-1])
            complete = len(there.members) == len(found)
        else:
            complete = self._copy(self.gradients, place, "gradients", found).complete
            if self.whole:
                self._take_whole("gradients", place, found)
        if not complete:
            self._note_incomplete(place, found)

    def _note_incomplete(self, place: int, gradients: list[Tensor | None]) -> None:
        for name, p, g in zip(self.named, self._values, gradients):
            if g is None:
                if p.requires_grad:
                    self._missing.append((place, name))
            elif g.layout == torch.sparse_coo:
                self._sparse[place, name] = g.coalesce().values().numel()

    def _take_whole(self, which: str, place: int, values: list[Tensor | None]) -> None:
        "What must be read whole beside its sample: a small tensor's sample is the whole."
        large = [(n, t) for n, t in zip(self.named, values) if t is not None and t.numel() > SAMPLE]
        if large:
            packed = exact([t for _, t in large], kurtosis=which == "weights")
            self._packed[which].append(([(place, n) for n, _ in large], packed))

    def _take_exact(self, place: int, weights: list[Tensor], gradients: list[Tensor | None]) -> None:
        large = {n: t for n, t in zip(self.named, weights) if t.is_floating_point()}
        values = {n: real(g) for n, g in zip(self.named, gradients) if g is not None}
        norms = list(torch._foreach_norm(list(values.values()))) if values else []
        peaks = [torch.stack(t.aminmax()) for t in large.values()]  # a fifteenth of the time of the norm of order ∞
        self._exact.append((place, list(values), norms, list(large), peaks))

    @torch.no_grad()
    def take_after(self, place: int, applied: bool, updates: bool) -> None:
        """What stands after a step that was made."""
        if applied:
            found, there = self._grads(), self._gradients_there
            if there.find(found):
                self._applied_rows.append(there.read(place, False, False))
            else:
                self._copy(self.applied, place, "applied", found)
        if updates:
            there, rows = self._weights_there, self._weight_rows
            if rows and rows[-1].place == place:
                if there.find(self._values):
                    rows[-1].moved = there.moved()
            else:
                self._copy(self.after, place, "after", self._values)

    def reduce(self, moments: list[Moment], weights: bool, gradients: bool) -> Parameters:
        """The statistics of what was taken; the memory is free for the next block."""
        found, steps = Parameters({n: p.numel() for n, p in self.named.items()}, {}), len(moments)
        found.trainable = {n: p.requires_grad for n, p in self.named.items()}
        names, order = list(self.named), {name: i for i, name in enumerate(self.named)}
        if weights:
            parts = _parts(self._weight_rows, names, lambda r: (r.change, r.distance, r.made))
            if self.before.taken:
                parts.append(self._sampled_weights(steps))
            places, of_rows, packed, (found.change, found.distance, made) = _in_order(parts, order, 3)
            found.made = made == 1
            found.weights = Rows(moments, places, of_rows, packed)
        if gradients:
            parts = _parts(self._gradient_rows, names, lambda r: (r.cosine,))
            if self.gradients.taken:
                sampled = self.gradients.reduce(steps, False)
                cosine = self._cosines(sampled, moments)
                _replace(sampled, self._packed["gradients"])
                parts.append((sampled.places, sampled.names, sampled.packed, (cosine,)))
                self._remember(moments)
            places, of_rows, packed, (found.cosine,) = _in_order(parts, order, 1)
            found.gradients = Rows(moments, places, of_rows, packed)
            parts = _parts(self._applied_rows, names, lambda r: ())
            if self.applied.taken:
                after = self.applied.reduce(steps, False)
                parts.append((after.places, after.names, after.packed, ()))
            if parts:
                places, of_rows, packed, _ = _in_order(parts, order, 0)
                found.applied = Rows(moments, places, of_rows, packed)
        found.missing, found.sparse = self._missing, self._sparse
        for place, names, norms, of_weights, peaks in self._exact:
            values = to_host([*norms, *peaks])
            found.norms |= {(place, n): float(v) for n, v in zip(names, values)}
            found.peaks |= {(place, n): float(np.abs(v).max()) for n, v in zip(of_weights, values[len(norms) :])}
        read = (self._weight_rows, self._gradient_rows, self._applied_rows)
        self._row_bytes = max(self._row_bytes, sum(of[-1].packed.nbytes for of in read if of))
        self.clear()
        return found

    def _sampled_weights(self, steps: int) -> tuple:
        "Rows of weights that were copied, with change, distance, and whether a step was made."
        read = self.before.reduce(steps, True)
        norms = _norms(read)
        if self._start is None:
            self._start = self.before.first()
        change, made = self._apart(read, self.after, steps, norms)
        distance = self._distance(read, steps)
        _replace(read, self._packed["weights"])
        return read.places, read.names, read.packed, (change, distance, made.astype(float))

    def _apart(self, read: Reduced, after: Samples, steps: int, norms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        "‖after − before‖ / ‖before‖ of every row that was read, and whether there is an after."
        change, both = {}, {}
        for bank in set(self.before.banks) & set(after.banks):
            (a, counts), (b, others) = self.before.lines(bank), after.lines(bank)
            layout = self.before.places.layout(bank)
            change[bank] = np.sqrt(squares(a[:steps], b[:steps], layout))
            both[bank] = np.where(others[:steps] == counts[:steps], 1.0, 0.0)
        return _ratio(read.column(change), norms), read.column(both) == 1

    def _distance(self, read: Reduced, steps: int) -> np.ndarray:
        "‖w − w₀‖ / ‖w₀‖ of every row that was read, w₀ of the first recorded step."
        moved, sizes = {}, {}
        for bank in set(self.before.banks) & set(self._start.banks):
            (now, counts), (start, first) = self.before.lines(bank), self._start.lines(bank)
            layout = self.before.places.layout(bank)
            same = counts[:steps] == first
            moved[bank] = np.where(same, np.sqrt(squares(now[:steps], start, layout)), np.nan)
            sizes[bank] = np.broadcast_to(np.sqrt(squares(start, None, layout)), same.shape)
        return _ratio(read.column(moved), read.column(sizes))

    def _cosines(self, read: Reduced, moments: list[Moment]) -> np.ndarray:
        "Of every gradient with that of the step before: the neighbour, where that was recorded too."
        found: dict[Any, np.ndarray] = {}
        number = np.array([m.step for m in moments])
        follows = np.diff(number, prepend=number[0] - 1 if self._carry_step == number[0] - 1 else -2) == 1
        for bank in self.gradients.banks:
            (lines, counts), layout = self.gradients.lines(bank), self.gradients.places.layout(bank)
            lines, counts = lines[: len(moments)], counts[: len(moments)]
            values, own = np.full(counts.shape, np.nan), squares(lines, None, layout)
            found[bank] = values
            pairs = []  # (places, lines of the step before, their counts)
            if len(moments) > 1:
                pairs.append((np.flatnonzero(follows[1:]) + 1, lines[:-1], counts[:-1], 1))
            if bank in self._carry and follows[0]:
                last, its_counts = self._carry[bank]
                if last.shape[1] == layout.width:
                    pairs.append((np.array([0]), last, its_counts, 0))
            if self.previous.taken and bank in self.previous.banks:
                before, its_counts = self.previous.lines(bank)
                pairs.append((np.flatnonzero(its_counts[: len(moments)].any(1) & ~follows), before, its_counts, None))
            for places, before, its_counts, at in pairs:
                if not len(places):
                    continue
                if at is None:
                    mine, theirs = lines, before[: len(moments)]
                    theirs_counts = its_counts[: len(moments)]
                    inside = places
                else:
                    mine, theirs, theirs_counts = lines[at : at + len(before)], before, its_counts
                    inside = places - at
                sizes = own[at : at + len(before)] if at is not None else own
                those = own[:-1] if at == 1 else squares(theirs, None, layout)
                with np.errstate(all="ignore"):
                    cosine = (dots(mine, theirs, layout) / np.sqrt(sizes * those))[inside]
                same = (counts[places] > 0) & (counts[places] == theirs_counts[inside])
                values[places] = np.where(same, cosine, np.nan)
        return read.column(found)

    def _remember(self, moments: list[Moment]) -> None:
        k = len(moments) - 1
        self._carry_step, self._carry = moments[k].step, {}
        for bank in self.gradients.banks:
            lines, counts = self.gradients.lines(bank)
            self._carry[bank] = lines[k : k + 1].clone(), counts[k : k + 1].copy()

    @property
    def _all(self) -> tuple[Samples, ...]:
        return self.before, self.after, self.gradients, self.applied, self.previous

    @property
    def bytes_a_step(self) -> int:
        """Memory that one recorded step takes."""
        return sum(s.bytes_a_step for s in self._all) + self._row_bytes

    def resize(self, steps: int) -> None:
        """Hold so many recorded steps from now on."""
        self.steps = steps
        for samples in self._all:
            samples.resize(steps)

    def clear(self) -> None:
        """Forget what was taken."""
        for samples in self._all:
            samples.clear()
        self._packed = {"weights": [], "gradients": []}
        self._missing, self._sparse, self._exact = [], {}, []
        self._weight_rows, self._gradient_rows, self._applied_rows = [], [], []


class _Read:
    """What was read of one step's parameters or gradients where they lie.

    Attributes:
        place: of the moment. members: which of the parameters.
        packed: [rows, fields] of the samples. whole: the same of all elements, if they were read.
        sums: [rows, 3] as `compiled.look` gives them. before: [rows] sums of squares of the step before, if kept.
        first: [rows] sums of squares of what was read first, None if nothing is compared with it.
        moved: [rows] squares of ‖Δw‖; None if no step was made.
    """

    def __init__(self, place: int, there: _There, packed: np.ndarray, sums: np.ndarray, whole: np.ndarray | None):
        self.place, self.members, self.first = place, there.members, there.first_squares
        self.packed, self.sums, self.whole = packed, sums, whole
        self.before: np.ndarray | None = None
        self.moved: np.ndarray | None = None


class _Block:
    """Several `_Read` of the same tensors, one behind the other; and what follows from their sums, [rows] each."""

    def __init__(self, reads: list[_Read]):
        self.reads, rows = reads, len(reads[0].packed)
        self.places = np.repeat([r.place for r in reads], rows)
        packed, self.sums = np.concatenate([r.packed for r in reads]), np.concatenate([r.sums for r in reads])
        found = Summary(packed)
        self.norms = found.l2(found.count)
        self.packed = packed if reads[0].whole is None else np.concatenate([r.whole for r in reads])

    def _all(self, get: Callable[[_Read], np.ndarray | None]) -> np.ndarray:
        none = np.full(len(self.reads[0].packed), np.nan)
        return np.concatenate([none if (v := get(r)) is None else v for r in self.reads])

    @property
    def made(self) -> np.ndarray:
        """1 if a step was made, else 0."""
        return np.repeat([float(r.moved is not None) for r in self.reads], len(self.reads[0].packed))

    @property
    def change(self) -> np.ndarray:
        """‖Δw‖/‖w‖."""
        return _ratio(np.sqrt(self._all(lambda r: r.moved)), self.norms)

    @property
    def distance(self) -> np.ndarray:
        """From what was read first, over the size of that."""
        return _ratio(np.sqrt(self.sums[:, 2]), np.sqrt(self._all(lambda r: r.first)))

    @property
    def cosine(self) -> np.ndarray:
        """With what was kept at the step before, NaN if nothing was."""
        with np.errstate(all="ignore"):
            return self.sums[:, 1] / np.sqrt(self.sums[:, 0] * self._all(lambda r: r.before))


def _parts(reads: list[_Read], names: list[str], columns: Callable[[_Block], tuple]) -> list[tuple]:
    "As `_in_order` takes them."
    parts = []
    for _, same in itertools.groupby(reads, lambda r: (id(r.members), r.whole is None)):
        block = _Block(list(same))
        of_step = [names[i] for i in block.reads[0].members]
        parts.append((block.places, of_step * len(block.reads), block.packed, columns(block)))
    return parts


def _in_order(parts: list[tuple], order: dict[str, int], columns: int) -> tuple:
    "Parts of (places, names, packed, columns) put together by place, and within a place by `order`."
    if not parts:
        none = Reduced()
        return none.places, none.names, none.packed, tuple(np.zeros(0) for _ in range(columns))
    places, packed = np.concatenate([p for p, _, _, _ in parts]), np.concatenate([p for _, _, p, _ in parts])
    names = [name for _, of_part, _, _ in parts for name in of_part]
    found = tuple(np.concatenate([c[i] for _, _, _, c in parts]) for i in range(columns))
    if (np.diff(places) < 0).any():
        by_order = np.lexsort((np.array([order[n] for n in names]), places))
        places, packed, names = places[by_order], packed[by_order], [names[i] for i in by_order.tolist()]
        found = tuple(c[by_order] for c in found)
    return places, names, packed, found


class _There:
    """Samples of tensors that lie in this process's memory: one step's at a time, one tensor's behind the other's.

    Attributes:
        members: indices of the tensors that are not None.
    """

    def __init__(self):
        self.members: list[int] = []
        self._values: list[Tensor | None] = []
        self._tensors: list[Tensor] = []
        self._about: list[tuple] | None = None
        self._where: list[int] = []
        self._looks = 0

    def find(self, values: list[Tensor | None]) -> bool:
        """Whether all of these that are not None can be read where they lie; they are, from now on."""
        if self._where and len(values) == len(self._values) and all(map(is_, values, self._values)):
            where = [*map(Tensor.data_ptr, self._tensors)]
            if where == self._where:
                return True
        tensors = [t for t in values if t is not None]
        if not tensors or not all(map(lies, tensors)):
            self._values, self._tensors, self._where = [], [], []
            return False
        about = [None if t is None else (t.shape, t.stride()) for t in values]
        if about != self._about:
            self._lay_out(values, tensors)
            self._about = about
        self._where = [t.data_ptr() for t in tensors]
        self._addresses = np.array(self._where) + self._offsets
        self._at = self._addresses.ctypes.data
        self._looks += 1
        # where every step brings new gradients, the old ones must not be kept alive
        self._values, self._tensors = (list(values), tensors) if self._looks < 4 else ([], [])
        return True

    def _lay_out(self, values: list[Tensor | None], tensors: list[Tensor]) -> None:
        self.members = [i for i, t in enumerate(values) if t is not None]
        self._rows, self._whole = lying(tensors, False, CHUNK), lying(tensors, True, CHUNK)
        self._offsets = 4 * (self._rows.rooms // 2)  # the same place at every step, as `sample` has it
        self._lines = compiled().Lines(self._rows.lengths)
        rows = len(self.members)
        self._packed, self._sums, self._squares = Pages((rows, WIDTH)), Pages((rows, 3)), Pages((rows,))
        self.first_squares: np.ndarray | None = None
        self._kept: tuple[int, np.ndarray] | None = None
        self._looks = 0

    def read(self, place: int, kurtosis: bool, whole: bool) -> _Read:
        """Read the samples; and all elements too, if `whole`."""
        (packed, to), (sums, its) = self._packed.next(), self._sums.next()
        compiled().look(self._at, self._rows, kurtosis, self._lines, to, its)
        everything = read(np.array(self._where), self._whole, kurtosis, True) if whole else None
        return _Read(place, self, packed, sums, everything)

    def begin(self, mine: _Read) -> None:
        """What was just read is what distances are from."""
        self._lines.begin()
        self.first_squares = mine.first = mine.sums[:, 0].copy()
        mine.sums[:, 2] = 0

    def moved(self) -> np.ndarray:
        """[members] squares of how far the tensors are by now from what was read."""
        found, to = self._squares.next()
        compiled().moved(self._at, self._rows, self._lines, to)
        return found

    def glance(self, step: int) -> None:
        """Keep the samples of a step that is not recorded, for the next one to be compared with."""
        found, to = self._squares.next()
        compiled().kept(self._at, self._rows, self._lines, to)
        self._kept = step, found

    def keep(self, step: int, mine: _Read) -> None:
        """What was just read at this step is what the next one's is compared with; as this is with the last one."""
        if self._kept is not None and self._kept[0] == step - 1:
            mine.before = self._kept[1]
        self._kept = step, mine.sums[:, 0]
        self._lines.swap()


def _stride(t: Tensor) -> tuple[int, ...] | None:
    return t.stride() if t.layout == torch.strided else None


class _Plan:
    "How to copy samples of tensors of these shapes and kinds: by the same views as long as they stay where they are."

    def __init__(self, about: list[tuple | None], copies: list[tuple[Copy, list[int]]]):
        self.about, self.views = about, []
        self.plain = all(a is None or (a[3] is not None and dense(a[0], a[3])) for a in about)  # samples are views
        self.complete = all(a is not None and a[3] is not None for a in about)
        self._copies, self._looks = copies, 0
        self._values: list[Tensor | None] = []
        self._there: list[Tensor] = []
        self._where: list[int] = []

    def look(self, values: list[Tensor | None], views: list[Tensor]) -> None:
        """Take these tensors from now on."""
        self._values, self._there = list(values), [t for t in values if t is not None]
        self._where = [t.data_ptr() for t in self._there] if self.plain else []
        self.views = [(copy, [views[i] for i in members]) for copy, members in self._copies]
        self._looks += 1

    def holds(self, values: list[Tensor | None]) -> bool:
        """Whether the views still show what these tensors hold."""
        return (
            self.plain
            and len(values) == len(self._values)
            and all(map(is_, values, self._values))
            and [*map(Tensor.data_ptr, self._there)] == self._where
        )

    def let_go(self) -> None:
        """Where every step brings new gradients, the old ones must not be kept alive."""
        if self._looks > 2 or not self.plain:
            self._values, self._there, self.views = [], [], []


def _replace(read: Reduced, whole: Iterable[tuple[list[tuple[int, str]], np.ndarray]]) -> None:
    "Put the statistics of all elements in the place of the samples'."
    keys = None
    for of_step, packed in whole:
        keys = keys or {key: i for i, key in enumerate(zip(read.places.tolist(), read.names))}
        read.packed[[keys[k] for k in of_step]] = packed


def _norms(read: Reduced) -> np.ndarray:
    "[rows] L2 norm of the elements that were read."
    found = Summary(read.packed)
    return found.l2(found.count)


def _ratio(moved: np.ndarray, size: np.ndarray) -> np.ndarray:
    "How far over how large; zero if nothing moved, infinite if what was zero did."
    with np.errstate(all="ignore"):
        return np.where(moved == 0, 0.0, moved / size)
