"""Rows of the batch as a person looks at them: pictures, words, columns or numbers, with target, prediction and loss.

Shown are the first rows of the fixed batch, and of the first training batch those with the largest and the smallest
loss: a wrong label, a broken picture or an empty text is found among the hardest items sooner than anywhere.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from fastai.callback.mixup import MixHandler
from PIL import Image
from torch import Tensor

from diagnose.diagnosis import Sample, SampleInput
from diagnose.isolate import seed_everything
from diagnose.lab import Lab
from diagnose.stats import floats, replaced, tensors
from diagnose.trial import forward, predicted, prepared

MOST = 8  # rows shown
EXTREMES = 4  # hardest and easiest rows shown
SEARCHED = 128  # rows of the first training batch among which those are looked for
WORDS = 80  # of a text that are shown
SIDE = 128  # pixels: smaller pictures are enlarged by whole factors, so that a pixel stays a pixel


def samples(lab: Lab, model: torch.nn.Module | None = None) -> tuple[list[Sample], dict[str, bytes]]:
    """The first rows of the fixed batch, the hardest and the easiest of the first training batch, and their pictures as
    PNG by file name.

    Args:
        model: whose predictions are shown, such as the copy trained on the fixed batch; None shows those before
            training.
    """
    copy = lab.twin()
    output = lab.output if model is None else lab.predicted(copy, forward(model, lab.xb))
    shown = _Rows(lab, copy, lab.xb, lab.yb, output, lab.rows)
    found = [shown.sample(i, f"{i:02}") for i in range(min(MOST, lab.rows))]
    files = shown.files
    if lab.time_left > 0 and (every := _searched(lab, copy, model, shown)) is not None:
        losses = {i: loss for i in range(every.rows) if (loss := every.loss(i)) is not None}
        order = sorted(losses, key=lambda i: (not math.isnan(losses[i]), -losses[i], i))
        alike = len(set(losses.values())) < 2  # a loss over pairs of rows may be the same for each row alone
        most = 0 if alike else min(EXTREMES, len(order) // 2)
        hardest, easiest = order[:most], order[::-1][:most]
        for name, rows in (("hardest", hardest), ("easiest", easiest)):
            of = f"of {len(order)} items of the first training batch"
            for k, i in enumerate(rows):
                found.append(every.sample(i, f"{name}-{k:02}", f"{name} {k + 1} {of}"))
        files |= every.files
    return found, files


def _searched(lab: Lab, copy: Any, model: torch.nn.Module | None, fixed: _Rows) -> _Rows | None:
    "The rows of the first training batch; None if it cannot be shown row by row, or the model does not take it."
    if lab.batch is lab.whole_batch:
        return fixed
    parts = tensors(lab.whole_batch)
    batch = replaced(lab.whole_batch, [t[:SEARCHED] for t in parts])
    if not lab.accepts(batch):
        return None
    with copy.removed_cbs([cb for cb in copy.cbs if isinstance(cb, MixHandler)]):  # a mixed item has no label
        seed_everything(lab.seed)
        xb, yb = prepared(copy, batch)
    copy.training = True
    seed_everything(lab.seed)
    output = predicted(copy, forward(copy.model if model is None else model, xb), xb, yb)
    return _Rows(lab, copy, xb, yb, output, len(parts[0][:SEARCHED]))


@dataclass
class _Rows:
    "A batch, as it reached the model, with what the model made of it."

    lab: Lab
    copy: Any
    xb: tuple
    yb: tuple
    output: Any
    rows: int
    files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self):
        self.names = _Names(self.lab.learn.dls, tensors(self.lab.whole_batch))

    def sample(self, i: int, name: str, rank: str = "") -> Sample:
        own = lambda parts: [t[i] for t in parts if t.ndim and t.shape[0] == self.rows]  # noqa: E731
        answers, targets = own(floats(self.output)), own(tensors(self.yb))
        return Sample(
            inputs=self._inputs(i, name),
            target="; ".join(self.names.target(t, k) for k, t in enumerate(targets)),
            prediction="; ".join(self.names.prediction(t, k, targets) for k, t in enumerate(answers)),
            loss=self.loss(i),
            rank=rank,
        )

    def loss(self, i: int) -> float | None:
        """The loss of one row alone; None where it has none, as under a loss over pairs of rows."""
        if not isinstance(self.output, Tensor) or any(not y.ndim for y in tensors(self.yb)):
            return None
        try:
            with torch.no_grad():
                mine = (y[i : i + 1] for y in self.yb)
                return float(self.copy.loss_func(self.output[i : i + 1], *mine).float().mean())
        except Exception:  # a loss over pairs of rows has no loss for one
            return None

    def _inputs(self, i: int, name: str) -> list[SampleInput]:
        parts = tensors(self.xb)
        if columns := self.names.columns(parts):
            return [SampleInput(title="row", text="\n".join(columns(*(x[i] for x in parts))))]
        titles = self.lab.task.titles() if self.lab.task else []
        inputs = []
        for k, x in enumerate(parts):
            title = titles[k] if k < len(titles) else f"input {k + 1}"
            if not x.ndim or x.shape[0] != self.rows:
                shape = "×".join(map(str, x.shape)) or "one number"
                inputs.append(SampleInput(title=title, text=f"{shape}, not one for each row"))
            elif x.ndim == 4 and (png := picture(x[i])):
                file = f"samples/{name}-{k}.png"
                self.files[file] = png
                inputs.append(SampleInput(title=title, file=file))
            else:
                inputs.append(SampleInput(title=title, text=self.names.text(x[i]) or numbers(x[i])))
        return inputs


class _Names:
    """What fastai's loaders know of their numbers: words of a text, names of classes and of columns. Other loaders know
    nothing, and numbers stay numbers."""

    def __init__(self, dls: Any, batch: list[Tensor]):
        vocab = getattr(dls, "vocab", None)
        parts = _listed(vocab)
        nested = bool(parts) and all(_listed(p) is not None for p in parts)
        every = [_listed(p) for p in parts] if nested else [parts] if parts else []
        texts = [v for v in every if "xxunk" in v]
        if not texts and len(every) == 1 and any(type(t).__name__.endswith("TensorText") for t in batch):
            texts = every  # a language model's own vocabulary
        self.words = texts[0] if texts else None
        self.classes = [v for v in every if v not in texts]
        self.table = getattr(getattr(dls, "train", None), "dataset", None)

    def text(self, x: Tensor) -> str:
        """The words of a row of token numbers."""
        if self.words is None or x.is_floating_point() or x.ndim != 1:
            return ""
        said = [str(self.words[v]) if 0 <= v < len(self.words) else f"token {v}" for v in x.tolist()]
        said = [w for w in said if w != "xxpad"]
        return " ".join(said[:WORDS]) + (f" … ({len(said)} words)" if len(said) > WORDS else "")

    def target(self, t: Tensor, k: int) -> str:
        names = self._of(k)
        if t.numel() == 1 and not t.is_floating_point():
            index = int(t)
            return str(names[index]) if names and 0 <= index < len(names) else f"class {index}"
        if names and t.ndim == 1 and len(t) == len(names) and bool(((t == 0) | (t == 1)).all()):
            return ", ".join(str(names[i]) for i in t.nonzero().flatten().tolist()) or "none"
        return self.text(t) or numbers(t)

    def prediction(self, t: Tensor, k: int, targets: list[Tensor]) -> str:
        if t.ndim == 1 and t.numel() > 1 and any(not y.is_floating_point() and y.numel() == 1 for y in targets):
            names, best = self._of(k), int(t.argmax())
            name = names[best] if names and best < len(names) else f"class {best}"
            return f"{name} (score {float(t[best]):.2g})"
        if t.ndim == 2 and self.words is not None and t.shape[1] == len(self.words):
            return self.text(t.argmax(1))
        return numbers(t)

    def columns(self, parts: list[Tensor]) -> Any:
        """A function from a row of (categories, numbers) to lines, for fastai's tabular loaders; else None."""
        cats, conts = (_listed(getattr(self.table, name, None)) for name in ("cat_names", "cont_names"))
        if cats is None or conts is None or [p.shape[1:] for p in parts] != [(len(cats),), (len(conts),)]:
            return None
        classes = getattr(self.table, "classes", None) or {}
        normalize = getattr(getattr(self.table, "procs", None), "normalize", None)
        means, stds = (getattr(normalize, name, None) or {} for name in ("means", "stds"))

        def lines(categories: Tensor, values: Tensor) -> list[str]:
            told = []
            for name, code in zip(cats, categories.tolist()):
                known = _listed(classes.get(name)) or []
                told.append(f"{name} = {known[code] if 0 <= code < len(known) else code}")
            for name, value in zip(conts, values.tolist()):
                told.append(f"{name} = {value * float(stds.get(name, 1)) + float(means.get(name, 0)):.4g}")
            return told

        return lines

    def _of(self, k: int) -> list | None:
        return self.classes[min(k, len(self.classes) - 1)] if self.classes else None


def _listed(value: Any) -> list | None:
    "A list of anything that is like one; None for all else, texts and dicts among it."
    if value is None or isinstance(value, (str, bytes, dict, Tensor)) or not hasattr(value, "__len__"):
        return None
    return list(value)


def picture(x: Tensor) -> bytes | None:
    """PNG of one image (channels, height, width), stretched from its least to its largest value; None if it is none."""
    if x.ndim != 3 or min(x.shape[1:]) < 2 or x.shape[0] < 1:
        return None
    x = x.detach().float().cpu()
    x = x[:3] if x.shape[0] >= 3 else x[:1]
    x = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(x.min()), float(x.max())
    scaled = ((x - low) / max(high - low, 1e-12) * 255).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(scaled.squeeze(-1) if scaled.shape[-1] == 1 else scaled)
    factor = max(SIDE // max(image.size), 1)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    elif max(image.size) > 2 * SIDE:
        image.thumbnail((2 * SIDE, 2 * SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def numbers(x: Tensor, most: int = 12) -> str:
    """The first values of a tensor as text."""
    flat = x.detach().flatten()
    shown = ", ".join(_number(v) for v in flat[:most].tolist())
    return shown + (f", … ({flat.numel()} values)" if flat.numel() > most else "")


def _number(v: Any) -> str:
    return f"{v:.3g}" if isinstance(v, float) else str(v)
