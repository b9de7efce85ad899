"""Where gauges get their numbers: the outputs of modules, and the parameters with their gradients and updates.

Hooks stand on the model during a recorded forward pass only. They keep a reference to each output; after the pass one
copy takes samples of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import is_
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from diagnose.gauges import Activations, Call, Moment, Parameters, Rows, own_name, to_host
from diagnose.packed import PUT, Summary
from diagnose.sampling import SAMPLE, Copy, Places, Reading, Reduced, Samples, Window, lies, lying, sample
from diagnose.stats import LIMITS, at_limits, compiled, dense, dots, exact, plain, read, real, squares, tensors

OVERWRITTEN_EVERY = 8  # recorded steps: an output that is overwritten in place must be copied in the middle of the pass
_KEY = "diagnose.watch"  # among a module's forward hooks


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
        self._outputs: list[Tensor] = []
        self._versions: list[int] = []
        self._hooks: list[tuple[nn.Module, Callable]] = []
        self._root: Callable | None = None
        self._attached, self._copy_now = False, True
        self._overwritten: set[str] = set()
        self._calls: dict[tuple[str, int, int], Call] = {}
        self._sequences: dict[tuple, _Sequence] = {}
        self.sizes: dict[Call, int] = {}
        self.kinds: dict[Call, type[nn.Module]] = {}
        self.refused: dict[str, str] = {}
        self._recorded = 0

    # ---- hooks -----------------------------------------------------------------------------------------------------

    def start(self, model: nn.Module) -> None:
        """Read the model's modules; what cannot be recorded is told in `refused`."""
        self.detach()
        hooks = [(m, self._hook(name, type(m))) for name, m in modules(model, self.refused)]
        self._hooks = [(m, hook) for m, hook in hooks if m is not model]
        self._root = next((hook for m, hook in hooks if m is model), None)

    def root(self, model: nn.Module, output: Any) -> None:
        """The output of the model itself, whose own hooks are looked up before its forward pass puts them on."""
        if self._root is not None:
            self._root(model, (), output)

    def attach(self) -> None:
        """Put the hooks on; `detach` must follow."""
        self._forget()
        self._copy_now = self._recorded % OVERWRITTEN_EVERY == 0
        self._recorded += 1
        for module, hook in self._hooks:
            module._forward_hooks[_KEY] = hook  # `register_forward_hook` takes ten times as long, at every step
        self._attached = True

    def detach(self) -> None:
        """Take the hooks off."""
        if self._attached:
            for module, _ in self._hooks:
                module._forward_hooks.pop(_KEY, None)
            self._attached = False

    def _forget(self) -> None:
        self._keys.clear()
        self._outputs.clear()
        self._versions.clear()

    def _hook(self, name: str, kind: type[nn.Module]) -> Callable:
        keys, outputs, versions, overwritten = self._keys, self._outputs, self._versions, self._overwritten
        own = (name, kind, 0)

        def hook(module: nn.Module, inputs: tuple, output: Any) -> None:
            if type(output) is not Tensor:
                for part, t in enumerate(tensors(output)):
                    keys.append((name, kind, part))
                    outputs.append(t)
                    versions.append(t._version)
                return
            version = output._version
            if name in overwritten:
                if not self._copy_now:
                    return
                output = output.detach().clone()
                version = output._version
            elif outputs and outputs[-1] is output and versions[-1] == version:
                return  # a container hands on its last part's output
            keys.append(own)
            outputs.append(output)
            versions.append(version)

        return hook

    # ---- taking ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def take(self, place: int, step: int, samples: bool = True) -> list[tuple[Call, Tensor]]:
        """After the pass: take the samples of this step, if wanted. Returns every call with its whole output."""
        self.detach()
        sequence, changed = self._sequence(tuple(self._keys)), None
        outputs = [plain(t) for t in self._outputs]
        if [t._version for t in outputs] != self._versions:
            changed = tuple([t._version != v for t, v in zip(outputs, self._versions)])
            self._overwritten.update(c.layer for c, gone in zip(sequence.calls, changed) if gone)
        self._forget()
        about = _about(outputs), changed
        known = sequence.passes.get(about)
        if known is None:
            known = self._pass(sequence.calls, outputs, changed)
            if known.repeats:
                _keep(sequence.passes, about, known)
        if known.chosen is not None:
            outputs = [outputs[i] for i in known.chosen]
        found = list(zip(known.calls, outputs))
        if samples:
            self._take_samples(place, step, known, outputs)
        return found

    def _take_samples(self, place: int, step: int, known: _Pass, outputs: list[Tensor]) -> None:
        if known.lying is not None:
            addresses = np.array([outputs[i].data_ptr() for i in known.there])
            packed = read(addresses, known.lying, False, True, step + 1)
            self._packed.append((place, known.there_calls, packed))
            self._packed_bytes = packed.nbytes
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

    def _sequence(self, keys: tuple) -> _Sequence:
        "The calls of a pass: of every output which module's, which of its calls, and which part."
        found = self._sequences.get(keys)
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
            _keep(self._sequences, keys, found)
        return found

    def _pass(self, calls: list[Call], outputs: list[Tensor], changed: tuple[bool, ...] | None) -> _Pass:
        for call, t in zip(calls, outputs):
            if t.is_complex():
                self.refused[call.layer] = (
                    "its output is complex: put out real and imaginary part to have them recorded"
                )
        chosen = [i for i, t in enumerate(outputs) if t.numel() and not t.is_complex() and not (changed and changed[i])]
        mine, their = [outputs[i] for i in chosen], [calls[i] for i in chosen]
        there = [i for i, t in enumerate(mine) if lies(t)]
        others = [i for i in range(len(mine)) if i not in set(there)]
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

    def __post_init__(self):
        self.there_calls = [self.calls[i] for i in self.there]


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
        for copy, views, reading in plan.views:
            into.take(place, copy, views, reading)
        plan.let_go()
        return plan

    def _grads(self) -> list[Tensor | None]:
        return [p.grad for p in self._values]

    @torch.no_grad()
    def take_previous(self, place: int, step: int) -> None:
        """The gradients of the step before a recorded one, for the cosine."""
        found = self._grads()
        if self._gradients_there.find(found):
            self._gradients_there.keep(step)
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
            packed, norms = there.read(True, self.whole)
            self._weight_rows.append(_Read(place, list(self.named), packed, norms, there.distance()))
            return
        self._copy(self.before, place, "before", self._values)
        if self.whole:
            self._take_whole("weights", place, self._values)

    def _take_gradients(self, place: int, step: int, found: list[Tensor | None]) -> None:
        there = self._gradients_there
        if there.find(found):
            packed, norms = there.read(False, self.whole)
            self._gradient_rows.append(_Read(place, there.of(self.named), packed, norms, there.cosine(step)))
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
                self._applied_rows.append(_Read(place, there.of(self.named), *there.read(False, False), None))
            else:
                self._copy(self.applied, place, "applied", found)
        if updates:
            there, rows = self._weights_there, self._weight_rows
            if rows and rows[-1].place == place:
                if there.find(self._values):
                    rows[-1].change = _ratio(there.moved(), rows[-1].norms)
            else:
                self._copy(self.after, place, "after", self._values)

    def reduce(self, moments: list[Moment], weights: bool, gradients: bool) -> Parameters:
        """The statistics of what was taken; the memory is free for the next block."""
        found, steps = Parameters({n: p.numel() for n, p in self.named.items()}, {}), len(moments)
        found.trainable = {n: p.requires_grad for n, p in self.named.items()}
        order = {name: i for i, name in enumerate(self.named)}
        if weights:
            parts = [r.part(r.change, r.about, r.made) for r in self._weight_rows]
            if self.before.taken:
                parts.append(self._sampled_weights(steps))
            places, names, packed, (found.change, found.distance, made) = _in_order(parts, order, 3)
            found.made = made == 1
            found.weights = Rows(moments, places, names, packed)
        if gradients:
            parts = [r.part(r.about) for r in self._gradient_rows]
            if self.gradients.taken:
                sampled = self.gradients.reduce(steps, False)
                cosine = self._cosines(sampled, moments)
                _replace(sampled, self._packed["gradients"])
                parts.append((sampled.places, sampled.names, sampled.packed, (cosine,)))
                self._remember(moments)
            places, names, packed, (found.cosine,) = _in_order(parts, order, 1)
            found.gradients = Rows(moments, places, names, packed)
            parts = [r.part() for r in self._applied_rows]
            if self.applied.taken:
                after = self.applied.reduce(steps, False)
                parts.append((after.places, after.names, after.packed, ()))
            if parts:
                places, names, packed, _ = _in_order(parts, order, 0)
                found.applied = Rows(moments, places, names, packed)
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


@dataclass
class _Read:
    """What was read of one step's parameters or gradients where they lie.

    Attributes:
        place: of the moment. names: [rows]. packed: [rows, fields]. norms: [rows] of the samples.
        about: [rows] distance from the start, or cosine with the step before.
        change: [rows] ‖Δw‖/‖w‖; None if no step was made.
    """

    place: int
    names: list[str]
    packed: np.ndarray
    norms: np.ndarray
    about: np.ndarray | None
    change: np.ndarray | None = None

    @property
    def made(self) -> np.ndarray:
        """[rows] 1 if a step was made, else 0."""
        return np.full(len(self.packed), float(self.change is not None))

    def part(self, *columns: np.ndarray | None) -> tuple:
        """As `_in_order` takes it."""
        rows = len(self.packed)
        filled = tuple(np.full(rows, np.nan) if c is None else c for c in columns)
        return np.full(rows, self.place), self.names, self.packed, filled


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
        self._looks += 1
        # where every step brings new gradients, the old ones must not be kept alive
        self._values, self._tensors = (list(values), tensors) if self._looks < 4 else ([], [])
        return True

    def _lay_out(self, values: list[Tensor | None], tensors: list[Tensor]) -> None:
        self.members = [i for i, t in enumerate(values) if t is not None]
        reading = Reading.of([sample(t) for t in tensors])
        self._rows, self._offsets = reading.rows, reading.addresses - [t.data_ptr() for t in tensors]
        self._sampled = self._rows.gaps > 0
        self._starts = np.concatenate([[0], np.cumsum(self._rows.lengths)])
        self._inside, self._sizes = compiled().Rows.whole(self._rows.lengths), np.array([t.numel() for t in tensors])
        self._line, self._other = _Line(self._starts), _Line(self._starts)
        self._first: _Line | None = None
        self._kept_step: int | None = None
        self._looks = 0

    def of(self, names: Iterable[str]) -> list[str]:
        """Names of the members."""
        names = list(names)
        return names if len(names) == len(self.members) else [names[i] for i in self.members]

    def _gather(self, line: _Line) -> None:
        compiled().gather(self._addresses, self._rows, line.numbers[0], self._starts[:-1])

    def read(self, kurtosis: bool, whole: bool) -> tuple[np.ndarray, np.ndarray]:
        """[members, fields] statistics, of all elements if `whole`; and [members] norms of the samples."""
        self._gather(self._line)
        packed = read(self._line.addresses, self._inside, kurtosis, True)
        found = Summary(packed)
        norms = found.l2(found.count)
        if whole and self._sampled.any():
            packed = read(np.array(self._where), compiled().Rows.whole(self._sizes), kurtosis, True)
        elif self._sampled.any():
            packed[self._sampled, PUT["min"]] = packed[self._sampled, PUT["max"]] = np.nan
        return packed, norms

    def distance(self) -> np.ndarray:
        """[members] of what was read from what was read first, over the size of that."""
        if self._first is None:
            self._first, self._first_size = self._line.copy(), np.sqrt(self._line.dot(self._line))
        return _ratio(np.sqrt(self._line.apart(self._first)), self._first_size)

    def moved(self) -> np.ndarray:
        """[members] how far the tensors are by now from what was read."""
        self._gather(self._other)
        return np.sqrt(self._line.apart(self._other))

    def keep(self, step: int) -> None:
        """Remember the tensors as they are at this step, for `cosine`."""
        self._gather(self._other)
        self._kept_step, self._kept_square = step, self._other.dot(self._other)

    def cosine(self, step: int) -> np.ndarray:
        """[members] of what was read with what was kept at the step before, NaN if nothing was; it is kept in turn."""
        square = self._line.dot(self._line)
        if self._kept_step == step - 1:
            with np.errstate(all="ignore"):
                found = self._line.dot(self._other) / np.sqrt(square * self._kept_square)
        else:
            found = np.full(len(square), np.nan)
        self._line, self._other = self._other, self._line
        self._kept_step, self._kept_square = step, square
        return found


class _Line:
    "Rows of float32 numbers, one behind the other."

    def __init__(self, starts: np.ndarray):
        self.starts, self.numbers = starts, np.zeros((1, int(starts[-1])), dtype=np.float32)
        self.addresses = self.numbers.ctypes.data + 4 * starts[:-1]

    def copy(self) -> _Line:
        result = _Line(self.starts)
        result.numbers[:] = self.numbers
        return result

    def dot(self, other: _Line) -> np.ndarray:
        found = np.empty((1, len(self.addresses)))
        compiled().dots(self.numbers, other.numbers, self.starts, found)
        return found[0]

    def apart(self, other: _Line) -> np.ndarray:
        found = np.empty((1, len(self.addresses)))
        compiled().apart(self.numbers, other.numbers, self.starts, found)
        return found[0]


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
        self.views = []
        for copy, members in self._copies:
            mine = [views[i] for i in members]
            self.views.append((copy, mine, Reading.of(mine)))
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
