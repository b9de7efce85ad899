"""By which code, versions and machine a result was made."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from diagnose.identity import packages
from diagnose.subject import device_name

HERE = Path(__file__).parent
TELLS = (  # of this package: what only shows results, or makes weights, which count by their own tensors
    "cli.py", "commands", "evaluation/browser.py", "evaluation/comparison.py", "evaluation/pages.py",
    "evaluation/plots.py", "fits.py", "learn.py", "loader_trials.py", "show.py", "tasks", "telling.py",
)  # fmt: skip
LIBRARIES = ("fastai", "numpy", "scikit-learn", "torch")


@functools.cache
def fingerprint(package: Path = HERE) -> str:
    """Version of this package, and a hash of its sources that scores depend on and of the libraries' versions.

    It is of the sources as they are when it is first asked for in a process.
    """
    h = hashlib.sha256(repr([(name, version(name)) for name in LIBRARIES]).encode())
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith(TELLS):
            content = path.read_bytes()
            h.update(f"{name} {len(content)}\n".encode() + content)
    return f"{version('learner-diagnose')} {h.hexdigest()[:12]}"


def commit(place: Path = HERE) -> str | None:
    """The commit that the code in a folder is of, marked where it has changed since; None where git does not know it.

    A package that is installed below somebody's checkout is none of its files.
    """
    try:
        if not _git(place, "ls-files", "."):
            return None
        changed = "-dirty" if _git(place, "status", "--porcelain", "--untracked-files=no", "--", ".") else ""
        return _git(place, "rev-parse", "--short=12", "HEAD") + changed
    except (OSError, subprocess.SubprocessError):
        return None


def _git(place: Path, *words: str) -> str:
    run = ["git", "-C", str(place), *words]
    return subprocess.run(run, capture_output=True, text=True, timeout=5, check=True).stdout.strip()


def circumstances(device: str | torch.device) -> dict[str, Any]:
    """Date, commit of the code (absent where there is none), its fingerprint, versions, device and machine."""
    known = commit()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        **({} if known is None else {"commit": known}),
        "code": fingerprint(),
        "versions": packages(),
        "device": device_name(torch.device(device)),
        "machine": f"{platform.machine()} with {os.cpu_count()} cores",
    }


def told(about: Mapping[str, Any]) -> str:
    """Circumstances as a sentence."""
    parts = []
    for name, value in about.items():
        if isinstance(value, Mapping):
            parts += [f"{n} {v}" for n, v in value.items()]
        else:
            parts.append(f"{name} {value}" if name in ("commit", "code") else str(value))
    return ", ".join(parts) + "."


def command() -> str:
    """The command line of now."""
    return shlex.join(["sslwang", *sys.argv[1:]])
