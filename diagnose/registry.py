"""Finds extensions: every module of a package is one, nobody keeps a list.

Listing reads docstrings without importing (no torch on that path); loading imports the module and returns the one
class that it defines.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TASKS = "diagnose.tasks"


@dataclass(frozen=True)
class Entry:
    """One extension: its id, the module that holds it and the docstring of that module."""

    id: str
    module: str
    doc: str

    @property
    def title(self) -> str:
        """First line of the docstring."""
        return self.doc.strip().split("\n", 1)[0]


def entries(package: str) -> list[Entry]:
    """Every public module of `package` by id (`lr_too_high.py` is `lr-too-high`), without importing any of them."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    found = []
    for folder in spec.submodule_search_locations:
        for info in pkgutil.iter_modules([folder]):
            if info.name.startswith("_"):
                continue
            path = Path(folder) / f"{info.name}.py"
            source = path if path.is_file() else Path(folder) / info.name / "__init__.py"
            doc = _docstring(source, source.stat().st_mtime_ns)
            found.append(Entry(info.name.replace("_", "-"), f"{package}.{info.name}", doc))
    return sorted(found, key=lambda e: e.id)


@cache
def _docstring(source: Path, written: int) -> str:
    # `written`, its time in ns, is in the key: a file that changes is read again
    return ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""


def load(entry: Entry, base: type) -> type:
    """The one subclass of `base` that the entry's module defines."""
    module = importlib.import_module(entry.module)
    mine = [
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, base) and c is not base and c.__module__ == module.__name__ and not c.__name__.startswith("_")
    ]
    if len(mine) != 1:
        raise TypeError(f"{entry.module} must define exactly one {base.__name__}, it defines {len(mine)}")
    return mine[0]


def load_all(package: str, base: type) -> dict[str, Any]:
    """Every extension of a package, one fresh instance each, by id."""
    result = {}
    for entry in entries(package):
        cls = load(entry, base)
        cls.id, cls.doc = entry.id, entry.doc
        result[entry.id] = cls()
    return result


def held_out(id: str) -> bool:
    """Whether no threshold may be set by this fault or bench subject: about a third of all ids, by their hash, so that
    nobody chooses. The bench reports them apart."""
    return hashlib.sha256(id.encode()).digest()[0] % 3 == 0


def task_entries() -> list[Entry]:
    """Every task of every catalogue registered under the entry-point group "diagnose.tasks"."""
    points = sorted(importlib.metadata.entry_points(group=TASKS), key=lambda p: (p.name, p.value))
    return [e for package in dict.fromkeys(p.value for p in points) for e in entries(package)]
