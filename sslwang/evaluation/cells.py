"""One cell of an evaluation: a start under one seed, judged by one method with a fraction of the labels."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from sslwang.circumstances import fingerprint
from sslwang.data.labelled import Labelled, labelled, stratified
from sslwang.evaluation.features import features
from sslwang.evaluation.frozen import nearest, probe
from sslwang.evaluation.pictures import chosen_rows
from sslwang.evaluation.starts import Member, Start
from sslwang.evaluation.store import file_name, key_of, read, write_json
from sslwang.finetune import Inputs, LabelledItems, Unfreeze, finetune
from sslwang.models.encoder import ImageEncoder
from sslwang.scores import confusion, recalls, reliability, summary

APART = 1_000_003  # between the seeds of two choices under one seed, more than anybody's seeds are apart
SCHEMA = 1  # of a cell's file; one of another is computed anew
Method = Literal["knn", "probe", "finetune"]
METHODS: tuple[Method, ...] = ("knn", "probe", "finetune")


@dataclass(frozen=True)
class Tuning:
    """How encoders are fine-tuned, all alike.

    Args:
        steps: batches, the same for every fraction of the labels.
        unfreeze: see `fit`. `all` trains everything from the first step, so that random weights lose no step.
        balanced: every class is drawn equally often.
    """

    steps: int = 200
    unfreeze: Unfreeze = "all"
    balanced: bool = False


@dataclass(frozen=True)
class Protocol:
    """What all cells of an evaluation have alike.

    Args:
        data: a source of labelled images (see `labelled`). data_key: its `data_digest`.
        size: px that images are fed at. inputs: the scale that they are brought to.
        tuning: for `finetune`.
        draws: choices of the labelled images that `knn` and `probe` are averaged over under one seed; they cost little,
            for the features are the same. Fine-tuning takes the first of them.
    """

    data: str
    data_key: str
    size: int
    inputs: Inputs
    tuning: Tuning
    draws: int = 1


@dataclass(frozen=True)
class Cell:
    """What is to be found out. `fraction` is of the labels; `seed` draws which, the head and the order of training."""

    start: Start
    method: Method
    fraction: float
    seed: int

    @property
    def member(self) -> Member:
        """The encoder that is judged."""
        return self.start.member(self.seed)

    def path(self, folder: Path, protocol: Protocol) -> Path:
        """Its file below a folder; another encoder, data or protocol has another."""
        own = asdict(protocol.tuning) if self.method == "finetune" else {"draws": self.draws(protocol)}
        common = (SCHEMA, protocol.data_key, protocol.size, protocol.inputs)
        key = key_of(*common, self.member.key, self.method, self.fraction, self.seed, own)
        return folder / f"{file_name(self.start.name)}-{self.method}-{self.fraction:g}-{self.seed}-{key}.json"

    def draws(self, protocol: Protocol) -> int:
        """How many choices of labelled images it takes; all of them are one choice."""
        return protocol.draws if self.method != "finetune" and self.fraction < 1 else 1

    def subset(self, labels: np.ndarray, draw: int = 0) -> np.ndarray:
        """Indices of the labelled images of one choice."""
        return stratified(labels, self.fraction, self.seed + draw * APART)

    def rows_path(self, folder: Path, protocol: Protocol) -> Path:
        """File of its predictions that are worth a look, with their pictures."""
        return self.path(folder, protocol).with_suffix(".rows.json")


@functools.lru_cache(maxsize=2)
def data_of(source: str, size: int) -> Labelled:
    """Labelled images to be fed at `size` px, looked for once in a process."""
    return labelled(source, size=size)


def judged(probabilities: np.ndarray, labels: np.ndarray, places: np.ndarray) -> dict:
    """Every score of predictions, as JSON holds it.

    Args:
        probabilities: (N, C). labels: (N,), places of classes. places: classes that validation has.
    """
    curve = reliability(probabilities, labels)
    return {
        "scores": summary(probabilities, labels, places),
        "recalls": recalls(probabilities, labels).tolist(),
        "confusion": confusion(probabilities, labels).tolist(),
        "reliability": {n: getattr(curve, n).tolist() for n in ("edges", "count", "confidence", "accuracy")},
    }


def read_cell(path: Path, changed_code: bool = True) -> dict | None:
    """A finished cell, or None; one of other code only with `changed_code`."""
    found = read(path)
    if found is None or found.get("schema") != SCHEMA or "scores" not in found:
        return None
    return found if changed_code or found.get("code") == fingerprint() else None


def run_unit(
    cells: Sequence[Cell],
    protocol: Protocol,
    folder: Path,
    device: str = "cpu",
    shown: Collection[Cell] = (),
    on_cell: Callable[[Cell], None] = lambda cell: None,
) -> None:
    """Fill cells of one start and one of its encoders; features are computed once for all of them.

    Args:
        folder: that their files are written to, each as soon as it is finished.
        shown: those whose predictions are kept with their pictures, in a file beside the cell's.
        on_cell: called after each.

    Raises:
        DiagnoseError: data or weights are gone or have changed, or a file cannot be written.
    """
    start, member = cells[0].start, cells[0].member
    data = data_of(protocol.data, protocol.size)
    labels = data.train.labels
    frozen = [cell for cell in cells if cell.method != "finetune"]
    if frozen:
        used = np.unique(np.concatenate([c.subset(labels, k) for c in frozen for k in range(c.draws(protocol))]))
        began = time.perf_counter()
        encoder, items = start.encoder(member), _items(data, protocol)
        train = LabelledItems(data.train, data.classes, protocol.size, 0, "valid", inputs=protocol.inputs)
        known, asked = features(encoder, train, device, used), features(encoder, items, device)
        shared = (time.perf_counter() - began) / len(frozen)
    for cell in cells:
        began = time.perf_counter()
        if cell.method == "finetune":
            indices = cell.subset(labels)
            probabilities, tensor = _finetuned(start.encoder(member), data, indices, cell.seed, protocol, device)
            told, spent, extra = [probabilities], 0.0, {"steps": protocol.tuning.steps}
        else:
            told, tensor, spent, extra = [], functools.partial(_tensor, items), shared, {"draws": cell.draws(protocol)}
            for draw in range(cell.draws(protocol)):
                indices = cell.subset(labels, draw)
                at = np.searchsorted(used, indices)
                found, more = _frozen(cell, known[at], labels[indices], asked, len(data.classes))
                told.append(found)
                extra = {**more, **extra}
        if cell in shown:
            rows = chosen_rows(told[0], data.valid.labels, data.valid.names, tensor)
            write_json(cell.rows_path(folder, protocol), rows)
        result = {
            "schema": SCHEMA,
            "code": fingerprint(),
            "start": start.name,
            "method": cell.method,
            "fraction": cell.fraction,
            "seed": cell.seed,
            "pretraining_seed": member.seed,
            "labels": len(indices),
            **extra,
            **judged(np.concatenate(told), np.tile(data.valid.labels, len(told)), data.valid_places()),
            "seconds": time.perf_counter() - began + spent,
        }
        write_json(cell.path(folder, protocol), result)
        on_cell(cell)


def _items(data: Labelled, protocol: Protocol) -> LabelledItems:
    return LabelledItems(data.valid, data.classes, protocol.size, 0, "valid", inputs=protocol.inputs)


def _tensor(items: LabelledItems, index: int) -> torch.Tensor:
    return items.collate([items.item(0, index)])[0][0]


def _frozen(
    cell: Cell, known: np.ndarray, labels: np.ndarray, asked: np.ndarray, classes: int
) -> tuple[np.ndarray, dict]:
    if cell.method == "knn":
        return nearest(known, labels, asked, classes), {}
    found = probe(known, labels, asked, classes, cell.seed)
    return found.probabilities, {"C": found.strength, "C_chosen": found.chosen}


def _finetuned(
    encoder: ImageEncoder, data: Labelled, indices: np.ndarray, seed: int, protocol: Protocol, device: str
) -> tuple[np.ndarray, Callable[[int], torch.Tensor]]:
    tuning = protocol.tuning
    found = finetune(
        encoder,
        data,
        indices,
        steps=tuning.steps,
        seed=seed,
        size=protocol.size,
        unfreeze=tuning.unfreeze,
        balanced=tuning.balanced,
        device=device,
        inputs=protocol.inputs,
    )
    return found.probabilities, found.tensor
