"""Folders of pretraining runs: `OUT/<task>/<time>/` with run.json, the weights, checkpoints and what Watch recorded.

run.json                   task, settings, gate, metrics by epoch; see `PretrainRun`
encoder.safetensors        the encoder after the last epoch; encoder-best.safetensors after the best
model.safetensors          the whole network after the last epoch
state/                     checkpoints, to go on from
watch/                     what was recorded; watch-2, watch-3, ... from where the run was resumed
tensorboard/               event files, if asked for
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import torch

from diagnose.errors import DiagnoseError
from sslwang.checkpoint import put, put_json
from sslwang.models.encoder import ImageEncoder, make_encoder
from sslwang.models.weights import load_weights, read_weights

RECORD, STATE, WATCH, TENSORBOARD = "run.json", "state", "watch", "tensorboard"
ENCODER, BEST, MODEL = "encoder.safetensors", "encoder-best.safetensors", "model.safetensors"
LOCK = ".lock"
SCHEMA = 1
TIME = "%Y-%m-%dT%H-%M-%S"


@dataclass(frozen=True)
class PretrainRun:
    """One pretraining run.

    Args:
        path: its folder.
        record: run.json: schema, task, settings (by dotted name), arch, norm, seed, size, epochs, steps, source,
            with_val, gate ({"pass", "issued", "verdict"} or {"skipped": why}), schedule, accumulate, precision, metric,
            versions, commit (None where there is none), device, started, seconds, finished, stopped, history (one
            object an epoch) and best.
    """

    path: Path
    record: dict[str, Any]

    @property
    def task(self) -> str:
        """Id of the pretext task."""
        return self.record["task"]

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the task by dotted name."""
        return self.record["settings"]

    @property
    def arch(self) -> str:
        """Name of the encoder, as `make_encoder` knows it."""
        return self.record["arch"]

    @property
    def norm(self) -> str:
        """Kind of its norms: `group` or `batch`."""
        return self.record["norm"]

    @property
    def size(self) -> int:
        """Side in px of the images that it was trained on."""
        return self.record["size"]

    @property
    def seed(self) -> int:
        """Of weights and data."""
        return self.record["seed"]

    @property
    def steps(self) -> int:
        """Batches trained on so far."""
        return self.record["steps"]

    @property
    def source(self) -> str:
        """Where its images came from."""
        return self.record["source"]

    @property
    def finished(self) -> bool:
        """Whether it ran to its end, early stopping included."""
        return self.record["finished"]

    def encoder(self, which: Literal["last", "best"] = "last") -> ImageEncoder:
        """The trained encoder, built anew, every one of its tensors loaded (`encoder.loaded` counts them).

        Torch's random stream is left as it was.

        Raises:
            DiagnoseError: not written yet, or not the weights of this encoder.
        """
        path = self.path / (BEST if which == "best" else ENCODER)
        if not path.is_file():
            raise DiagnoseError(f"{path}: not there; {self._without(which)}")
        with torch.random.fork_rng(devices=[]):
            encoder = make_encoder(self.arch, self.norm)
        encoder.loaded = load_weights(encoder, read_weights(path), str(path))
        return encoder

    def _without(self, which: str) -> str:
        "Why there is no such encoder, and the way out."
        if not self.finished:
            return f"no epoch of this run was finished: {self.resuming}"
        if which == "best" and self.record.get("best") is None:
            return f"{self.record.get('metric')} was a finite number in no epoch, so none is the best; take the last"
        return "it was removed; pretrain again"

    @property
    def resuming(self) -> str:
        """The command that goes on with it."""
        return shlex.join(["sslwang", "pretrain", "--resume", str(self.path)])

    def save(self) -> None:
        """Write run.json. Raises OSError."""
        put_json(self.path / RECORD, self.record)

    def put(self, name: str, data: bytes) -> None:
        """Write another file of the run, whole or not at all. Raises OSError."""
        put(self.path / name, data)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other process trains this run, where the system can tell; what killed ones left half written goes.

        Raises:
            DiagnoseError: another process trains it.
        """
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            yield
            return
        try:
            file = (self.path / LOCK).open("a")
        except OSError as e:
            raise DiagnoseError(f"{self.path}: cannot be written ({e.strerror})") from e
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DiagnoseError(f"{self.path}: another process is training this run") from None
            except OSError:  # a file system without locks
                pass
            for left in self.path.rglob("*.part"):
                with suppress(OSError):
                    left.unlink()
            yield


def new_folder(out: Path, task: str) -> Path:
    """Make the folder of a new run.

    Raises:
        DiagnoseError: it cannot be made or written.
    """
    writable(out)
    stamp = datetime.now().strftime(TIME)
    for count in range(1, 1000):
        folder = out / task / (stamp if count == 1 else f"{stamp}.{count}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as e:
            raise DiagnoseError(f"--out {out}: cannot write there ({e.strerror}); choose another folder") from e
    raise DiagnoseError(f"--out {out}: {out / task} holds a thousand runs of this second; choose another folder")


def writable(out: Path) -> None:
    """Make sure that a folder can be made and written before any time is spent.

    Raises:
        DiagnoseError: it cannot.
    """
    existing = out
    while not os.path.exists(existing) and existing != existing.parent:  # Path's raises in folders that are closed
        existing = existing.parent
    if not existing.is_dir():
        raise DiagnoseError(f"--out {out}: {existing} is a file, not a folder")
    probe = existing / f".sslwang-{os.getpid()}"
    try:
        with probe.open("wb") as file:
            file.write(b"room for one block")
    except OSError as e:
        raise DiagnoseError(f"--out {out}: cannot write there ({e.strerror}); choose another folder") from e
    finally:
        with suppress(OSError):  # in a folder that is read-only or closed it is no question of being there
            probe.unlink()


def open_run(path: Path | str) -> PretrainRun:
    """The run that a folder is, finished or not, or the newest finished run in it.

    Raises:
        DiagnoseError: no such folder, no run in it, none of them finished, or a record that cannot be read.
    """
    path = Path(path).expanduser()
    if path.name == RECORD:
        path = path.parent
    if (path / RECORD).is_file():
        return _read(path)
    if not path.is_dir():
        raise DiagnoseError(f"{path}: no such run; `sslwang pretrain` makes one")
    found = list(_runs(path))
    if not found:
        raise DiagnoseError(f"{path}: no pretraining run in there; `sslwang pretrain --out {path}` makes one")
    run = next((run for run in found if run.finished), None)
    if run is None:
        raise DiagnoseError(f"{path}: none of its {len(found)} runs is finished; go on with {found[0].resuming}")
    return run


def unfinished(out: Path) -> Iterator[PretrainRun]:
    """Runs in a folder that did not come to their end, the newest first."""
    return (run for run in _runs(out) if not run.finished)


def _runs(place: Path) -> Iterator[PretrainRun]:
    "Runs one or two levels below a folder, the newest first; records that cannot be read are passed over."
    folders = [p.parent for pattern in (f"*/{RECORD}", f"*/*/{RECORD}") for p in place.glob(pattern)]
    runs = []
    for folder in folders:
        try:
            runs.append(_read(folder))
        except DiagnoseError:
            continue
    yield from sorted(runs, key=lambda run: (run.record["started"], run.path.name), reverse=True)


def _read(folder: Path) -> PretrainRun:
    path = folder / RECORD
    try:
        record = json.loads(path.read_bytes())
        if record["schema"] != SCHEMA:
            raise DiagnoseError(f"{path}: a record of schema {record['schema']}, this version reads {SCHEMA}")
        needed = ("task", "settings", "arch", "norm", "size", "seed", "steps", "source", "finished", "started")
        missing = [name for name in needed if name not in record]
    except OSError as e:
        raise DiagnoseError(f"{path}: cannot be read ({e.strerror})") from e
    except (ValueError, TypeError, KeyError) as e:
        raise DiagnoseError(f"{path}: not the record of a run ({type(e).__name__})") from e
    if missing:
        raise DiagnoseError(f"{path}: the record of a run lacks {', '.join(missing)}")
    return PretrainRun(folder, record)
