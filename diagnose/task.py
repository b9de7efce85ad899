"""Task: what a registered task tells the examination beyond its Learner.

A task lives in one module of a package that is registered under the entry-point group "diagnose.tasks". It builds a
Learner from settings and declares what may be known of it; whatever it leaves undeclared is skipped with a reason.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from diagnose.errors import DiagnoseError

if TYPE_CHECKING:
    import torch
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner


class Settings(BaseModel):
    """Base of a task's settings, nested by dots: `loss.reduction`. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Task:
    """One registered task under given settings.

    Subclasses set `Settings`, `metric` and `chance`, and implement `loaders` and `learner`.
    """

    id: ClassVar[str]
    doc: ClassVar[str]
    Settings: ClassVar[type[Settings]] = Settings
    metric: str = ""  # name of the number that `chance` speaks of
    chance: float | None = None  # score of the best constant prediction under `metric`

    def __init__(self, settings: Settings | None = None):
        self.settings = self.Settings() if settings is None else settings

    def loaders(self, seed: int, device: str | torch.device = "cpu") -> DataLoaders:
        """Training and validation loaders. Equal arguments give equal batches."""
        raise NotImplementedError

    def learner(self, seed: int, device: str | torch.device = "cpu") -> Learner:
        """The Learner exactly as the owner would train it. Equal arguments give bit-equal weights."""
        raise NotImplementedError

    # ---- knowledge; every one may stay undeclared --------------------------------------------------------------

    def best_constant(self) -> float | None:
        """Expected loss of the best constant output, from theory; the examination confirms it on batches."""
        return None

    def titles(self) -> list[str]:
        """What each input shows, for pictures of the batch; empty for "input 1", "input 2", ..."""
        return []

    def easier(self) -> dict[str, Task]:
        """Easier versions of this task for the same model, the easiest first."""
        return {}

    def features(self, model: torch.nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        """What the encoder makes of each image of each row, in the model's current mode: (rows, roles, ...)."""
        raise NotImplementedError

    def twins(self, batch: tuple) -> torch.Tensor | None:
        """Pairs of bit-identical images in a batch, as (k, 3) integers: row, role, role. None if there are none."""
        return None

    def permuted(self, batch: tuple, order: list[int]) -> tuple:
        """The batch with its sources reordered; the targets must follow. `order` is a permutation of range(n)."""
        raise NotImplementedError

    def score(self, outputs: torch.Tensor, *targets: torch.Tensor) -> float:
        """`metric` of raw outputs against targets, in [0, 1] where 1 is perfect."""
        raise NotImplementedError


def settings_from(cls: type[Settings], pairs: dict[str, str]) -> Settings:
    """Settings from `--set name=value` pairs; names may be dotted.

    Raises:
        DiagnoseError: unknown name (the nearest is offered) or a value that does not fit (what fits is named).
    """
    known = dict(_names(cls))
    tree: dict[str, Any] = {}
    for name, value in pairs.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise DiagnoseError(f"--set {name}={value}: no such setting; {hint}")
        *path, leaf = name.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = _chosen(known[name], value)
    try:
        return cls.model_validate(tree)
    except ValidationError as e:
        first = e.errors()[0]
        name = ".".join(str(p) for p in first["loc"])
        given = f"--set {name}={pairs[name]}" if name in pairs else "settings"
        raise DiagnoseError(f"{given}: {first['msg'].removeprefix('Value error, ')}") from e


def flat_settings(settings: Settings) -> dict[str, Any]:
    """Settings as dotted names and plain values."""
    return {name: _dig(settings, name) for name, _ in _names(type(settings))}


def _dig(settings: Settings, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value if isinstance(value, (bool, int, float, str, list, type(None))) else str(value)


def _chosen(kind: Any, value: Any) -> Any:
    """The choice that a text means: pydantic reads "2" as a number, but not as one of the numbers 2 and 3."""
    if get_origin(kind) is not Literal or not isinstance(value, str):
        return value
    return next((choice for choice in get_args(kind) if str(choice) == value), value)


def _names(cls: type[Settings], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names of settings, and the type of each."""
    for name, field in cls.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _names(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", kind
