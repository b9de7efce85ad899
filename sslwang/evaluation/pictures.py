"""Which predictions are worth a look, and the tensors they were made of as pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image

from sslwang.data.pictures import viewable

SHOWN = 12  # rows of each kind
KINDS = {
    "most wrong": "the least probability for the true class",
    "least wrong": "the greatest probability for the true class",
    "most sure": "the greatest probability for what was predicted, right or wrong",
    "least sure": "the smallest probability for what was predicted",
}


def ranked(probabilities: np.ndarray, labels: np.ndarray, count: int = SHOWN) -> dict[str, list[int]]:
    """Rows by kind (see `KINDS`), the most extreme first; equal ones in the order of the data.

    Args:
        probabilities: (N, C). labels: (N,), places of classes.
    """
    true = np.asarray(probabilities, dtype=np.float64)[np.arange(len(labels)), labels]
    sure = np.asarray(probabilities, dtype=np.float64).max(1)
    order = {"most wrong": true, "least wrong": -true, "most sure": -sure, "least sure": sure}
    return {kind: np.argsort(order[kind], kind="stable")[:count].tolist() for kind in KINDS}


def data_uri(tensor: torch.Tensor) -> str:
    """A tensor (3, H, W) of any range as a PNG inside an address: its range is stretched to black and white, no pixel
    is added or left out."""
    levels = (viewable(tensor.detach().float().cpu()).clamp(0, 1) * 255).round().to(torch.uint8)
    written = io.BytesIO()
    Image.fromarray(levels.numpy()).save(written, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


def chosen_rows(
    probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str], tensor: Callable[[int], torch.Tensor]
) -> dict:
    """What a page needs to show the rows of every kind, as JSON can hold it.

    Args:
        probabilities: (N, C). labels: (N,). names: of the N images.
        tensor: the very tensor (3, H, W) that was scored of one row.
    """
    kinds = ranked(probabilities, labels)
    rows = {}
    for i in sorted({i for places in kinds.values() for i in places}):
        predicted = int(probabilities[i].argmax())
        rows[str(i)] = {
            "name": str(names[i]),
            "truth": int(labels[i]),
            "predicted": predicted,
            "probability_of_truth": float(probabilities[i, labels[i]]),
            "probability": float(probabilities[i, predicted]),
            "image": data_uri(tensor(i)),
        }
    return {"kinds": kinds, "rows": rows}
