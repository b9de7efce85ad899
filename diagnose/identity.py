"""What a verdict depends on, as named parts that can be compared: code, settings, model, data, versions, device.

The code is that of the project: the modules that define the parts of the Learner, and every module of the same project
that they import (read from the source, nothing is imported for it). Installed packages count by their version.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.learner import Learner

from diagnose.changes import rate_text
from diagnose.data import digest, path_of, spread_over
from diagnose.isolate import loaders, random_streams, seed_everything
from diagnose.stats import tensors
from diagnose.task import Task, flat_settings

SAMPLE = 16  # items of a split whose content is hashed
NOT_SETTINGS = ("recorder", "progress", "train_eval", "cast_to_tensor", "watch", "preflight_gate", "gather_preds")

Identity = dict[str, str]
"""Parts by name: "code train.py", "setting lr", "model structure", "data train: count", "version torch", "device"."""


def identity(learn: Learner, task: Task | None = None, modules: Iterable[ModuleType] = ()) -> Identity:
    """What the verdict on a Learner depends on.

    Args:
        task: the registered task it came from, whose settings count.
        modules: of the builder, beside those that define the parts of the Learner.
    """
    with random_streams():
        seed_everything(0)
        return {
            **code_of(learn, task, modules),
            **settings_of(learn, task),
            **data_of(learn),
            **versions(),
            "device": _device(learn).type,
        }


def differences(then: Identity, now: Identity) -> list[str]:
    """What is another now than it was then, a line each: "train.py changed", "setting lr: 0.1, now 0.01"."""
    found = []
    for name in dict.fromkeys([*then, *now]):
        before, after = then.get(name), now.get(name)
        if before == after:
            continue
        kind, _, rest = name.partition(" ")
        if kind == "code":
            what = "was not examined" if before is None else "is gone" if after is None else "changed"
            found.append(f"{rest} {what}")
        elif kind == "setting" or name.endswith("count") or kind in ("version", "device"):
            found.append(f"{name}: {before or 'none'}, now {after or 'none'}")
        else:
            found.append(f"{name} changed")
    return found


def versions() -> Identity:
    """Of this tool (with a hash of its source), torch and fastai."""
    found = {f"version {name}": number for name, number in packages().items()}
    return {**found, "version diagnose": f"{found['version diagnose']} ({_own_source()})"}


def packages() -> dict[str, str]:
    """Versions of the packages that a verdict depends on, by name."""
    return {"diagnose": version("learner-diagnose"), "torch": version("torch"), "fastai": version("fastai")}


@functools.cache
def _own_source() -> str:
    folder = Path(__file__).parent
    return _hash(*(p.read_bytes() for p in sorted(folder.rglob("*.py"))))


# ---- code ------------------------------------------------------------------------------------------------------------


def code_of(learn: Learner, task: Task | None = None, modules: Iterable[ModuleType] = ()) -> Identity:
    """Hash of every source file of the project that the Learner is made of, by path below the project's root."""
    found: Identity = {}
    waiting = [*modules, *([inspect.getmodule(type(task))] if task else [])]
    for thing in _parts(learn):
        module = inspect.getmodule(thing)
        if module is None or _file(module) is None:
            if not str(getattr(thing, "__module__", "")).startswith(("torch", "fastai", "builtins")):
                found |= _loose_source(thing)
        else:
            waiting.append(module)
    seen: set[Path] = set()
    files = [(f, name) for m in waiting if (f := _file(m)) and (name := _name(m)) and _of_project(f, name, task)]
    while files:
        file, name = files.pop()
        if file in seen:
            continue
        seen.add(file)
        root = file.parents[len(name.split(".")) - (file.name != "__init__.py")]
        text = file.read_bytes()
        found[f"code {file.relative_to(root).as_posix()}"] = _hash(text)
        own = name.partition(".")[0] if _installed(file) else None
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for imported in _imports(text, package):
            if own is None or imported.partition(".")[0] == own:
                files += _resolved(imported, root)
    return dict(sorted(found.items()))


def _parts(learn: Learner) -> Iterator[Any]:
    "Classes and functions that a Learner is made of."
    for module in learn.model.modules():
        yield type(module)
    things = [learn.loss_func, learn.opt_func, learn.splitter, *learn.metrics, *learn.cbs]
    for loader in loaders(learn):
        data = getattr(loader, "dataset", None)
        things += [loader, data, getattr(data, "dataset", None)]
        for holder in (loader, data):
            for name in ("after_item", "before_batch", "after_batch", "tfms", "tls"):
                held = getattr(holder, name, None)
                things += list(getattr(held, "fs", None) or (held if isinstance(held, (list, tuple)) else [held]))
    for thing in things:
        while isinstance(thing, functools.partial):
            thing = thing.func
        if thing is not None:
            yield thing if inspect.isfunction(thing) or inspect.isclass(thing) else type(thing)
            for function in vars(thing).values() if hasattr(thing, "__dict__") else ():
                if inspect.isfunction(function):
                    yield function


def _loose_source(thing: Any) -> Identity:
    "Of a class or function of an interactive session, as far as its source is known."
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    with suppress(OSError, TypeError):
        return {f"code {name} (interactive)": _hash(inspect.getsource(thing).encode())}
    return {f"code {name} (interactive)": "source unknown"}


def _file(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file and file.endswith(".py") and Path(file).is_file() else None


def _name(module: ModuleType) -> str:
    "Dotted name; a script is known by the name of its file, so that it is the same when it is imported."
    if module.__name__ != "__main__":
        return module.__name__
    spec = getattr(module, "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else Path(module.__file__).stem


@functools.cache
def _installations() -> tuple[Path, ...]:
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({Path(sysconfig.get_path(kind)).resolve() for kind in kinds})


def _installed(file: Path) -> bool:
    return "site-packages" in file.parts or any(file.is_relative_to(place) for place in _installations())


def _of_project(file: Path, name: str, task: Task | None) -> bool:
    "Whether a file is the user's own: not this tool, and not installed unless the task itself is."
    top = name.partition(".")[0]
    if top == "diagnose":
        return False
    return not _installed(file) or (task is not None and top == type(task).__module__.partition(".")[0])


def _imports(text: bytes, package: str) -> Iterator[str]:
    "Dotted names that a source may import, wherever in it."
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # of another Python: its own text counts, what it imports cannot be told
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _resolved(name: str, root: Path) -> list[tuple[Path, str]]:
    "The source files below a root that importing a name runs, packages on the way included."
    parts, found = name.split("."), []
    if parts[0] in ("", "diagnose", *sys.stdlib_module_names):
        return []
    for k in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:k])
        for file in (base / "__init__.py", base.with_name(base.name + ".py")):
            if file.is_file():
                found.append((file.resolve(), ".".join(parts[:k])))
    return [(f, n) for f, n in found if not (_installed(f) and not _installed(root / "x"))]


# ---- settings and model ----------------------------------------------------------------------------------------------


def settings_of(learn: Learner, task: Task | None = None) -> Identity:
    """Of the task, if it is one, of the Learner and of its model's structure; weights do not count."""
    optimizer, wrapped = learn.opt_func, {}
    while isinstance(optimizer, functools.partial):
        wrapped = {**optimizer.keywords, **wrapped}
        optimizer = optimizer.func
    names = {
        "optimizer": getattr(optimizer, "__qualname__", str(optimizer)),
        **{f"optimizer {k}": repr(v) for k, v in wrapped.items()},
        "lr": rate_text(learn.lr),
        "wd": repr(learn.wd),
        "moms": repr(learn.moms),
        "loss": _stable(learn.loss_func),
        "batch size": str(getattr(loaders(learn)[0], "bs", None)),
        "callbacks": ", ".join(sorted(cb.name for cb in learn.cbs if _counts(cb))),
        **({k: str(v) for k, v in flat_settings(task.settings).items()} if task else {}),
    }
    shapes = [f"{n} {tuple(p.shape)} {p.dtype} {p.requires_grad}" for n, p in learn.model.named_parameters()]
    structure = _hash(_stable(learn.model).encode(), *(s.encode() for s in shapes))
    return {**{f"setting {k}": v for k, v in names.items()}, "model structure": structure}


def _counts(cb: Callback) -> bool:
    return cb.name not in NOT_SETTINGS


def _stable(thing: Any) -> str:
    "Its text, unless that holds an address."
    try:
        text = thing.__qualname__ if hasattr(thing, "__qualname__") else repr(thing)
    except Exception:  # a user's own __repr__
        return type(thing).__qualname__
    return text if " at 0x" not in text else type(thing).__qualname__


def _device(learn: Learner) -> torch.device:
    device = getattr(learn.dls, "device", None)
    return torch.device(device) if device is not None else next(learn.model.parameters()).device


# ---- data ------------------------------------------------------------------------------------------------------------


def data_of(learn: Learner) -> Identity:
    """Of each split: how many items, names and sizes of their files, and the content of a sample of 16, spread over it.

    Items that differ from reading to reading, and data sets that have no index, count by what else is known of them.
    """
    found: Identity = {}
    for split, loader in zip(("train", "valid"), loaders(learn)):
        dataset = getattr(loader, "dataset", None)
        try:
            count = len(dataset)
        except TypeError:
            found[f"data {split}: count"] = "unknown"
            continue
        found[f"data {split}: count"] = str(count)
        paths = [path_of(dataset, i) for i in range(count)] if count and path_of(dataset, 0) else []
        known = [p for p in paths if p is not None]
        if known:
            found[f"data {split}: files"] = _hash(*(f"{p.parent.name}/{p.name} {_size(p)}".encode() for p in known))
        sample = list(spread_over(count, SAMPLE))
        if known:
            contents = [_read_bytes(paths[i]) for i in sample if paths[i] is not None]
        else:
            contents = [_content(dataset, i) for i in sample]
            again = [_content(dataset, i) for i in sample]
            contents = [c if c == a else b"differs" for c, a in zip(contents, again)]
        found[f"data {split}: sample"] = _hash(*contents)
    return found


def _content(dataset: Any, index: int) -> bytes:
    try:
        item = dataset[index]
    except Exception as e:  # a data set of any kind: that it cannot be indexed is all there is to know
        return f"unread: {type(e).__name__}".encode()
    return b"".join(_bytes(part) for part in _flat(item))


def _flat(item: Any) -> Iterator[Any]:
    if isinstance(item, dict):
        item = list(item.values())
    if isinstance(item, (list, tuple)):
        for part in item:
            yield from _flat(part)
    else:
        yield item


def _bytes(part: Any) -> bytes:
    if isinstance(part, torch.Tensor):
        return b"".join(digest(t) for t in tensors(part))
    if isinstance(part, (str, bytes, int, float, bool, type(None), np.generic)):
        return repr(part).encode()
    if isinstance(part, PathLike):
        return Path(part).name.encode()
    with suppress(Exception):  # pictures and whatever else numpy can read
        array = np.ascontiguousarray(part)
        if array.dtype != object:
            return f"{array.shape} {array.dtype}".encode() + array.tobytes()
    return type(part).__qualname__.encode()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        return f"unread: {e.strerror}".encode()


def _hash(*parts: bytes) -> str:
    h = hashlib.sha256()
    for part in parts:
        h.update(len(part).to_bytes(8, "little") + part)
    return h.hexdigest()[:24]
