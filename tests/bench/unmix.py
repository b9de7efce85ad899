"""What it saves to take the sources of unmix from the batch: step time, encodings, decoded files, loading.

    python -m tests.bench.unmix                                 prints the page
    python -m tests.bench.unmix --out reports/unmix-speed.md
    python -m tests.bench.unmix --rounds 3                      quick look

All variants of a comparison take turns within one process, in an order drawn anew each round; the page gives the median
over the rounds of the ratio within a round, and the least and largest. Times are of the process's CPU on one thread, so
that other work on the machine disturbs them little. Files are JPEGs of 213 x 160 px as in Image-wang's 160 px archive,
cut from the bundled photographs; none stays in memory, as none of 20,000 files would.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sslwang.circumstances import commit
from sslwang.data.images import ImageFiles
from sslwang.data.loaders import ReplayLoader
from sslwang.data.photos import SEEN, photos
from sslwang.data.pixels import normalised
from sslwang.data.splits import Side
from sslwang.models.pairs import PairNet
from sslwang.pretext import PretextItems
from sslwang.tasks.unmix import Unmix, UnmixItems, UnmixSettings

FILES, WIDTH, HEIGHT = 480, 213, 160
TABLE = [
    "| | decoded a row | loader: rows a second | throughput | with mixing: rows a second | throughput |",
    "|--|--|--|--|--|--|",
]
BATCHES = 4  # of 48 rows that a turn loads


class PlainItems(PretextItems):
    """One image a row and nothing done with it: what any loader of images does.

    The crops are those that `unmix` shows: others would be larger or smaller by chance, and take another time.
    """

    def __init__(self, unmix: UnmixItems):
        super().__init__(unmix.side, unmix.count, unmix.seed, unmix.split, unmix.settings)
        self.unmix = unmix

    def item(self, epoch: int, index: int) -> tuple:
        """A random crop of a random file."""
        return (self.unmix._image(epoch, index)[0][None],)

    def batch(self, images: torch.Tensor, *labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The images, to about mean 0 and standard deviation 1."""
        return (normalised(images[:, 0]),)


def write_files(folder: Path) -> list[Path]:
    """JPEG files cut from the photographs."""
    rng, found = np.random.default_rng(0), []
    pictures = photos(SEEN)
    for k in range(FILES):
        picture = pictures[k % len(pictures)]
        x, y = rng.integers(0, picture.width - WIDTH + 1), rng.integers(0, picture.height - HEIGHT + 1)
        found.append(folder / f"{k:04}.jpg")
        picture.crop((x, y, x + WIDTH, y + HEIGHT)).save(found[-1], quality=92)
    return found


def turns(
    variants: dict[str, Callable[[], Any]], rounds: int, times: int = 1
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Of each variant the ratios of its CPU seconds to those of the first variant in the same round, and its median."""
    rng, seconds = random.Random(0), {name: [] for name in variants}
    for run in variants.values():
        run()
    for _ in range(rounds):
        for name in rng.sample(list(variants), len(variants)):
            gc.collect()
            began = time.process_time()
            for _ in range(times):
                variants[name]()
            seconds[name].append((time.process_time() - began) / times)
    first = seconds[next(iter(variants))]
    ratios = {name: [a / b for a, b in zip(first, taken)] for name, taken in seconds.items()}
    return ratios, {name: statistics.median(taken) for name, taken in seconds.items()}


def told(values: list[float]) -> str:
    """Median, and least and largest."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def step(model: torch.nn.Module, loss: torch.nn.Module, batch: tuple) -> Callable[[], None]:
    """Forward and backward pass over a batch."""

    def run() -> None:
        loss(model(*batch[:-1]), batch[-1]).backward()
        model.zero_grad()

    return run


def images_encoded(model: torch.nn.Module, batch: tuple) -> int:
    """How many images a model encodes in a forward pass over a batch."""
    seen = []
    hook = model.encoder.register_forward_hook(lambda module, args, maps: seen.append(len(args[0])))
    model(*batch[:-1])
    hook.remove()
    return sum(seen)


def steps(rounds: int) -> list[str]:
    """A row of the table for each n and head."""
    lines = []
    for n, head in ((3, "spatial"), (3, "pooled"), (5, "spatial")):
        task = Unmix(UnmixSettings(n=n, head={"kind": head}, sources="batch"))
        batch, shared = task.loaders(0).train.one_batch(), task.learner(0).model.train()
        naive = PairNet(task.encoder(), head).train()
        naive.load_state_dict(shared.state_dict())
        plain = tuple(x.detach().clone() for x in batch)
        encoded = {"naive": images_encoded(naive, plain), "shared": images_encoded(shared, batch)}
        ratios, medians = turns(
            {"naive": step(naive, task.loss(), plain), "shared": step(shared, task.loss(), batch)}, rounds
        )
        rows = len(batch[-1])
        lines.append(
            f"| {n} | {head} | {encoded['naive'] / rows:.2f} | {encoded['shared'] / rows:.2f} | "
            f"{medians['naive'] * 1000:.1f} | {medians['shared'] * 1000:.1f} | {told(ratios['shared'])} |"
        )
    return lines


class Unmixed(ReplayLoader):
    """What a loader and its workers do where batches are mixed on the device: read, decode, cut out, stack."""

    def after_batch(self, b: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """The batch as it would be sent."""
        return b


def loading(side: Side, rounds: int) -> list[str]:
    """A row of the table for plain images, unmix from the batch and unmix from rows of their own."""
    rows = 48 * BATCHES
    shared = UnmixItems(side, rows, 0, "train", UnmixSettings(items=rows, sources="batch"))
    made: dict[str, PretextItems] = {"plain images": PlainItems(shared)}
    for sources in ("batch", "row"):
        settings = UnmixSettings(items=rows, sources=sources)
        made[f"unmix, sources={sources}"] = UnmixItems(side, rows, 0, "train", settings)
    decoded, found = {}, []
    for kind, late in ((Unmixed, True), (ReplayLoader, False)):
        variants = {}
        for name, items in made.items():
            loader = kind(items, late=late, bs=48, shuffle=True, drop_last=True, num_workers=0)
            variants[name] = lambda loader=loader: [None for _ in loader]
            before = side.images._decode.cache_info().misses
            variants[name]()
            decoded[name] = (side.images._decode.cache_info().misses - before) / rows
        found.append(turns(variants, rounds))
    return [
        f"| {name} | {decoded[name]:.2f} | "
        + " | ".join(f"{rows / medians[name]:.0f} | {told(ratios[name])}" for ratios, medians in found)
        + " |"
        for name in made
    ]


def training(side: Side, rounds: int) -> list[str]:
    """A row of the table for training on rows of their own, encoded n + 1 at a time, and from the batch."""
    rows, variants = 48 * BATCHES, {}
    for sources in ("row", "batch"):
        task = Unmix(UnmixSettings(items=rows, sources=sources))
        items = UnmixItems(side, rows, 0, "train", task.settings)
        loader = ReplayLoader(items, bs=48, shuffle=True, drop_last=True, num_workers=0)
        learner = task.learner(0)
        learner.dls.loaders[0] = loader

        def run(learner=learner) -> None:
            with learner.no_logging():
                learner.fit(1)

        learner.dls.loaders[1] = []
        variants[f"sources={sources}"] = run
    ratios, medians = turns(variants, rounds)
    return [f"| {name} | {rows / medians[name]:.0f} | {told(ratios[name])} |" for name in variants]


def page(rounds: int) -> str:
    """Everything, as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        files = Side(ImageFiles(write_files(Path(folder)), keep=1))
        memory = Side(photos(SEEN))
        load = os.getloadavg()[0]
        lines = [
            "# Unmix with the sources of a row taken from the batch",
            "",
            f"{datetime.datetime.now(datetime.UTC).date()}, commit {commit() or 'unknown'}, "
            f"{platform.machine()}, {os.cpu_count()} cores, 1 thread, torch {torch.__version__}; "
            f"load before: {load:.1f}. CPU seconds; medians over {rounds} rounds, [least, largest].",
            "",
            f"`python -m tests.bench.unmix --rounds {rounds}`",
            "",
            "## Forward and backward pass of 48 rows at 64 px, the small encoder",
            "",
            "Naive: every mixture and every source of every row is encoded. Both get the same values.",
            "",
            "| n | head | encodings a row, naive | from the batch | ms, naive | ms, from the batch | times faster |",
            "|--|--|--|--|--|--|--|",
            *steps(rounds),
            "",
            "## Loading, files (JPEG, 213 x 160 px)",
            "",
            "Plain images: one random crop of one file a row, the same 72 px as of unmix from the batch. Loader:",
            "reading, decoding, cutting out and stacking, as the workers do where batches are mixed on the device.",
            "With mixing: and all that makes a batch of it, on the same thread. Throughput is over plain images.",
            "",
            *TABLE,
            *loading(files, rounds),
            "",
            "## Loading, photographs that are in memory",
            "",
            "Nothing is decoded, so that the mixing itself shows.",
            "",
            *TABLE,
            *loading(memory, rounds),
            "",
            "## An epoch of training on files, loading included",
            "",
            "| | rows a second | times faster |",
            "|--|--|--|",
            *training(files, rounds),
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the comparisons and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    text = page(given.rounds)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
