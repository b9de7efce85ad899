"""Batches of chosen items, and loaders without what is random in them."""

from __future__ import annotations

from typing import Any

from fastai.data.load import DataLoader
from fastai.torch_core import to_device
from fastai.vision.augment import RandTransform

from diagnose.data import Split, as_it_was, indices_of, item_at
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

STAGES = ("after_item", "before_batch", "after_batch")


def batches_at(lab: Lab, split: Split, indices: list[int], rows: int) -> list[Any]:
    """Batches of given items in the given order, as the loader would make them; a last smaller one is dropped.

    Raises:
        NotApplicable: the loader cannot be indexed, or an item cannot be read.
    """
    if indices_of(split) is None or split.by_rows:
        raise NotApplicable("no item can be read by its index")
    loader, found = split.loader, []
    with as_it_was(lab.learn, split, lab.seed):
        try:
            for k in range(0, len(indices) - rows + 1, rows):
                items = [item_at(split, i) for i in indices[k : k + rows]]
                batch = to_device((getattr(loader, "do_batch", None) or loader.collate_fn)(items), lab.device)
                found.append(loader.after_batch(batch) if hasattr(loader, "do_batch") else batch)
        except Exception as e:
            raise NotApplicable(f"reading items raised {type(e).__name__}: {e}") from e
    return found


def without_random(loader: Any) -> tuple[DataLoader, list[str]]:
    """A loader of its own over the same data set without fastai's random transforms, and the names of these.

    Raises:
        NotApplicable: there is none.
    """
    left_out = [type(t).__name__ for stage in STAGES for t in _transforms(loader, stage) if _is_random(t)]
    if not left_out or not isinstance(loader, DataLoader):
        raise NotApplicable("the training loader has no random transform of fastai's")
    plain = loader.new(dataset=loader.dataset, num_workers=0)
    for stage in STAGES:
        if random := [t for t in _transforms(loader, stage) if _is_random(t)]:
            kept = [t for t in _transforms(loader, stage) if t not in random]
            setattr(plain, stage, type(getattr(loader, stage))(kept))  # fastai's Pipeline
    return plain, left_out


def _transforms(loader: Any, stage: str) -> list:
    return list(getattr(getattr(loader, stage, None), "fs", []))


def _is_random(transform: Any) -> bool:
    return isinstance(transform, RandTransform)
