"""Rows of the batch as a person looks at them: pictures or numbers, with target, prediction and loss."""

from __future__ import annotations

import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from diagnose.diagnosis import Sample, SampleInput
from diagnose.lab import Lab
from diagnose.stats import floats, tensors
from diagnose.trial import forward

MOST = 8  # rows shown
SIDE = 128  # pixels: smaller pictures are enlarged by whole factors, so that a pixel stays a pixel


def samples(lab: Lab, model: torch.nn.Module | None = None) -> tuple[list[Sample], dict[str, bytes]]:
    """The first rows of the fixed batch, and their pictures as PNG by file name.

    Args:
        model: whose predictions are shown, such as the copy trained on this batch; None shows those before training.
    """
    copy, files, rows = lab.twin(), {}, []
    output = lab.output if model is None else lab.predicted(copy, forward(model, lab.xb))
    titles = lab.task.titles() if lab.task else []
    for i in range(min(MOST, lab.rows)):
        inputs = []
        for k, x in enumerate(tensors(lab.xb)):
            title = titles[k] if k < len(titles) else f"input {k + 1}"
            if not x.ndim or x.shape[0] != lab.rows:
                shape = "×".join(map(str, x.shape)) or "one number"
                inputs.append(SampleInput(title=title, text=f"{shape}, not one for each row"))
                continue
            png = picture(x[i]) if x.ndim == 4 else None
            if png:
                name = f"samples/{i:02}-{k}.png"
                files[name] = png
                inputs.append(SampleInput(title=title, file=name))
            else:
                inputs.append(SampleInput(title=title, text=numbers(x[i])))
        outs = floats(output)
        rows.append(
            Sample(
                inputs=inputs,
                target="; ".join(_target(lab, t[i]) for t in tensors(lab.yb) if t.ndim and t.shape[0] == lab.rows),
                prediction="; ".join(_prediction(lab, t[i]) for t in outs if t.shape[0] == lab.rows),
                loss=_row_loss(copy, output, lab.yb, i),
            )
        )
    return rows, files


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


def _target(lab: Lab, t: Tensor) -> str:
    vocab = _vocab(lab)
    if t.ndim == 0 and not t.is_floating_point():
        return f"{vocab[int(t)]}" if vocab and 0 <= int(t) < len(vocab) else f"class {int(t)}"
    return numbers(t)


def _prediction(lab: Lab, t: Tensor) -> str:
    index_targets = any(not y.is_floating_point() and y.ndim == 1 for y in tensors(lab.yb))
    if t.ndim == 1 and t.numel() > 1 and index_targets:
        vocab, best = _vocab(lab), int(t.argmax())
        name = vocab[best] if vocab and best < len(vocab) else f"class {best}"
        return f"{name} (score {float(t[best]):.2g})"
    return numbers(t)


def _vocab(lab: Lab) -> list | None:
    vocab = getattr(lab.learn.dls, "vocab", None)
    return (
        list(vocab) if vocab is not None and not isinstance(vocab, (str, dict)) and hasattr(vocab, "__len__") else None
    )


def _row_loss(copy: Any, output: Any, yb: tuple, i: int) -> float | None:
    if not isinstance(output, Tensor) or any(not y.ndim for y in tensors(yb)):
        return None
    try:
        with torch.no_grad():
            return float(copy.loss_func(output[i : i + 1], *(y[i : i + 1] for y in yb)).float().mean())
    except Exception:  # a loss over pairs of rows has no loss for one
        return None
