"""A few hundred items of both splits, read once and summed up: what all checks of the data share.

Items are read by index, spread over the data set, on their own random streams, and collated as the loader would. Only
facts are kept, so that memory is bounded. A loader that cannot be indexed (a list of batches, an iterable data set) is
read by batches, and the rows of its batches stand for items. How much is read is a fixed number, so that the same seed
gives the same report; reading is broken off only where it takes many seconds, and that is told.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.learner import Learner
from fastai.torch_core import to_device
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import IterableDataset

from diagnose.isolate import loaders, seed_everything
from diagnose.stats import tensors

ITEMS = 192  # read from each split
FIRST = 8  # read first: if none of them can be, an index may mean something else to the data set
BATCHES = 4  # read from one split where batches are needed
MIXED = 96  # rows of batches that are made of spread items
SECONDS = 5.0  # after which no further item of a split, or batch, is read, once there are two
TOGETHER = 32  # items collated at a time, a bound on memory
KEPT = 4096  # values of a target that are kept, about
FILE = re.compile(r"^[^\n]{1,1000}\.\w{1,5}$")  # what a text that names a file looks like
GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it spread evenly and follow no period of the data set


@dataclass(frozen=True)
class Part:
    """Facts of one input tensor of one item.

    Attributes:
        place: "input 1", "input 2", ...
        bad: name of the first channel, column or position that holds NaN or infinity, "" if none does.
        thumbnail: the first channel, or the values, averaged over at most 64 cells; None for token ids.
        integers: the values of a row of up to 64 integers (categories, tokens); None for anything else.
    """

    place: str
    shape: tuple[int, ...]
    floating: bool
    nans: int
    infinities: int
    bad: str
    least: float
    largest: float
    mean: float
    std: float
    thumbnail: np.ndarray | None
    digest: bytes
    integers: np.ndarray | None = None

    @property
    def numbers(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    @property
    def average_hash(self) -> int | None:
        """Which of 8×8 cells are brighter than their mean, in 64 bits; None for what is no picture or flat."""
        cells = self.thumbnail
        if cells is None or cells.size != 64 or len(self.shape) < 2 or not np.isfinite(cells).all() or not cells.std():
            return None
        return int(np.packbits(cells > cells.mean()).view(">u8")[0])


@dataclass(frozen=True)
class Item:
    """One item: where it stands, the file it comes from ("" if unknown), its inputs and its targets."""

    index: int
    file: str
    inputs: list[Part]
    targets: list[Tensor]

    @property
    def digest(self) -> bytes:
        """Hash of the bits of all inputs."""
        return b"".join(p.digest for p in self.inputs)

    @property
    def targets_digest(self) -> bytes:
        """Hash of the bits of all targets."""
        return b"".join(digest(t) for t in self.targets)

    @property
    def numbers(self) -> int:
        """Input values."""
        return sum(p.numbers for p in self.inputs)

    @property
    def constant(self) -> bool:
        """True if no input varies."""
        return all(p.least == p.largest for p in self.inputs)

    @property
    def place(self) -> str:
        """Index and file, for sentences."""
        return f"item {self.index}" + (f" ({self.file})" if self.file else "")


@dataclass
class Split:
    """One loader with what was read of it.

    Attributes:
        size: items the loader draws from; None if unknown.
        unreadable: index, file and error of items that raised.
        expanded: items with a tensor whose elements share memory (a stride of 0), and where.
        overwritten: items whose bits changed when later items were read: they share one buffer.
        plain: items that hold a tensor and share no memory.
        by_rows: rows of batches stand for items.
        stopped: seconds after which reading was broken off before all that was wanted; None if it was not.
    """

    name: str
    loader: Any
    dataset: Any
    size: int | None
    items: list[Item] = field(default_factory=list)
    unreadable: list[tuple[int, str, str]] = field(default_factory=list)
    expanded: dict[int, str] = field(default_factory=dict)
    overwritten: list[int] = field(default_factory=list)
    plain: int = 0
    by_rows: bool = False
    stopped: float | None = None


# ---- what checks call ------------------------------------------------------------------------------------------


def splits_of(lab: Any) -> list[Split]:
    """Training split, and validation split if there is one, read once for a Lab."""
    if "_splits" not in vars(lab):
        found = unread(lab)
        for k, split in enumerate(found):
            with as_it_was(lab.learn, split, lab.seed + k):  # else items that are drawn would be alike in both
                _read(lab.learn, split)
        vars(lab)["_splits"] = found
    return vars(lab)["_splits"]


def unread(lab: Any) -> list[Split]:
    """The same splits, of which nothing has been read."""
    return [_split(loader, name) for loader, name in zip(loaders(lab.learn), ("training", "validation"))]


def batches_of(lab: Any, split: Split) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Inputs and targets of the first few batches of a split as the loader yields them, read once for a Lab.

    Empty if the loader yields none, or raises.
    """
    kept = vars(lab).setdefault("_batches_of_splits", {})
    if split.name not in kept:
        found = []
        with as_it_was(lab.learn, split, lab.seed), suppress(Exception):
            began = time.monotonic()
            for batch in itertools.islice(passes(split.loader), BATCHES):
                found.append(halves(lab.learn, batch))
                if len(found) > 1 and time.monotonic() - began > SECONDS:
                    split.stopped = SECONDS
                    break
        kept[split.name] = found
    return kept[split.name]


def mixed_batches_of(lab: Any, split: Split) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Batches as the loader would make them of items spread over the split, so that no order of the items matters.

    A loader that cannot be indexed gives its first batches.
    """
    indices, bs, loader = indices_of(split), batch_size_of(split) or TOGETHER, split.loader
    if indices is None or split.by_rows:
        return batches_of(lab, split)
    chosen = [indices[k] for k in spread_over(len(indices), min(BATCHES * bs, MIXED))]
    found, began = [], time.monotonic()
    with as_it_was(lab.learn, split, lab.seed), suppress(Exception):  # the items were read before, one by one
        for some in (chosen[k : k + bs] for k in range(0, len(chosen), bs)):
            batch = _collate(loader, [item for i in some if (item := item_at(split, i)) is not None])
            if hasattr(loader, "do_batch"):
                batch = loader.after_batch(batch if loader.device is None else to_device(batch, loader.device))
            found.append(halves(lab.learn, batch))
            if len(found) > 1 and time.monotonic() - began > SECONDS:
                split.stopped = SECONDS
                break
    return found or batches_of(lab, split)


def read_again(lab: Any, split: Split, most: int = FIRST) -> list[tuple[Item, Item]]:
    """A few items read twice, while random streams move on. Pairs: before, after.

    They are taken as they come, since collating may draw anew on purpose (mixup); collated where they hold no target.
    """
    indices = [i.index for i in split.items[:most]]
    with as_it_was(lab.learn, split, lab.seed):
        twice = [{i: item for i in indices if (item := item_at(split, i)) is not None} for _ in range(2)]
        if all(halves(lab.learn, item)[1] for read in twice for item in read.values()):
            return [
                tuple(_item(split, i, *halves(lab.learn, read[i])) for read in twice) for i in twice[0] if i in twice[1]
            ]
        before, after = ({i.index: i for i in _collated(lab.learn, split, list(read.items()))} for read in twice)
        return [(before[i], after[i]) for i in before if i in after]


def targets_at(lab: Any, split: Split, index: int) -> list[Tensor]:
    """Targets of one item that has not been read yet. May raise whatever the data set raises."""
    if (label := label_of(split.dataset, index)) is not None and as_number(label) is not None:
        return [torch.as_tensor(label).as_subclass(Tensor)]
    return _collated(lab.learn, split, [(index, item_at(split, index))])[0].targets


def order_of(split: Split, most: int) -> list[int] | None:
    """Indices in the order of the next pass, without reading an item; None if the loader does not tell."""
    loader = split.loader
    with suppress(Exception):  # loaders of any kind
        if hasattr(loader, "get_idxs"):
            loader.randomize()
            loader.before_iter()
            found = list(itertools.islice(loader.get_idxs(), most))
        elif getattr(loader, "batch_sampler", None) is not None:
            found = list(itertools.islice(itertools.chain.from_iterable(loader.batch_sampler), most))
        else:
            return None
        return found if all(isinstance(i, int) for i in found) else None
    return None


def batch_size_of(split: Split) -> int | None:
    """Rows of a batch, as the loader states it."""
    size = getattr(split.loader, "bs", None) or getattr(split.loader, "batch_size", None)
    return size if isinstance(size, int) and size > 0 else None


def workers_of(split: Split) -> int:
    """Worker processes that the loader starts."""
    fake = getattr(split.loader, "fake_l", None)
    return int(getattr(split.loader if fake is None else fake, "num_workers", 0) or 0)


# ---- reading ---------------------------------------------------------------------------------------------------


@contextmanager
def as_it_was(learn: Learner, split: Split, seed: int) -> Iterator[None]:
    """Random streams start at a seed and end as they began; so do the loader's attributes and generators."""
    python, numpy, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    things = [
        t for t in (split.loader, getattr(split.loader, "sampler", None), split.dataset) if hasattr(t, "__dict__")
    ]
    bound = [(t, dict(vars(t))) for t in things]
    states = [(r, r.getstate()) for _, b in bound for r in b.values() if isinstance(r, random.Random)]
    generators = [(g, g.get_state()) for _, b in bound for g in b.values() if isinstance(g, torch.Generator)]
    seed_everything(seed)
    try:
        yield
    finally:
        for thing, was in bound:
            vars(thing).clear()
            vars(thing).update(was)
        for r, state in states:
            r.setstate(state)
        for g, state in generators:
            g.set_state(state)
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(torchs)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


def passes(loader: Any) -> Iterator[Any]:
    """The batches of one pass, read without workers where the loader allows it."""
    with ExitStack() as stack:
        fake = getattr(loader, "fake_l", None)
        if fake is not None:
            stack.enter_context(fake.no_multiproc())
        sampler, dataset = getattr(loader, "batch_sampler", None), getattr(loader, "dataset", None)
        if fake is None and sampler is not None and _by_index(dataset) and hasattr(loader, "collate_fn"):
            for indices in sampler:  # as torch's own loader does in a worker
                yield loader.collate_fn([dataset[i] for i in indices])
        else:
            yield from iter(loader)


def _split(loader: Any, name: str) -> Split:
    dataset = getattr(loader, "dataset", None)
    size = getattr(loader, "n", None)
    if size is None and dataset is not None:
        with suppress(Exception):  # an iterable data set has no length
            size = len(dataset)
    return Split(name, loader, dataset, size)


def spread_over(count: int, most: int) -> list[int]:
    """Up to `most` indices below `count`: one of each of as many stretches, drawn, so that no period of the data set is
    met, and in an order that is spread out as well. The same for the same count."""
    strata = min(count, most)
    if not strata:
        return []
    bounds = [k * count // strata for k in range(strata + 1)]
    places = np.random.default_rng(count).random(strata)
    order = np.argsort([(k * GOLDEN) % 1 for k in range(strata)], kind="stable")
    return [bounds[k] + int(places[k] * (bounds[k + 1] - bounds[k])) for k in order]


def indices_of(split: Split) -> Sequence[int] | None:
    """Every index that the loader may ask for; None if it cannot be indexed."""
    chosen = getattr(getattr(split.loader, "sampler", None), "indices", None)
    if isinstance(chosen, Sequence):
        return chosen
    indexed = getattr(split.loader, "indexed", _by_index(split.dataset))
    return range(split.size) if indexed and split.size and split.dataset is not None else None


def _by_index(dataset: Any) -> bool:
    return hasattr(dataset, "__getitem__") and not isinstance(dataset, IterableDataset)


def item_at(split: Split, index: int) -> Any:
    """Item `index` as the loader would collate it."""
    make = getattr(split.loader, "do_item", None)
    return split.dataset[index] if make is None else make(index)


def _read(learn: Learner, split: Split) -> None:
    indices = indices_of(split)
    if indices is None:
        return _read_rows(learn, split)
    chosen, deadline = [indices[k] for k in spread_over(len(indices), ITEMS)], time.monotonic() + SECONDS
    _read_some(learn, split, chosen[:FIRST], deadline)
    if not split.items and split.unreadable:
        told, split.unreadable = split.unreadable, []
        _read_rows(learn, split)  # an index may mean something else to this data set: that is no fault
        split.unreadable = [] if split.items else told
        return None
    for k in range(FIRST, len(chosen), TOGETHER):
        _read_some(learn, split, chosen[k : k + TOGETHER], deadline)
    return None


def _read_some(learn: Learner, split: Split, indices: Iterable[int], deadline: float) -> None:
    read, bits = [], []
    for i in indices:
        if len(split.items) + len(read) > 1 and time.monotonic() > deadline:
            split.stopped = SECONDS
            break
        try:
            item = item_at(split, i)
        except Exception as e:  # is told as evidence, with its index and file
            split.unreadable.append((i, file_of(split.dataset, i), f"{type(e).__name__}: {e}"))
            continue
        if item is None:  # fastai's way to skip an item
            continue
        read.append((i, item))
        if held := _in_memory(item):
            strides = [f"shape {tuple(t.shape)}, strides {t.stride()}" for t in held if _expanded(t)]
            split.plain += not strides
            if strides:
                split.expanded[i] = strides[0]
            bits.append((i, held, [digest(t) for t in held]))
    split.overwritten += [i for i, held, was in bits if [digest(t) for t in held] != was]
    split.items += _collated(learn, split, read)


def _in_memory(tree: Any) -> list[Tensor]:
    "Every tensor of an item, and every array that can be seen as one, without a copy."
    if isinstance(tree, Tensor):
        return [tree.detach().as_subclass(Tensor)] if tree.layout is torch.strided else []
    if isinstance(tree, np.ndarray):
        simple = tree.dtype.kind in "fiub" and tree.flags.writeable and tree.flags.c_contiguous
        return [torch.from_numpy(tree)] if simple else []
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return [t for v in tree for t in _in_memory(v)] if isinstance(tree, (tuple, list)) else []


def _collated(learn: Learner, split: Split, read: list[tuple[int, Any]]) -> list[Item]:
    "Items as rows of the batch that the loader would make of them; as they are where that is not possible."
    read = [(i, item) for i, item in read if item is not None]
    if not read:
        return []
    inputs, targets = _rows_of(learn, split.loader, [item for _, item in read])
    found = []
    for k, (i, item) in enumerate(read):
        xs, ys = ([t[k] for t in inputs], [t[k] for t in targets]) if inputs else halves(learn, item)
        found.append(_item(split, i, xs, ys))
    return found


def _item(split: Split, index: int, inputs: list[Tensor], targets: list[Tensor]) -> Item:
    parts = [part(t, n) for n, t in enumerate(inputs)]
    return Item(index, file_of(split.dataset, index), parts, [_kept(t) for t in targets])


def _rows_of(learn: Learner, loader: Any, items: list[Any]) -> tuple[list[Tensor], list[Tensor]]:
    "Inputs and targets of items collated, with a row for each; empty where that is not possible."
    try:
        batch = _collate(loader, items)
        if not isinstance(batch, (Tensor, tuple, list, dict)):
            batch = loader.after_batch(batch)  # a table, whose batch transform makes the tensors
        inputs, targets = halves(learn, batch)
    except Exception:  # a collate function that insists on a whole batch
        return [], []
    fit = all(t.ndim and t.shape[0] == len(items) for t in [*inputs, *targets])
    return (inputs, targets) if fit else ([], [])


def _collate(loader: Any, items: list[Any]) -> Any:
    make = getattr(loader, "do_batch", None)
    if make is None:
        return loader.collate_fn(items)
    return make(items)


def _read_rows(learn: Learner, split: Split) -> None:
    split.by_rows, began, index = True, time.monotonic(), 0
    with suppress(Exception):  # reading the first batch has told of it already
        for batch in passes(split.loader):
            inputs, targets = halves(learn, batch)
            rows = {t.shape[0] if t.ndim else 0 for t in [*inputs, *targets]}
            if len(rows) != 1 or not inputs:
                break  # no row for each item
            for k in range(rows.pop()):
                found = [part(t[k], n) for n, t in enumerate(inputs)]
                split.items.append(Item(index, "", found, [_kept(t[k]) for t in targets]))
                index += 1
            if time.monotonic() - began > SECONDS and index > 1:
                split.stopped = SECONDS
                break
            if index >= ITEMS:
                break


def halves(learn: Learner, batch: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Input tensors and target tensors of a batch or an item, told apart as fastai's Learner does."""
    if not isinstance(batch, (tuple, list)):
        return _held(batch), []
    n = None
    with suppress(Exception):  # finding it out may read a batch, which may raise
        n = getattr(learn.dls, "n_inp", None)
    n = (1 if len(batch) == 1 else len(batch) - 1) if n is None else n
    return _held(list(batch[:n])), _held(list(batch[n:]))


def _held(tree: Any) -> list[Tensor]:
    "Every tensor, array, picture and number of a structure, as tensors."
    if isinstance(tree, Tensor):
        return [tree.detach().as_subclass(Tensor)]
    if isinstance(tree, (Image.Image, np.ndarray, np.generic)):
        array = np.asarray(tree)
        return [torch.from_numpy(np.array(array))] if array.dtype.kind in "fiub" else []
    if isinstance(tree, (bool, int, float)):
        return [torch.tensor(tree)]
    if isinstance(tree, dict):
        return [t for v in tree.values() for t in _held(v)]
    if isinstance(tree, (tuple, list)):
        return [t for v in tree for t in _held(v)]
    return [t.detach() for t in tensors(tree)] if hasattr(tree, "items") and not isinstance(tree, str) else []


def _kept(t: Tensor) -> Tensor:
    "A target; of a large one every value once (class ids), or a sample of its values, in three dimensions."
    if t.numel() <= KEPT:
        return t.clone().cpu()
    few = t.flatten()[:: t.numel() // KEPT] if t.is_floating_point() else t.unique()
    return few[None, None].clone().cpu()


# ---- facts of one tensor ---------------------------------------------------------------------------------------


def digest(t: Tensor) -> bytes:
    """Hash of shape, dtype and bits."""
    shape = tuple(t.shape)
    t = (t.to_dense() if t.layout is not torch.strided else t).detach().cpu().contiguous().flatten()
    t = t.clone(memory_format=torch.contiguous_format) if t.numel() == 1 else t  # one value may have any stride
    h = hashlib.blake2b(f"{shape} {t.dtype}".encode(), digest_size=16)
    h.update(t.view(torch.uint8).numpy().data if t.numel() else b"")
    return h.digest()


def _expanded(t: Tensor) -> bool:
    return any(s == 0 and n > 1 for s, n in zip(t.stride(), t.shape))


def part(t: Tensor, number: int) -> Part:
    """Facts of one input tensor of one item."""
    t = t.detach().cpu()
    values = t.float() if t.dtype not in (torch.float32, torch.float64) else t
    nan, inf = (torch.isnan(values), torch.isinf(values)) if t.is_floating_point() else (None, None)
    nans, infs = (int(nan.sum()), int(inf.sum())) if nan is not None else (0, 0)
    good = values if not nans + infs else values[~(nan | inf)]
    empty = not good.numel()
    std = math.nan if empty else float(good.double().std(unbiased=False)) if good.numel() < 64 else float(good.std())
    return Part(
        place=f"input {number + 1}",
        shape=tuple(t.shape),
        floating=t.is_floating_point(),
        nans=nans,
        infinities=infs,
        bad=_place(nan | inf) if nans + infs else "",
        least=math.nan if empty else float(good.min()),
        largest=math.nan if empty else float(good.max()),
        mean=math.nan if empty else float(good.mean()),
        std=std,
        thumbnail=_thumbnail(values) if t.is_floating_point() or t.ndim > 1 else None,
        digest=digest(t),
        integers=None if t.is_floating_point() or t.is_complex() or t.numel() > 64 else t.flatten().clone().numpy(),
    )


def _place(bad: Tensor) -> str:
    first = bad.nonzero()[0].tolist()
    if not first:
        return "the value"
    return f"column {first[0]}" if len(first) == 1 else f"channel {first[0]}, position {first[1:]}"


def _thumbnail(t: Tensor) -> np.ndarray | None:
    if t.ndim < 2 or not t.numel():
        flat = t.flatten()
        return (F.adaptive_avg_pool1d(flat[None], 64)[0] if flat.numel() > 64 else flat).double().numpy()
    plane = t if t.ndim == 2 else t.flatten(0, -3).float().mean(0)
    if t.ndim == 3 and t.shape[-1] <= 4 < t.shape[0]:  # height, width, channels
        plane = t.float().mean(-1)
    if min(plane.shape) < 8:
        return plane.flatten()[:64].double().numpy()
    return F.adaptive_avg_pool2d(plane.float()[None], 8)[0].flatten().double().numpy()


# ---- what a data set tells of itself ---------------------------------------------------------------------------


def unwrapped(dataset: Any, index: int) -> tuple[Any, int]:
    """The data set behind subsets, and the index there."""
    while hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        dataset, index = dataset.dataset, dataset.indices[index]
    return dataset, index


def file_of(dataset: Any, index: int) -> str:
    """Parent folder and name of the file that an item comes from; "" if the data set does not tell."""
    path = path_of(dataset, index)
    return "/".join(path.parts[-2:]) if path else ""


def path_of(dataset: Any, index: int) -> Path | None:
    """The file that an item comes from, as far as the data set's attributes tell."""
    with suppress(Exception):  # a data set of any kind: whatever it has under these names may raise
        dataset, index = unwrapped(dataset, index)
        for name in ("items", "samples", "imgs", "paths", "files", "fnames", "filenames"):
            held = vars(dataset).get(name) if name != "items" else getattr(dataset, name, None)
            if held is None or callable(held) or len(held) <= index:
                continue
            entry = held[index]
            entry = entry[0] if isinstance(entry, (tuple, list)) and entry else entry
            if isinstance(entry, PathLike) or (isinstance(entry, str) and FILE.search(entry)):
                return Path(entry)
    return None


def label_of(dataset: Any, index: int) -> Any:
    """The label of an item, without reading its inputs; None if the data set keeps it nowhere apart."""
    with suppress(Exception):
        dataset, index = unwrapped(dataset, index)
        lists = getattr(dataset, "tls", None)
        if lists is not None and len(lists) > getattr(dataset, "n_inp", 1):
            return lists[-1][index]
        for name in ("targets", "labels"):
            held = vars(dataset).get(name)
            if held is not None and not getattr(dataset, "target_transform", None) and len(held) == len(dataset):
                return held[index]
        held = vars(dataset).get("tensors")
        if isinstance(held, (tuple, list)) and len(held) > 1:
            return held[-1][index]
    return None


def as_number(label: Any) -> float | None:
    """A class index or a single number as a float; None for anything else."""
    if isinstance(label, (np.ndarray, np.generic)):
        return float(label.reshape(-1)[0]) if label.size == 1 and label.dtype.kind in "fiub" else None
    if isinstance(label, Tensor):
        return float(label) if label.numel() == 1 and not label.is_complex() else None
    return float(label) if isinstance(label, (bool, int, float)) else None


def class_index(t: Tensor) -> int | None:
    """The class index that a target holds; None if it holds something else."""
    if t.numel() != 1 or t.ndim > 1 or t.is_floating_point() or t.is_complex():
        return None
    return int(t)
