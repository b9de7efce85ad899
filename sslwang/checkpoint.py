"""Checkpoints that are whole or not there: whatever moment a run is killed at, the newest complete state is found.

A checkpoint is two files, tensors as safetensors and the rest as JSON, and a manifest with the SHA-256 of both. Each is
written under a temporary name, fsynced and renamed, the manifest last. Nothing is pickled. The previous checkpoint goes
only when the next one is complete, so there is always one to go back to; what is damaged is passed over and named.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from diagnose.errors import DiagnoseError

SCHEMA = 1
KEPT = 2  # complete checkpoints that stay
_MANIFEST = re.compile(r"(\d{6,})\.manifest\.json")
_NUMBER = re.compile(r"(\d{6,})\.")
_CHUNK = 1 << 20  # bytes a write

Tensors = dict[str, torch.Tensor]


def put(path: Path, data: bytes) -> None:
    """Write a file so that it is there with all of its bytes, or as it was before.

    Raises:
        OSError: no room, no permission; what was there is still there, and nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            for start in range(0, max(len(data), 1), _CHUNK):
                file.write(data[start : start + _CHUNK])
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync(path.parent)


def put_json(path: Path, content: Any) -> None:
    """`put` of JSON; floats come back with the same bits. Raises OSError as `put`."""
    put(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def packed(tensors: Tensors) -> bytes:
    """Tensors as the bytes of a safetensors file."""
    return save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()})


def _sync(folder: Path) -> None:
    "Make a rename last; systems that cannot open folders do it by themselves."
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@dataclass
class Checkpoint:
    """One complete state.

    Args:
        number: of this checkpoint, from 1.
        tensors: by name, on the CPU.
        rest: whatever JSON holds.
        kept: files that belong to it beside its two own, by name, such as the best weights so far.
        passed_over: why newer checkpoints could not be read, a line each.
    """

    number: int
    tensors: Tensors
    rest: dict[str, Any]
    kept: dict[str, bytes] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)


class Checkpoints:
    """The checkpoints of one run, in a folder of their own.

    Args:
        folder: made at the first `write`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._last = max([0, *self._numbers()])

    def write(self, tensors: Tensors, rest: dict[str, Any], kept: Iterable[str] = ()) -> int:
        """Write the next checkpoint; its number. Older ones than the last `KEPT` go.

        Args:
            kept: names of files of `keep` that belong to it.

        Raises:
            OSError: it could not be written; the checkpoints before are as they were.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        number = self._last + 1
        names = {"tensors": f"{number:06d}.safetensors", "rest": f"{number:06d}.json"}
        data = {"tensors": packed(tensors), "rest": json.dumps(rest).encode()}
        files = {}
        try:
            for part, name in names.items():
                put(self.folder / name, data[part])
                files[name] = hashlib.sha256(data[part]).hexdigest()
            files |= {name: hashlib.sha256((self.folder / name).read_bytes()).hexdigest() for name in kept}
            put_json(self.folder / f"{number:06d}.manifest.json", {"schema": SCHEMA, "files": files, "parts": names})
        except OSError:
            for name in names.values():
                with suppress(OSError):
                    (self.folder / name).unlink()
            raise
        self._last = number
        self._clear()
        return number

    def keep(self, name: str, data: bytes) -> None:
        """Put a file beside the checkpoints, which stays as long as one of them names it. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        put(self.folder / name, data)

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is complete and undamaged; None if there is none at all.

        Raises:
            DiagnoseError: there are checkpoints, and every one is damaged or of another schema.
        """
        passed_over: list[str] = []
        for number in sorted(self._manifests(), reverse=True):
            try:
                found = self._read(number)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
                passed_over.append(f"{self.folder / f'{number:06d}'}: {e}")
                continue
            found.passed_over = passed_over
            return found
        if passed_over:
            raise DiagnoseError(f"no checkpoint can be read: {'; '.join(passed_over)}; start anew without --resume")
        return None

    def _read(self, number: int) -> Checkpoint:
        manifest = json.loads((self.folder / f"{number:06d}.manifest.json").read_bytes())
        if manifest["schema"] != SCHEMA:
            raise ValueError(f"a checkpoint of schema {manifest['schema']}, this version reads {SCHEMA}")
        data = {}
        for name, digest in manifest["files"].items():
            data[name] = (self.folder / name).read_bytes()
            if hashlib.sha256(data[name]).hexdigest() != digest:
                raise ValueError(f"{name} is damaged (its hash is not that of the manifest)")
        parts = manifest["parts"]
        # clones: what is loaded shares the bytes of the file, and a gradient must not be a view
        tensors = {name: t.clone() for name, t in load(data.pop(parts["tensors"])).items()}
        rest = json.loads(data.pop(parts["rest"]))
        return Checkpoint(number, tensors, rest, data)

    def _clear(self) -> None:
        "Remove what no complete checkpoint of the last needs, and what killed runs left half written."
        complete = sorted(self._manifests(), reverse=True)
        needed: set[str] = set()
        for number in complete[:KEPT]:
            needed.add(f"{number:06d}.manifest.json")
            with suppress(OSError, ValueError, KeyError, AttributeError):
                needed |= set(json.loads((self.folder / f"{number:06d}.manifest.json").read_bytes())["files"])
        # manifests first: a checkpoint must never look complete when a file of it has gone
        for path in sorted(self.folder.iterdir(), key=lambda p: not _MANIFEST.fullmatch(p.name)):
            if path.name not in needed:
                with suppress(OSError):
                    path.unlink()

    def _manifests(self) -> list[int]:
        return self._numbers(_MANIFEST.fullmatch)

    def _numbers(self, match: Callable[[str], re.Match | None] = _NUMBER.match) -> list[int]:
        try:
            return [int(m[1]) for path in self.folder.iterdir() if (m := match(path.name))]
        except FileNotFoundError:
            return []
