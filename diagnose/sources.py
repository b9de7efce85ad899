"""Where gauges get their numbers: the outputs of modules, and the parameters with their gradients and updates.

Hooks stand on the model during a recorded forward pass only. They keep a reference to each output; after the pass one
copy takes samples of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diagnose.gauges import Activations, Call, Moment, Parameters, Rows, own_name, to_host
from diagnose.sampling import SAMPLE, Plan, Samples, Slot, sample
from diagnose.stats import LIMITS, at_limits, exact, real, summarise, tensors

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
        self._packed: list[tuple[int, Call, Tensor]] = []
        self._saturated: list[tuple[int, Call, Tensor]] = []
        self._calls: list[tuple[str, str, Any, int]] = []
        self._hooks: list[tuple[nn.Module, Callable]] = []
        self._root: Callable | None = None
        self._attached, self._copy_now = False, True
        self._overwritten: set[str] = set()
        self._names: dict[tuple[str, int, int], Call] = {}
        self._slots: dict[Call, tuple[Any, Any, Any, Slot]] = {}
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
        self._calls.clear()
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

    def _hook(self, name: str, kind: type[nn.Module]) -> Callable:
        calls, overwritten = self._calls, self._overwritten

        def hook(module: nn.Module, inputs: tuple, output: Any) -> None:
            if type(output) is not Tensor:
                if parts := tensors(output):
                    calls.append((name, kind, parts, tuple(p._version for p in parts)))
            elif name in overwritten:
                if self._copy_now:
                    copy = output.detach().clone()
                    calls.append((name, kind, copy, copy._version))
            elif not (calls and calls[-1][2] is output and calls[-1][3] == output._version):
                calls.append((name, kind, output, output._version))  # a container hands on its last part's output

        return hook

    # ---- taking ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def take(self, place: int, step: int, samples: bool = True) -> list[tuple[Call, Tensor]]:
        """After the pass: take the samples of this step, if wanted. Returns every call with its whole output."""
        self.detach()
        counts: dict[str, int] = {}
        found: list[tuple[Call, Tensor]] = []
        for name, kind, output, version in self._calls:
            number = counts[name] = counts.get(name, -1) + 1
            if type(output) is not list:
                output, version = (output,), (version,)
            for part, (t, before) in enumerate(zip(output, version)):
                call = self._call(name, kind, number, part)
                if t._version != before:
                    self._overwritten.add(name)
                elif t.is_complex():
                    self.refused[name] = "its output is complex"
                elif t.numel():
                    found.append((call, t))
        self._calls.clear()
        if not samples:
            return found
        large = [(call, t) for call, t in found if self.whole and t.numel() > SAMPLE]
        self._packed += [(place, call, exact(t, kurtosis=False)) for call, t in large]
        self.sizes |= {call: t.numel() for call, t in large}
        small = found if not large else [(call, t) for call, t in found if t.numel() <= SAMPLE]
        self.samples.copy(place, [(self._slot(call, t), sample(t, step + 1)) for call, t in small])
        for call, t in found:
            if self.kinds[call] in LIMITS:
                at = at_limits(self.kinds[call], sample(t, step + 1).float())
                self._saturated.append((place, call, at.float().mean()))
        return found

    def _slot(self, call: Call, t: Tensor) -> Slot:
        kept = self._slots.get(call)
        if kept is None or kept[0] != t.shape or kept[1] != t.dtype or kept[2] != t.device:
            kept = self._slots[call] = (t.shape, t.dtype, t.device, self.samples.slot(call, t))
            self.sizes[call] = t.numel()
        return kept[3]

    def _call(self, name: str, kind: type[nn.Module], number: int, part: int) -> Call:
        key = (name, number, part)
        call = self._names.get(key)
        if call is None:
            call = self._names[key] = Call(name, kind.__name__, number, part)
            self.kinds[call] = kind
        return call

    def reduce(self, moments: list[Moment]) -> Activations:
        """The statistics of what was taken; the memory is free for the next block."""
        rows = _rows(moments, self.samples, self._packed, False, list(self._names.values()))
        shares = to_host([v for _, _, v in self._saturated])
        saturated = {(k, c): float(v) for (k, c, _), v in zip(self._saturated, shares)}
        column = np.array([saturated.get(key, np.nan) for key in zip(rows.place.tolist(), rows.names)])
        self.clear()
        return Activations(rows, dict(self.sizes), column)

    @property
    def bytes_a_step(self) -> int:
        """Memory that one recorded step takes."""
        return self.samples.bytes_a_step

    def resize(self, steps: int) -> None:
        """Hold so many recorded steps from now on."""
        self.samples.resize(steps)

    def clear(self) -> None:
        """Forget what was taken."""
        self.samples.clear()
        self._packed, self._saturated = [], []


def _statistics(kurtosis: bool) -> Callable[[Tensor, Tensor | None], Tensor]:
    "Of rows of samples; the extremes of what is but a sample of a larger tensor would mean nothing."
    return lambda rows, counts: summarise(rows, counts, kurtosis, counts is not None or rows.shape[1] < SAMPLE)


def _rows(
    moments: list[Moment], samples: Samples, whole: list[tuple[int, Any, Tensor]], kurtosis: bool, order: list
) -> Rows:
    "Statistics of what was sampled; of what was read whole too, those replace the sample's. Within a step by `order`."
    places, names, packed = samples.reduce(_statistics(kurtosis))
    if not len(packed):
        packed = summarise(torch.zeros(0, 1)).numpy()
    if whole:
        read = {(k, n) for k, n, _ in whole}
        kept = [i for i, key in enumerate(zip(places.tolist(), names)) if key not in read]
        places = np.concatenate([places[kept], [k for k, _, _ in whole]]).astype(np.int64)
        names = [names[i] for i in kept] + [n for _, n, _ in whole]
        packed = np.concatenate([packed[kept], torch.stack([p.cpu() for _, _, p in whole]).numpy()])
        rank = {name: i for i, name in enumerate(order)}
        by_order = np.lexsort((np.array([rank[n] for n in names]), places))
        places, names, packed = places[by_order], [names[i] for i in by_order], packed[by_order]
    return Rows(moments, places, names, packed)


def modules(model: nn.Module, refused: dict[str, str]) -> list[tuple[str, nn.Module]]:
    """Modules that may carry hooks, by name without the prefix of a wrapper; what may not is told in `refused`."""
    found, closed = [], []
    if isinstance(model, nn.DataParallel):
        refused[""] = "DataParallel runs copies of the model in threads: their outputs are not recorded"
        return []
    for name, module in model.named_modules():
        if any(name == c or name.startswith(f"{c}.") or not c for c in closed):
            continue
        if isinstance(module, torch.jit.ScriptModule):
            closed.append(name)
            refused[name] = "scripted: its parts do not call hooks"
        elif type(module).__name__ == "OptimizedModule":
            closed.append(f"{name}._orig_mod" if name else "_orig_mod")
            refused[name] = "compiled: hooks on its parts would compile it anew"
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
        self.before, self.after = Samples(steps), Samples(steps)
        self.gradients, self.applied, self.previous = Samples(steps), Samples(steps), Samples(steps)
        self._packed: dict[str, list] = {"weights": [], "gradients": []}
        self._start: Samples | None = None
        self._plans: dict[str, tuple[list[int], list[str], Plan]] = {}
        self._missing: list[tuple[int, str]] = []
        self._sparse: dict[tuple[int, str], int] = {}
        self._exact: list[tuple[int, list[str], list[Tensor], list[str], list[Tensor]]] = []
        self._carry: dict[Any, tuple[Tensor, np.ndarray]] = {}
        self._carry_step: int | None = None
        self._recorded = 0
        self.named: dict[str, nn.Parameter] = {}
        self.refused: dict[str, str] = {}

    def start(self, model: nn.Module) -> None:
        """Read the model's parameters; what is not a plain tensor of real numbers is told in `refused`."""
        named, refused = {}, {}
        for name, p in model.named_parameters():
            name = own_name(model, name)
            if isinstance(p, nn.parameter.UninitializedParameter):
                refused[name] = "not initialised yet"
            elif p.is_complex():
                refused[name] = "complex"
            elif p.is_meta:
                refused[name] = "on the meta device"
            elif p.numel():
                named[name] = p
        if {n: id(p) for n, p in named.items()} != {n: id(p) for n, p in self.named.items()}:
            self.__init__(self.steps, self.whole, self.exact_every)
        self.named, self.refused = named, refused

    def _copy(self, into: Samples, place: int, which: str, of: dict[str, Tensor]) -> None:
        "Copy samples; by a plan as long as the tensors stay where they are."
        where = [t.data_ptr() if t.layout == torch.strided else -1 for t in of.values()]
        kept = self._plans.get(which)
        if kept is None or kept[0] != where or kept[1] != list(of) or -1 in where:
            beside = self.gradients if into is self.previous else None
            views = [sample(t) for t in of.values()]
            slots = [into.slot_beside(beside, n, v) if beside else into.slot(n, v) for n, v in zip(of, views)]
            kept = self._plans[which] = (where, list(of), into.plan(list(zip(slots, views))))
        into.repeat(place, kept[2])

    def _large(self, tensors: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
        "What must be read whole beside its sample: a small tensor's sample is the whole."
        return [(n, t) for n, t in tensors.items() if t.numel() > SAMPLE] if self.whole else []

    def _grads(self) -> dict[str, Tensor]:
        return {n: g for n, p in self.named.items() if (g := p.grad) is not None}

    @torch.no_grad()
    def take_previous(self, place: int) -> None:
        """The gradients of the step before a recorded one, for the cosine."""
        self._copy(self.previous, place, "previous", self._grads())

    @torch.no_grad()
    def take_before(self, place: int, weights: bool, gradients: bool) -> None:
        """What stands before the step: weights, and gradients unscaled and not yet clipped."""
        if weights:
            self._copy(self.before, place, "before", self.named)
            self._packed["weights"] += [(place, n, exact(t)) for n, t in self._large(self.named)]
        found = self._grads() if gradients else {}
        if gradients:
            self._copy(self.gradients, place, "gradients", found)
            self._sparse |= {
                (place, n): g.coalesce().values().numel() for n, g in found.items() if g.layout == torch.sparse_coo
            }
            if len(found) < len(self.named):
                self._missing += [(place, n) for n, p in self.named.items() if p.requires_grad and n not in found]
            self._packed["gradients"] += [(place, n, exact(t, kurtosis=False)) for n, t in self._large(found)]
        if self._recorded % self.exact_every == 0:
            self._take_exact(place, self.named if weights else {}, found)
        self._recorded += 1

    def _take_exact(self, place: int, weights: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
        weights = {n: t for n, t in weights.items() if t.is_floating_point()}
        values = [real(g) for g in gradients.values()]
        norms = list(torch._foreach_norm(values)) if values else []
        peaks = list(torch._foreach_norm(list(weights.values()), float("inf"))) if weights else []
        self._exact.append((place, list(gradients), norms, list(weights), peaks))

    @torch.no_grad()
    def take_after(self, place: int, applied: bool, updates: bool) -> None:
        """What stands after a step that was made."""
        if applied:
            self._copy(self.applied, place, "applied", self._grads())
        if updates:
            self._copy(self.after, place, "after", self.named)

    def reduce(self, moments: list[Moment], weights: bool, gradients: bool) -> Parameters:
        """The statistics of what was taken; the memory is free for the next block."""
        found = Parameters({n: p.numel() for n, p in self.named.items()}, {})
        found.trainable = {n: p.requires_grad for n, p in self.named.items()}
        found.change = _paired(self.before, self.after, _relative_change)
        if self._start is None and any(counts.any() for _, _, counts in self.before.each()):
            self._start = self.before.first()
        if self._start is not None:
            found.distance = _paired(self.before, self._start, lambda now, start: _relative_change(start, now), at=0)
        if weights:
            found.weights = _rows(moments, self.before, self._packed["weights"], True, list(self.named))
        if gradients:
            found.gradients = _rows(moments, self.gradients, self._packed["gradients"], False, list(self.named))
            if any(counts.any() for _, _, counts in self.applied.each()):
                found.applied = _rows(moments, self.applied, [], False, list(self.named))
            found.cosine = self._cosines(moments)
            self._remember(moments)
        found.missing, found.sparse = self._missing, self._sparse
        for place, names, norms, of_weights, peaks in self._exact:
            values = to_host([*norms, *peaks])
            found.norms |= {(place, n): float(v) for n, v in zip(names, values)}
            found.peaks |= {(place, n): float(v) for n, v in zip(of_weights, values[len(norms) :])}
        self.clear()
        return found

    def _cosines(self, moments: list[Moment]) -> dict[tuple[int, str], float]:
        "Of every gradient with that of the step before: the neighbour, where that was recorded too."
        found = _paired(self.gradients, self.previous, _cosine)
        steps = [m.step for m in moments]
        for key, rows, counts in self.gradients.each():
            names, k = self.gradients.names(key), len(moments)
            pairs = []  # (places, rows there, rows of the step before, counts of both)
            if k > 1:
                pairs.append((range(1, k), rows[1:k], rows[: k - 1], counts[1:k], counts[: k - 1]))
            if key in self._carry and self._carry_step == steps[0] - 1:
                last, its_counts = self._carry[key]
                used = len(its_counts)
                pairs.append((range(1), rows[:1, :used], last[None], counts[:1, :used], its_counts[None]))
            for places, mine, theirs, counts_a, counts_b in pairs:
                values = _cosine(mine, theirs).double().cpu().numpy()
                both = (counts_a > 0) & (counts_a == counts_b)
                for i, r in zip(*np.nonzero(both)):
                    place = places[i]
                    if not place or steps[place - 1] == steps[place] - 1:
                        found[place, names[r]] = float(values[i, r])
        return found

    def _remember(self, moments: list[Moment]) -> None:
        k = len(moments) - 1
        self._carry_step = moments[k].step
        self._carry = {key: (rows[k].clone(), counts[k].copy()) for key, rows, counts in self.gradients.each()}

    @property
    def _all(self) -> tuple[Samples, ...]:
        return self.before, self.after, self.gradients, self.applied, self.previous

    @property
    def bytes_a_step(self) -> int:
        """Memory that one recorded step takes."""
        return sum(s.bytes_a_step for s in self._all)

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


def _paired(a: Samples, b: Samples, function: Callable, at: int | None = None) -> dict[tuple[int, str], float]:
    "A function of the rows that both have, of the same moment, or of moment `at` of b; by (place, name)."
    found: dict[tuple[int, str], float] = {}
    others = {key: (rows, counts) for key, rows, counts in b.each()}
    for key, rows, counts in a.each():
        if key not in others:
            continue
        theirs, their_counts = others[key]
        used = min(rows.shape[1], theirs.shape[1])
        if at is not None:
            theirs, their_counts = theirs[at : at + 1], their_counts[at : at + 1]
        values = function(rows[:, :used], theirs[:, :used]).double().cpu().numpy()
        both = (counts[:, :used] > 0) & (counts[:, :used] == their_counts[:, :used])
        names = a.names(key)
        found |= {(int(k), names[r]): float(values[k, r]) for k, r in zip(*np.nonzero(both))}
    return found


def _relative_change(before: Tensor, after: Tensor) -> Tensor:
    change = torch.linalg.vector_norm(after - before, dim=2)
    return torch.where(change == 0, change, change / torch.linalg.vector_norm(before, dim=2))


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    sizes = torch.linalg.vector_norm(a, dim=2) * torch.linalg.vector_norm(b, dim=2)
    return (a * b).sum(2) / sizes
