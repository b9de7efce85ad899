"""A block's rows as alarms read them: which steps were made, at which rates, and what belongs to one parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any

import numpy as np
from torch import Tensor, nn

from diagnose.gauges import Columns, Moment, own_name


def made(moments: Iterable[Moment]) -> list[int]:
    """Steps that the optimizer made: not cancelled by an overflow or a callback, not put off by accumulation."""
    return [m.step for m in moments if not m.outcome]


def rates(tables: Mapping[str, Columns], learn: Any) -> dict[int, list[float]]:
    """Learning rate of every parameter group by step; the optimizer's present ones where none were recorded."""
    steps = tables["steps"]
    groups = sorted((c for c in steps if c.startswith("lr_")), key=lambda c: int(c[3:]))
    now = [float(h.get("lr") or 0.0) for h in learn.opt.hypers] if learn.opt is not None else []
    numbers = np.asarray(steps["step"]).tolist()
    if not groups:
        return dict.fromkeys(numbers, now)
    columns = np.array([steps[c] for c in groups]).reshape(len(groups), -1).T
    none = np.isnan(columns).all(1).tolist()
    return {step: now if no else used for step, no, used in zip(numbers, none, np.nan_to_num(columns).tolist())}


def rows(table: Columns | None, column: str) -> dict[tuple[int, str], float]:
    """A column of a table by step and parameter; empty if the table was not recorded."""
    if table is None or column not in table:
        return {}
    return {(int(s), n): float(v) for s, n, v in zip(table["step"], table["parameter"], table[column])}


def grid(
    table: Columns | None, column: str, steps: np.ndarray, names: Mapping[str, int], fill: float = np.nan
) -> np.ndarray:
    """[steps, names] a column of a table by step, ascending, and by the number of its parameter; `fill` where it has no
    row, or was not recorded. Other parameters, and other steps, are left out."""
    found = np.full((len(steps), len(names)), fill)
    if table is not None and column in table:
        at = np.fromiter(map(names.get, table["parameter"], repeat(-1)), np.intp, len(table["parameter"]))
        number = np.asarray(table["step"])
        place = np.minimum(np.searchsorted(steps, number), len(steps) - 1)
        mine = (at >= 0) & (steps[place] == number)
        found[place[mine], at[mine]] = np.asarray(table[column])[mine]
    return found


def steady(used: Iterable[float]) -> bool:
    """Whether the rates of a window, the oldest first, do not rise: while a rate warms up, little is expected of it."""
    used = list(used)
    return bool(used) and used[-1] <= used[0]


def parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that exist by now, under the names that the gauges give them."""
    found = {own_name(model, n): p for n, p in model.named_parameters()}
    return {n: p for n, p in found.items() if not isinstance(p, nn.parameter.UninitializedParameter) and p.numel()}


def groups(learn: Any) -> dict[int, int]:
    """Parameter group of every parameter that the optimizer holds, by the parameter's `id`."""
    lists = getattr(learn.opt, "param_lists", ()) if learn.opt is not None else ()
    return {id(p): i for i, group in enumerate(lists) for p in group if isinstance(p, Tensor)}


def listed(names: Iterable[str], most: int = 4) -> str:
    """Names in words, the first few of them."""
    names = list(names)
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
