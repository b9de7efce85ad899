"""Solvers that put boxes together without seeing what is on them: probes of the tasks that cut images up."""

from __future__ import annotations

import itertools

import torch

PLACES = 4  # of a 2 x 2 grid: upper left, upper right, lower left, lower right


def beside(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How badly box j fits to the right of and below box i, from boxes (B, N, 3, h, h): two tensors (B, N, N).

    The mean absolute difference of the pixels along the shared edge.
    """
    right = (boxes[:, :, None, :, :, -1] - boxes[:, None, :, :, :, 0]).abs().mean((-2, -1))
    below = (boxes[:, :, None, :, -1, :] - boxes[:, None, :, :, 0, :]).abs().mean((-2, -1))
    return right, below


def _halves(count: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    whole = range(count)
    return [(a, tuple(i for i in whole if i not in a)) for a in itertools.combinations(whole, count // 2) if 0 in a]


def two_by_edges(boxes: torch.Tensor) -> torch.Tensor:
    """Eight boxes (B, 8, 3, h, h) of two images of 2 x 2: image * 4 + place of each, (B, 8), by how edges fit."""
    right, below = beside(boxes)
    least: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = {}
    for chosen in itertools.combinations(range(2 * PLACES), PLACES):
        orders = torch.tensor(list(itertools.permutations(chosen)), device=boxes.device)
        a, b, c, d = orders.unbind(1)
        cost, best = (right[:, a, b] + right[:, c, d] + below[:, a, c] + below[:, b, d]).min(1)
        least[chosen] = (cost, orders[best])
    halves = _halves(2 * PLACES)
    best = torch.stack([least[a][0] + least[b][0] for a, b in halves], 1).argmin(1)
    rows = torch.arange(len(boxes), device=boxes.device)
    both = torch.stack([torch.cat([least[a][1], least[b][1]], 1) for a, b in halves], 1)[rows, best]
    return both.argsort(1)


def two_by_colour(boxes: torch.Tensor) -> torch.Tensor:
    """Which of two images each of N boxes (B, N, 3, h, w) is from, (B, N) of 0 and 1, by their mean colours.

    The halves in which the mean colours lie closest to their centre.
    """
    colour = boxes.mean((-2, -1))
    halves = _halves(boxes.shape[1])
    spread = [sum((colour[:, h] - colour[:, h].mean(1, keepdim=True)).square().sum((1, 2)) for h in s) for s in halves]
    answers = torch.ones(len(halves), boxes.shape[1], dtype=torch.int64, device=boxes.device)
    for k, (first, _) in enumerate(halves):
        answers[k, list(first)] = 0
    return answers[torch.stack(spread, 1).argmin(1)]


def fewer_by_colour(boxes: torch.Tensor) -> torch.Tensor:
    """Which of 2 m - 1 boxes (B, 2 m - 1, 3, h, w) are the m - 1 of one image, by their mean colours: (B, 2 m - 1)."""
    colour = boxes.mean((-2, -1))
    count = boxes.shape[1]
    ways = [[i in few for i in range(count)] for few in itertools.combinations(range(count), count // 2)]
    few = torch.tensor(ways, device=boxes.device)
    parts = torch.stack([few, ~few], 1).float()  # (ways, 2, boxes)
    centres = torch.einsum("wpn,bnc->bwpc", parts / parts.sum(2, keepdim=True), colour)
    distance = (colour[:, None, None] - centres[:, :, :, None]).square().sum(-1)  # (B, ways, 2, boxes)
    return few[(distance * parts).sum((2, 3)).argmin(1)]


def turned_by_edges(boxes: torch.Tensor) -> torch.Tensor:
    """Quarters (B, 4) by which the 2 x 2 boxes (B, 4, 3, h, h) of an image were turned, by how edges fit."""
    back = torch.stack([boxes.rot90(-k, (-2, -1)) for k in range(4)], 2)  # (B, 4 boxes, 4 turns, 3, h, h)

    def fit(i: int, j: int, across: bool) -> torch.Tensor:
        one, other = (back[:, i, :, None], back[:, j, None, :])
        difference = one[..., :, -1] - other[..., :, 0] if across else one[..., -1, :] - other[..., 0, :]
        return difference.abs().mean((-2, -1))

    upper, lower, left, right = fit(0, 1, True), fit(2, 3, True), fit(0, 2, False), fit(1, 3, False)
    cost = upper[:, :, :, None, None] + lower[:, None, None] + left[:, :, None, :, None] + right[:, None, :, None, :]
    best = cost.flatten(1).argmin(1)
    return torch.stack([best // 64, best // 16 % 4, best // 4 % 4, best % 4], 1)
