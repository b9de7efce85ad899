"""What several probes share: altering rows, watching layers, a few batches of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.mixup import MixHandler
from fastai.learner import Learner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from diagnose.errors import NotApplicable, SubjectError
from diagnose.isolate import loaders, seed_everything, twin
from diagnose.lab import Lab
from diagnose.stats import alike, floats, plain, replaced, tensors
from diagnose.trial import Trial, forward, predicted, prepared

# the recurrent drop-outs of fastai.text, by name: importing them takes seconds
OF_FASTAI = {"RNNDropout": "p", "WeightDropout": "weight_p", "EmbeddingDropout": "embed_p"}


# ---- outputs and rows -----------------------------------------------------------------------------------------------


def rows_of(xb: tuple, chosen: list[int], rows: int) -> tuple:
    """The inputs cut to some rows.

    Raises:
        NotApplicable: an input has no row for each row of the batch.
    """
    parts = tensors(xb)
    if not parts or any(not t.ndim or t.shape[0] != rows for t in parts):
        raise NotApplicable("the inputs do not all have one row for each row of the batch")
    return replaced(xb, [t[torch.tensor(chosen, device=t.device)] for t in parts])


def size_of(output: Any) -> float:
    """Largest magnitude of the floating-point part of an output; 0 if there is none or it is all zero."""
    return max((float(t.detach().float().abs().max()) for t in floats(output) if t.numel()), default=0.0)


def largest_move(before: Any, after: Any) -> float:
    """Largest change between two outputs as a share of the largest magnitude; infinity where shapes differ, NaN if any
    value is.

    Raises:
        NotApplicable: there is no floating-point output.
    """
    old, new = floats(before), floats(after)
    if not old or not sum(t.numel() for t in old):
        raise NotApplicable("the model's output holds no floating-point tensor")
    if [t.shape for t in old] != [t.shape for t in new]:
        return math.inf
    gaps = [(a.detach().float() - b.detach().float()).abs().max() for a, b in zip(old, new) if a.numel()]
    return float(torch.stack(gaps).max()) / max(size_of(before), 1e-30)


def jittered(lab: Lab, share: float = 0.01) -> nn.Module:
    """A copy of the model with its weights moved by a hundredth, so that a zero-initialised layer hides nothing."""
    model = lab.twin().model
    seed_everything(lab.seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.is_floating_point():
                p += torch.randn_like(p) * max(share * float(p.float().pow(2).mean().sqrt()), 1e-3)
    return model


# ---- layers ---------------------------------------------------------------------------------------------------------


def leaves(model: nn.Module) -> dict[nn.Module, str]:
    """Every module without children, with its name."""
    return {m: n or type(m).__name__ for n, m in model.named_modules() if not any(True for _ in m.children())}


def batch_norms(model: nn.Module) -> dict[nn.Module, str]:
    """Every batch norm that keeps running statistics, with its name."""
    return {m: n for n, m in model.named_modules() if isinstance(m, _BatchNorm) and m.track_running_stats}


@contextmanager
def hooked(
    modules: Iterable[nn.Module],
    note: Callable[[nn.Module, tuple, Any], Any] | None = None,
    before: Callable[[nn.Module, tuple], Any] | None = None,
) -> Iterator[None]:
    """`before(module, inputs)` and `note(module, inputs, output)` at every call of the given modules of a copy; what
    they return, if anything, takes the place of the inputs and of the output."""
    hooks = [m.register_forward_pre_hook(before) for m in modules] if before else []
    hooks += [m.register_forward_hook(note) for m in modules] if note else []
    try:
        yield
    finally:
        for h in hooks:
            h.remove()


def dropout_rates(model: nn.Module) -> list[tuple[nn.Module, str, float]]:
    """Modules, the attribute that holds their drop-out rate, and the rate, where it is above 0."""
    found = []
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            name = "p"
        elif isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            name = "dropout"
        else:
            name = OF_FASTAI.get(type(module).__name__, "")
        rate = getattr(module, name, 0.0) if name else 0.0
        if isinstance(rate, (int, float)) and rate > 0:
            found.append((module, name, float(rate)))
    return found


def dropout_off(model: nn.Module) -> None:
    """No unit and no weight of a copy is dropped any more."""
    for module, name, _ in dropout_rates(model):
        # with 0 torch gives the parameter itself in place of a tensor, which fastai's WeightDropout cannot hold
        setattr(module, name, 1e-12 if name == "weight_p" else 0.0)


def pieces_of(lab: Lab, count: int) -> list[Any]:
    """Up to `count` batches of as many rows as the fixed one, from the first batches of the training loader.

    Raises:
        NotApplicable: their tensors do not agree on the number of rows.
    """
    each = max(len(tensors(lab.whole_batch)[0]) // lab.rows, 1)
    read = lab.read(loaders(lab.learn)[0], -(-count // each))
    return [piece for batch in read for piece in cut(batch, lab.rows)][:count]


def no_labels(targets: tuple) -> bool:
    """True if targets are the same in every row, or one integer that counts the rows: permuting says nothing then."""
    parts = [t for t in tensors(targets) if t.ndim]
    alike = all(bool((t == t[:1]).all()) for t in parts)
    index = len(parts) == 1 and not parts[0].is_floating_point() and parts[0].numel() == len(parts[0].unique())
    return alike or (index and parts[0].ndim == 1)


def reads_target(lab: Lab) -> bool:
    """Whether the loss of the fixed batch changes when its targets are moved on by one row.

    Raises:
        NotApplicable: the loss raised on moved targets.
    """
    if not len(lab.yb):
        return False
    copy = lab.twin()
    copy.training = True
    moved = replaced(lab.yb, [t.roll(1, 0) if t.ndim else t for t in tensors(lab.yb)])
    generator = torch.Generator().manual_seed(lab.seed)
    other = [
        torch.rand(t.shape, generator=generator).to(t) if t.is_floating_point() else t for t in tensors(lab.output)
    ]
    try:
        with torch.no_grad():  # outputs that are alike in all rows, as those of a last layer of zeros, hide the rows
            return any(
                bool((copy.loss_func(out, *moved) != copy.loss_func(out, *lab.yb)).any())
                for out in (lab.output, replaced(lab.output, other))
            )
    except Exception as e:
        raise NotApplicable(f"the loss raised {type(e).__name__} on permuted targets: {e}") from e


def chance_of_targets(student: Learner, pieces: list[Any], seed: int, draws: int = 199) -> float:
    """How likely a loss as low as that of a trained copy is by chance, on batches it never saw: the share of random
    orders of the targets, within each batch, under which it is as low. In [1 / (draws + 1), 1]; NaN if it is no number.

    Exact for any loss and any kind of target, since under targets without a relation to the inputs every order is as
    likely as the true one (Phipson & Smyth 2010, "Permutation p-values should never be zero").

    Raises:
        NotApplicable: the loss raised on targets in another order.
    """
    generator = torch.Generator().manual_seed(seed)
    losses = torch.zeros(draws + 1, dtype=torch.float64)
    mixing = [cb for cb in student.cbs if isinstance(cb, MixHandler)]
    with student.removed_cbs(mixing), torch.no_grad():
        for piece in pieces:
            xb, yb = prepared(student, piece)
            student.training = False
            output = predicted(student, forward(student.model, xb), xb, yb)
            rows = len(tensors(yb)[0])
            for i in range(draws + 1):
                order = torch.randperm(rows, generator=generator) if i else torch.arange(rows)
                targets = replaced(yb, [t[order.to(t.device)] if t.ndim else t for t in tensors(yb)])
                try:
                    losses[i] += float(student.loss_func(output, *targets).float().mean())
                except Exception as e:
                    raise NotApplicable(f"the loss raised {type(e).__name__} on targets in another order: {e}") from e
    if not bool(torch.isfinite(losses).all()):
        return math.nan
    return (1 + int((losses[1:] <= losses[0]).sum())) / (draws + 1)


def seen_by_model(lab: Lab, without: list[str]) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and targets of the fixed batch as model and loss get them, without the callbacks of these class names; the
    random streams begin at the seed.

    Raises:
        NotApplicable: the subject raised without them.
    """
    student = twin(lab.learn, [lab.batch])
    student.remove_cbs([cb for cb in student.cbs if type(cb).__name__ in without])
    seed_everything(lab.seed)
    try:
        xb, yb = prepared(student, lab.batch)
    except Exception as e:
        raise NotApplicable(f"without {', '.join(without)} the subject raised {type(e).__name__}: {e}") from e
    return [plain(t) for t in tensors(xb)], [plain(t) for t in tensors(yb)]


def changers_of_targets(lab: Lab) -> list[str]:
    """Class names of the callbacks without which the loss is given other targets of the fixed batch."""
    whole, found = seen_by_model(lab, [])[1], []
    if not alike(seen_by_model(lab, [])[1], whole):
        return []  # they are drawn in a way that no seed repeats
    for name in dict.fromkeys(type(cb).__name__ for cb in lab.learn.cbs if hasattr(cb, "before_batch")):
        with suppress(NotApplicable):  # others may need it
            if not alike(seen_by_model(lab, [name])[1], whole):
                found.append(name)
    return found


def trial_on(lab: Lab, batches: list[Any], **kwargs: Any) -> Trial:
    """A trial on other batches than the fixed one.

    Raises:
        NotApplicable: the subject raised on them, as one that is made for one batch size does.
    """
    try:
        return lab.trial(batches=batches, **kwargs)
    except SubjectError as e:
        raise NotApplicable(f"it raised on other batches than the loader's: {e}") from e


# ---- a few batches of training --------------------------------------------------------------------------------------


class _TrainingOnly(Callback):
    order = 1001

    def before_validate(self):
        raise CancelFitException


def train_few(lab: Lab, count: int, cbs: list[Callback], change: Callable[[Learner], None] | None = None) -> Learner:
    """A copy trained on the fixed batch `count` times over, as its owner would, with recording callbacks added.

    Raises:
        SubjectError: the subject's own code raised. NotApplicable: it raised under the change.
    """
    student = twin(lab.learn, [lab.batch] * count)
    if change:
        change(student)
    seed_everything(lab.seed)
    try:
        student.fit(1, cbs=[*cbs, _TrainingOnly()])
    except Exception as e:
        if change:
            raise NotApplicable(f"under the change the subject raised {type(e).__name__}: {e}") from e
        raise SubjectError("training on one batch", e) from e
    return student


def share_of(found: Tensor) -> float:
    """Share of true elements."""
    return float(found.float().mean()) if found.numel() else math.nan


def joined(batches: list[Any]) -> Any:
    """Batches put together row by row.

    Raises:
        NotApplicable: their tensors do not fit together, as padded texts of different lengths do not.
    """
    if not batches:
        raise NotApplicable("the loader gives no further batch")
    try:
        return replaced(batches[0], [torch.cat(parts) for parts in zip(*map(tensors, batches), strict=True)])
    except (RuntimeError, ValueError) as e:
        raise NotApplicable(f"the batches cannot be put together: {e}") from e


def cut(batch: Any, rows: int) -> list[Any]:
    """A batch cut into pieces of `rows` rows, the remainder dropped.

    Raises:
        NotApplicable: its tensors do not agree on the number of rows.
    """
    parts = tensors(batch)
    sizes = {t.shape[0] if t.ndim else 0 for t in parts}
    if len(sizes) != 1 or not (total := sizes.pop()):
        raise NotApplicable("the tensors of a batch do not agree on the number of rows")
    return [replaced(batch, [t[i : i + rows] for t in parts]) for i in range(0, total - rows + 1, rows)]
