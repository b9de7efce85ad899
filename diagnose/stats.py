"""Pure tensor statistics: the one kernel that gauges and checks share. Nothing here changes its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


def tensors(tree: Any) -> list[Tensor]:
    """Every tensor of a nested structure of tuples, lists and dicts, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    return (
        [t for part in tree for t in tensors(part)] if isinstance(tree, Iterable) and not isinstance(tree, str) else []
    )


def replaced(tree: Any, new: Iterable[Tensor]) -> Any:
    """The same structure with its tensors replaced, in the order of `tensors`."""
    return _replace(tree, iter(new))


def _replace(tree: Any, new) -> Any:
    if isinstance(tree, Tensor):
        return next(new)
    if isinstance(tree, dict):
        return {k: _replace(v, new) for k, v in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_replace(v, new) for v in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(_replace(v, new) for v in tree)
    return tree


def total_norm(parts: Sequence[Tensor]) -> float:
    """L2 norm of all elements of all tensors together; 0 for none. Sparse gradients are read by their values."""
    dense = [_values(t).float() for t in parts if t.numel()]
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t) for t in dense]))) if dense else 0.0


def _values(t: Tensor) -> Tensor:
    return t.coalesce().values() if t.is_sparse else t


def relative_change(before: Tensor, after: Tensor) -> float:
    """‖after − before‖ / ‖before‖, the latter at least 1e-12, so that any move of an all-zero tensor is seen."""
    before, after = _wide(before), _wide(after)
    return float(torch.linalg.vector_norm(after - before) / torch.linalg.vector_norm(before).clamp_min(1e-12))


def _wide(t: Tensor) -> Tensor:
    return t.detach() if t.dtype == torch.float64 else t.detach().float()  # a double must not lose its small moves


def spread(outputs: Any) -> float:
    """Standard deviation over the batch (dimension 0), averaged over every output unit: 0 if all rows are alike.

    Source: the notes' own gauge of a net that answers with a constant (pretext-task debug item D13).
    """
    parts = [t.detach().float().flatten(1) if t.ndim > 1 else t.detach().float()[:, None] for t in floats(outputs)]
    parts = [p for p in parts if p.shape[0] > 1 and p.numel()]
    if not parts:
        return 0.0
    return float(torch.cat([p.std(0, unbiased=False) for p in parts]).mean())


def floats(tree: Any) -> list[Tensor]:
    """Every real floating-point tensor with a batch dimension."""
    return [t for t in tensors(tree) if t.is_floating_point() and t.ndim > 0]


def largest_difference(a: Any, b: Any) -> float:
    """Largest absolute difference of two structures of tensors; infinity where shapes differ, NaN if any is."""
    pairs = list(zip(tensors(a), tensors(b), strict=True))
    if any(x.shape != y.shape for x, y in pairs):
        return float("inf")
    found = [(x.detach().double() - y.detach().double()).abs().max() for x, y in pairs if x.numel()]
    return float(torch.stack(found).max()) if found else 0.0


def same_bits(a: Tensor, b: Tensor) -> bool:
    """True if shape, dtype and every bit agree (NaN equals the same NaN)."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    a, b = a.detach(), b.detach()
    if torch.equal(a, b):
        return True
    return (
        a.is_floating_point()
        and bool(torch.equal(torch.isnan(a), torch.isnan(b)))
        and bool(torch.equal(torch.nan_to_num(a, nan=0.0), torch.nan_to_num(b, nan=0.0)))
    )


def rows_changed(before: Tensor, after: Tensor, tolerance: float = 1e-5) -> list[int]:
    """Indices along dimension 0 whose values differ by more than `tolerance` of the largest magnitude in `before`."""
    if not before.numel():
        return []
    size = before.detach().abs().float().max().clamp_min(1e-30)
    gap = (after.detach().float() - before.detach().float()).abs().reshape(before.shape[0], -1).amax(1)
    return (~(gap <= tolerance * size)).nonzero().flatten().tolist()
