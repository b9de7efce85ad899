"""Files of an evaluation: written whole or not at all, and named by what they hold."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from diagnose.errors import DiagnoseError
from sslwang.checkpoint import put


def key_of(*parts: Any) -> str:
    """Hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def file_name(name: str) -> str:
    """A name as part of a file name."""
    return re.sub(r"[^A-Za-z0-9_.=-]+", "-", name).strip("-.") or "unnamed"


def write(path: Path, content: str | bytes) -> Path:
    """Write a file whole, or leave it as it was.

    Raises:
        DiagnoseError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, content.encode() if isinstance(content, str) else content)
    except OSError as e:
        raise DiagnoseError(f"{path}: cannot be written ({e.strerror or e}); what is finished is kept") from e
    return path


def write_json(path: Path, content: Any) -> Path:
    """`write` of JSON. NaN and infinities, which JSON has not, become null."""
    return write(path, json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def read(path: Path) -> dict | None:
    """A JSON object from a file; None where there is no file or it holds none, as after a fault of the disk."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
