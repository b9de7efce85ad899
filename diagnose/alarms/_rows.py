"""A block's rows as alarms read them: which steps were made, at which rates, and what belongs to one parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    columns = np.array([steps[c] for c in groups]).reshape(len(groups), -1).T if groups else None
    return {
        int(step): now if columns is None or np.isnan(columns[i]).all() else np.nan_to_num(columns[i]).tolist()
        for i, step in enumerate(steps["step"])
    }


def rows(table: Columns | None, column: str) -> dict[tuple[int, str], float]:
    """A column of a table by step and parameter; empty if the table was not recorded."""
    if table is None or column not in table:
        return {}
    return {(int(s), n): float(v) for s, n, v in zip(table["step"], table["parameter"], table[column])}


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
