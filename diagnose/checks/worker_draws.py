"""Random draws differ between workers and between epochs.

## What it does
Finds out which global random streams (python, numpy, torch) reading an item uses, by changing one seed at a time. If
there are any and the training loader starts workers, two workers read a few items over two epochs, seeded as the
loader seeds them, and draw a number from each stream after each item.

## Why it matters
Workers are copies of one process. If they start with one random state, the same "random" crop or noise comes once from
every worker; if the state is set anew from the worker's number, every epoch repeats the first.

## How it is judged
Fails if two workers draw the same numbers from a stream in use. Warns if the second epoch repeats the first. All draws
must be distinct; two 53-bit numbers agree by chance in 1 of 10^16 cases. Streams that no item uses are not judged, and
an item that sets a global stream itself is said.

## What to do
Draw from a generator that belongs to the item, `np.random.default_rng([seed, epoch, index])`; or seed from torch's own:
`np.random.seed(torch.initial_seed() % 2**32)` in `worker_init_fn`, and never from the worker's number alone.

## Source
Real failure F20 of the notes (numpy's state shared by all workers, and a repair that repeated every epoch) and F29 (a
data set that reseeds numpy); PyTorch's documentation, "Randomness in multi-process data loading".
"""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fastai.torch_core import set_seed
from torch.utils.data import DataLoader, Dataset, get_worker_info

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._numbers import number, texts
from diagnose.data import Split, as_it_was, digest, halves, item_at, splits_of, workers_of
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

SEEDED: dict[str, Callable[[int], Any]] = {
    "python": random.seed,
    "numpy": np.random.seed,
    "torch": torch.manual_seed,
}
ITEMS, EACH, WORKERS = 4, 3, 2


class WorkerDraws(Check):
    """Looks for random numbers that come twice."""

    stage = "inspection"
    order = 58
    cost = "16 items; two workers are started twice if items draw from a global stream and the loader uses workers"

    def measure(self, lab: Lab) -> EvidenceList:
        split = splits_of(lab)[0]
        if split.by_rows or not split.items:
            raise NotApplicable("no item can be read by its index")
        workers = workers_of(split)
        with as_it_was(lab.learn, split, lab.seed):
            try:
                used, reset = _streams(lab, split)
            except Exception as e:  # the items were read once without complaint
                raise NotApplicable(f"reading an item again raised {type(e).__name__}: {e}") from e
            found = EvidenceList(
                [
                    Evidence(name="workers", value=workers),
                    Evidence(name="streams in use", value=used),
                    Evidence(name="streams that items reset", value=reset),
                ]
            )
            if not workers or not used:
                return found
            try:
                draws = _drawn(split)
            except Exception as e:  # no workers to be had here, or a data set that cannot be sent to them
                raise NotApplicable(f"starting two workers raised {type(e).__name__}: {e}") from e
        for stream in SEEDED:
            epochs = [[{row[stream] for row in rows if row["worker"] == w} for w in range(WORKERS)] for rows in draws]
            across = sum(len(a & b) for a, b in epochs)
            again = len(set.union(*epochs[0]) & set.union(*epochs[1]))
            found += [
                Evidence(name="draws", value=sum(map(len, draws)), where=stream),
                Evidence(name="the same in both workers", value=across, where=stream, expected="0"),
                Evidence(name="the same in both epochs", value=again, where=stream, expected="0"),
            ]
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        used, workers = texts(evidence, "streams in use"), number(evidence, "workers")
        reset = texts(evidence, "streams that items reset")
        note = f"; reading an item resets the global stream of {', '.join(reset)}" if reset else ""
        if not workers >= 0:
            return Judgement("skip", "not measured")
        if not used:
            return Judgement("pass", f"items draw from no global random stream{note}")
        if not workers:
            return Judgement("pass", f"items draw from {', '.join(used)}, in one process{note}")
        for what, status in (("the same in both workers", "fail"), ("the same in both epochs", "warn")):
            for stream in used:
                same, of = number(evidence, what, stream), number(evidence, "draws", stream)
                if not same >= 0:
                    return Judgement("skip", f"draws from {stream} were not measured")
                if same > 0:
                    return Judgement(status, f"{same:.0f} of {of:.0f} draws from {stream} are {what}{note}")
        return Judgement("pass", f"draws from {', '.join(used)} differ between workers and between epochs{note}")


def _streams(lab: Lab, split: Split) -> tuple[list[str], list[str]]:
    "Streams that reading an item depends on, and streams that it sets to a state of its own."
    indices = [i.index for i in split.items[:ITEMS]]

    def read(changed: str = "") -> tuple[list[bytes], dict[str, float]]:
        bits = []
        for index in indices:
            for name, seed in SEEDED.items():
                seed(lab.seed % 2**31 + (name == changed))
            inputs, targets = halves(lab.learn, item_at(split, index))
            bits += [digest(t) for t in [*inputs, *targets]]
        return bits, _draw()

    still, after = read()
    if read()[0] != still:
        return [], []  # draws of its own, which no global seed governs
    used, reset = [], []
    for name in SEEDED:
        bits, drawn = read(name)
        if bits != still:
            used.append(name)
        if drawn[name] == after[name]:
            reset.append(name)
    return used, reset


def _draw() -> dict[str, float]:
    return {
        "python": random.random(),
        "numpy": float(np.random.random()),  # noqa: NPY002
        "torch": float(torch.rand(1, dtype=torch.float64)),
    }


class _Probe(Dataset):
    "Reads an item, then draws a number from each stream."

    def __init__(self, split: Split):
        self.split, self.indices = split, [i.index for i in split.items]

    def __len__(self) -> int:
        return WORKERS * EACH

    def __getitem__(self, k: int) -> dict[str, float]:
        item_at(self.split, self.indices[k % len(self.indices)])
        return {"worker": get_worker_info().id, **_draw()}


def _drawn(split: Split) -> list[list[dict[str, float]]]:
    "What two workers draw in two epochs, seeded as the loader seeds its own."
    loader = split.loader
    own = getattr(loader, "worker_init_fn", None)

    def begin(worker: int) -> None:
        torch.set_num_threads(1)
        if hasattr(loader, "fake_l"):  # fastai seeds all streams from torch's seed, then calls the user's function
            set_seed(get_worker_info().seed)
            loader.wif()
        elif own is not None:
            own(worker)

    probe = DataLoader(
        _Probe(split), batch_size=1, num_workers=WORKERS, worker_init_fn=begin, collate_fn=lambda b: b[0]
    )
    return [list(probe) for _ in range(2)]
