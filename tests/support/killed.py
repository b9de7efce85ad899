"""Kills pretraining by SIGKILL at random moments and goes on, until it ends; a script, so that it may fork.

    python killed.py FOLDER SEED TRIALS

Moments are counted in events: batches, and every step of every write to disk, in the midst of a write among them. The
last line printed is JSON: the hash of the weights of a run that was never killed, and of each trial its events, hash
and what was seen on the way.
"""

import hashlib
import json
import os
import pathlib
import random
import signal
import sys
import traceback
import warnings
from pathlib import Path

import torch

torch.set_num_threads(1)
warnings.filterwarnings("ignore")
os.environ.setdefault("DIAGNOSE_KEY", "a key for the tests alone")

from sslwang import runs  # noqa: E402
from sslwang.pretrain import Told, pretrain, resume, task_of  # noqa: E402

# batch norm and dropout in the head, batch norm in the encoder; 5 batches an epoch, gradients of 2 are added up
SETTINGS = {"size": "16", "bs": "8", "items": "40", "valid_items": "8", "encoder.norm": "batch", "head.kind": "fastai"}
OPTIONS = {"epochs": 3, "seed": 3, "accumulate": 2, "save_every": 3, "save_steps": True, "gate": "skip"}


class Clock:
    """Counts events; at the last one of `until` the process dies."""

    def __init__(self, until: int | None):
        self.until, self.count = until, 0

    def tick(self) -> bool:
        self.count += 1
        return self.count == self.until

    def event(self) -> None:
        if self.tick():
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Dying:
    """A file that may be half written when its process dies."""

    def __init__(self, file, clock):
        self.file, self.clock = file, clock

    def __enter__(self):
        self.file.__enter__()
        return self

    def __exit__(self, *error):
        return self.file.__exit__(*error)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        if self.clock.tick():
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            die()
        return self.file.write(data)


class Ticking(Told):
    def __init__(self, clock):
        self.clock, self.said = clock, []

    def step(self, done, epoch, loss):
        self.clock.event()

    def say(self, line):
        self.said.append(line)


def ticking(clock: Clock) -> Ticking:
    """From now on everything that reaches the disk is an event."""
    opened, replaced, unlinked = pathlib.Path.open, pathlib.Path.replace, pathlib.Path.unlink

    def open_(path, mode="r", *args, **kwargs):
        file = opened(path, mode, *args, **kwargs)
        return Dying(file, clock) if "w" in mode else file

    def replace(path, target):
        clock.event()
        return replaced(path, target)

    def unlink(path, *args, **kwargs):
        clock.event()
        return unlinked(path, *args, **kwargs)

    pathlib.Path.open, pathlib.Path.replace, pathlib.Path.unlink = open_, replace, unlink
    os.fsync = lambda handle: clock.event()  # what the kernel holds outlives a killed process
    return Ticking(clock)


def in_child(work, until: int | None) -> tuple[bool, dict]:
    """Whether a forked process came to its end, and what it told."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        code = 1
        try:
            clock = Clock(until)
            told = ticking(clock)
            run = work(told)
            result = {"events": clock.count, "said": told.said, "hash": digest(run), "record": run.record}
            os.write(write, json.dumps(result).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"a run failed with {status}")
    return status == 0, json.loads(answer) if status == 0 else {}


def digest(run) -> str:
    files = (runs.MODEL, runs.ENCODER, runs.BEST)
    return hashlib.sha256(b"".join((run.path / name).read_bytes() for name in files)).hexdigest()


def history(told: dict) -> list:
    return told["record"]["history"]


def trial(folder: Path, task, events: int, rng: random.Random, twice: bool) -> dict:
    """One run, killed at a random event, then gone on with; `twice` kills the second time too."""
    at = rng.randint(1, events)
    ended, told = in_child(lambda t: pretrain(task, folder, told=t, **OPTIONS), at)
    kills, before = [at], []
    while not ended:
        found = list(folder.glob(f"*/*/{runs.RECORD}"))
        again = rng.randint(1, max(2, events // 2)) if twice else None
        twice = False
        if found:
            before.append(len(list((found[0].parent / runs.STATE).glob("*.manifest.json"))))
            ended, told = in_child(lambda t, path=found[0].parent: resume(path, told=t), again)
        else:
            before.append(None)
            ended, told = in_child(lambda t: pretrain(task, folder, told=t, **OPTIONS), again)
        if not ended:
            kills.append(again)
    left = [p.name for p in folder.rglob("*.part")]
    return {"kills": kills, "checkpoints": before, "hash": told["hash"], "history": history(told), "left": left}


def main() -> None:
    folder, seed, trials = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    task = task_of("quadrant", SETTINGS)
    ended, whole = in_child(lambda t: pretrain(task, folder / "whole", told=t, **OPTIONS), None)
    assert ended
    rng = random.Random(seed)
    done = [trial(folder / str(k), task, whole["events"], rng, twice=k % 4 == 3) for k in range(trials)]
    print(json.dumps({"events": whole["events"], "hash": whole["hash"], "history": history(whole), "trials": done}))


main()
