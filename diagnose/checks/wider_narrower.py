"""A wider or narrower net learns no more.

## What it does
Where the model is an nn.Sequential of known layers, builds it anew with every hidden width doubled, and with every one
halved, draws the weights as PyTorch does, and learns the fixed batch with each; where neither learns more, also with
eight times the width, since two units in place of one may still be too few.

## Why it matters
Capacity is what people suspect first. If twice the width learns no more of sixteen rows, it is something else.

## How it is judged
Warns if less than 0.8 of the batch is learned as it is, and 0.3 more with another width. It only locates a fault, and
never fails.

## What to do
If the wider net learns: widen. If the narrower one does: the weights of the wide one are drawn too large.

## Source
The notes' checklist, items 2 and 16; Zhang et al. 2017 (nets of usual width memorise anything).
"""

import copy
import math

from fastai.learner import Learner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from diagnose.changes import Change, fresh_optimizer
from diagnose.checks import Evidence, EvidenceList
from diagnose.checks._comparison import ComparedTrial
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.trial import level

FACTORS = (2.0, 0.5, 8.0)
MORE = 0.1  # learned, which makes a still wider net needless


class WiderNarrower(ComparedTrial):
    """Hidden widths doubled and halved."""

    order = 78
    cost = "2 or 3 times up to 200 steps on 16 rows"

    def measure(self, lab: Lab) -> EvidenceList:
        learned = {}
        for factor in FACTORS:
            change = hidden_widths(lab, factor)
            lab.say(change.name)
            learned[change.name] = lab.trial(change, scale=lab.scale).learned
            if factor == FACTORS[1] and max(map(level, learned.values())) >= level(lab.baseline.learned) + MORE:
                break
        best = max(learned, key=lambda n: -math.inf if math.isnan(learned[n]) else learned[n])
        return EvidenceList(
            [
                Evidence(name="change", value=best),
                Evidence(name="learned", value=lab.baseline.learned, unit="share", where="as it is"),
                Evidence(name="learned", value=learned[best], unit="share", where="changed"),
                *(Evidence(name="learned", value=v, unit="share", where=n) for n, v in learned.items()),
            ]
        )


def hidden_widths(lab: Lab, factor: float) -> Change:
    """Every hidden width times `factor`, all weights drawn anew; with 1 only that.

    Raises:
        NotApplicable: the model is not of the kind that `resized` knows.
    """
    resized(copy.deepcopy(lab.twin().model), factor)  # raises here if it cannot be done

    def apply(twin: Learner) -> None:
        device = next(twin.model.parameters()).device
        twin.model = resized(twin.model, factor).to(device)
        fresh_optimizer().apply(twin)

    return Change(f"hidden widths times {factor:g}", apply)


def resized(model: nn.Module, factor: float) -> nn.Module:
    """A plain nn.Sequential with every hidden width times `factor`; changes the model in place.

    Raises:
        NotApplicable: it is no plain nn.Sequential, or holds a layer of which it is not known how widths pass it.
    """
    chain = _chain(model)
    weighted = [i for i, (_, _, m) in enumerate(chain) if isinstance(m, (nn.Linear, _ConvNd))]
    if len(weighted) < 2:
        raise NotApplicable("the model has no hidden layer")
    old = new = None
    for i, (parent, name, layer) in enumerate(chain):
        if i in weighted:
            fresh = _layer(layer, old, new, factor if i != weighted[-1] else 1.0)
            old, new = _width(layer), _width(fresh)
        elif isinstance(layer, _BatchNorm) and old is not None:
            fresh = type(layer)(new, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        elif any(True for _ in layer.parameters()):
            raise NotApplicable(f"{type(layer).__name__} has weights of a size that is not known to be a width")
        else:
            continue
        setattr(parent, name, fresh)
    return model


def _chain(model: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    if type(model) is not nn.Sequential:
        raise NotApplicable(f"{type(model).__name__} is no plain nn.Sequential")
    found = []
    for name, layer in model.named_children():
        found += _chain(layer) if type(layer) is nn.Sequential else [(model, name, layer)]
        if type(layer) is not nn.Sequential and any(True for _ in layer.children()):
            raise NotApplicable(f"{type(layer).__name__} is no plain layer")
    return found


def _width(layer: nn.Module) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _layer(layer: nn.Module, old: int | None, new: int | None, factor: float) -> nn.Module:
    "The same layer for another width; a Linear behind a Flatten gets as many values of each channel as before."
    has_bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        given = layer.in_features
        if old is not None and given % old:
            raise NotApplicable("a Linear gets a number of values that is no multiple of the channels before it")
        return nn.Linear(given if old is None else given // old * new, _scaled(layer.out_features, factor), has_bias)
    if layer.groups != 1 or "Transpose" in type(layer).__name__:
        raise NotApplicable(f"{type(layer).__name__} in groups or transposed has no plain width")
    given = layer.in_channels if old is None else new
    return type(layer)(
        *(given, _scaled(layer.out_channels, factor), layer.kernel_size, layer.stride, layer.padding, layer.dilation),
        bias=has_bias,
        padding_mode=layer.padding_mode,
    )


def _scaled(width: int, factor: float) -> int:
    return max(round(width * factor), 1)
