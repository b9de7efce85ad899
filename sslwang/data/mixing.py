"""Which images of a batch make up each of its rows, how they are shown, and mixtures of them: what unmix draws, and its
arithmetic on tensors of any device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

TRIED = 8  # candidates drawn for each source that is wanted, before all others are gone through


@dataclass(frozen=True)
class Rows:
    """What was drawn for B rows.

    Args:
        index: (B, n) int64, which images are a row's sources; its own is the first.
        weights: (B, n) float32, 0 but for two random slots, p and 1 - p.
        slots: (B,) int64, the slot that a duplicate would involve.
    """

    index: np.ndarray
    weights: np.ndarray
    slots: np.ndarray


def draw_weights(
    rng: np.random.Generator, n: int, alpha: float, beta: float, unused: bool = False
) -> tuple[np.ndarray, np.int64]:
    """Weights (n,) of one row, p and 1 - p in two random slots, p ~ Beta(alpha, beta), and the first of these slots, or
    if `unused` one of weight 0."""
    first, second, *rest = rng.permutation(n)
    weights = np.zeros(n, dtype=np.float32)
    weights[first] = rng.beta(alpha, beta)
    weights[second] = 1 - weights[first]
    return weights, rest[0] if unused else first


def draw_rows(
    rng: np.random.Generator,
    count: int,
    n: int,
    alpha: float,
    beta: float,
    unused: bool = False,
    kinds: Sequence[int] | None = None,
) -> Rows:
    """n sources for each of `count` images: itself and others, of other kinds as far as there are enough.

    Args:
        unused: `slots` are of weight 0.
        kinds: one an image; by default all differ.

    Fewer than n images are repeated; see `shared_weights`.
    """
    kinds = range(count) if kinds is None else kinds
    tried = rng.integers(count, size=(count, TRIED * (n - 1))).tolist()
    index = []
    for row, candidates in enumerate(tried):
        chosen = _apart([row, *candidates], kinds, n)
        if len(chosen) < n:  # rare, but for few images
            every = [row, *(k for k in rng.permutation(count).tolist() if k != row)]
            chosen = _apart(every, kinds, n)
            chosen = (chosen + [k for k in every if k not in chosen])[:n]
        index.append((chosen * n)[:n])
    order, rows = rng.random((count, n)).argsort(1), np.arange(count)
    weights = np.zeros((count, n), dtype=np.float32)
    weights[rows, order[:, 0]] = rng.beta(alpha, beta, count)
    weights[rows, order[:, 1]] = 1 - weights[rows, order[:, 0]]
    return Rows(np.array(index, dtype=np.int64), weights, order[:, 2 if unused else 0].copy())


def _apart(candidates: Sequence[int], kinds: Sequence[int], n: int) -> list[int]:
    "The first n candidates of kinds that differ."
    chosen, seen = [], set()
    for k in candidates:
        if kinds[k] not in seen:
            chosen.append(k)
            seen.add(kinds[k])
            if len(chosen) == n:
                break
    return chosen


def draw_moves(rng: np.random.Generator, count: int, reach: int) -> np.ndarray:
    """(count, 4) int64: top and left corner of a window, 0 to `reach`, and whether it is turned upside down, and left
    to right."""
    return np.concatenate([rng.integers(0, reach + 1, (count, 2)), rng.integers(0, 2, (count, 2))], axis=1)


def mixtures(images: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted sums (B, 3, S, S) float32 of images (M, 3, S, S), floats or uint8.

    Args:
        index: (B, n), which of them.
        weights: (B, n) that sum to 1, at most two of a row not 0.
    """
    shares, slots = weights.topk(2)
    larger, other = (images.index_select(0, which).float() for which in index.gather(1, slots).unbind(1))
    return other.lerp_(larger, shares[:, :1, None, None])


def shared_weights(index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weights (B, n), where slots that show the same image have equal parts of what it was mixed with."""
    same = (index[:, :, None] == index[:, None]).to(weights.dtype)
    return (same @ weights[:, :, None]).squeeze(2) / same.sum(2)


def windows(images: torch.Tensor, moves: torch.Tensor, size: int | tuple[int, int]) -> torch.Tensor:
    """A window (M, C, *size) of each image (M, C, H, W), moved and turned as `draw_moves` (M, 4) says."""
    count, channels, height, width = images.shape
    sizes = (size, size) if isinstance(size, int) else size
    if images.device.type == "cpu" and images.dtype in (torch.uint8, torch.float32) and not images.requires_grad:
        return _windows_one_by_one(images, moves, sizes)
    steps = torch.arange(max(sizes), device=images.device)
    last = sizes[0] - 1 if sizes[0] == sizes[1] else moves.new_tensor(sizes)[:, None] - 1
    shown = moves[:, :2, None] + torch.where(moves[:, 2:, None] > 0, last - steps, steps)  # (M, 2, longer side)
    rows, columns = (shown[:, k, :side] for k, side in enumerate(sizes))
    planes = torch.arange(0, count * channels * height, height, device=images.device).reshape(count, channels, 1)
    lines = (planes + rows[:, None]).flatten()
    cut = images.reshape(-1, width).index_select(0, lines).reshape(count, channels, sizes[0], width)
    return cut.gather(3, columns[:, None, None].expand(count, channels, *sizes))


def _windows_one_by_one(images: torch.Tensor, moves: torch.Tensor, sizes: tuple[int, int]) -> torch.Tensor:
    "`windows` on the CPU, where views that are copied take a third of the time of gathering pixels."
    made = torch.empty((*images.shape[:2], *sizes), dtype=images.dtype)
    height, width = sizes
    shown, whole = made.numpy(), images.numpy()
    for k, (top, left, down, across) in enumerate(moves.tolist()):
        window = whole[k, :, top : top + height, left : left + width]
        shown[k] = window[:, :: -1 if down else 1, :: -1 if across else 1]
    return made
