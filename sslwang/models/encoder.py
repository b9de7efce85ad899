"""Encoders: images (B, 3, H, W) to maps (B, C, h, w), chosen by name, from new or given weights, frozen or not."""

from __future__ import annotations

import bisect
import difflib
import itertools
import math
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from fastai.vision.models import xresnet
from torch import nn
from torchvision import models as torchvision_models

from diagnose.errors import DiagnoseError
from sslwang.models.weights import load_weights, read_weights

WIDTHS = (16, 32, 64, 96)
NOTES_WIDTHS = (8, 16, 32, 64, 128, 256)
NOTES_STRIDES = (2, 2, 1, 1, 1, 1)
GROUPS = 8
LARGEST = 512  # px: of the sizes that are tried to find the smallest that an encoder can take

_HEADS = ("classifier", "fc", "head", "heads", "avgpool", "global_pool")  # children that come after the features
_POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Linear)


def norm_layer(kind: str, channels: int) -> nn.Module:
    """`group`: GroupNorm, the same in training and evaluation. `batch`: BatchNorm."""
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels) if kind == "group" else nn.BatchNorm2d(channels)


class ImageEncoder(nn.Sequential):
    """What all encoders share.

    Attributes:
        channels: of the maps.
        loaded: tensors that came from given weights.
        frozen: parameters are not trained, and norms stay in evaluation mode whatever the network around them does, so
            that running statistics stay too.
    """

    channels: int
    loaded: int = 0
    frozen: bool = False

    def freeze(self) -> ImageEncoder:
        """From now on nothing in it changes."""
        self.frozen = True
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> ImageEncoder:
        """As PyTorch's, but what is frozen stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Feature maps of images.

        Raises:
            DiagnoseError: the images are too small for its strides.
        """
        try:
            return super().forward(images)
        except RuntimeError as e:
            height, width = images.shape[-2:]
            sizes = range(1, LARGEST + 1)
            if images.ndim != 4 or images.shape[1] != 3 or _maps(self, LARGEST, LARGEST) is None:
                raise  # for another reason than their size
            least = sizes[bisect.bisect_left(sizes, True, key=lambda s: _maps(self, s, s) is not None)]
            if least <= min(height, width):
                raise
            raise DiagnoseError(
                f"images of {height} x {width} px are too small for this encoder, it needs {least} x {least}; "
                "raise size or choose another encoder.arch"
            ) from e


class Encoder(ImageEncoder):
    """Four times [3x3 convolution of stride 2, norm, ReLU]: (B, 3, H, W) to (B, 96, H/16, W/16); 79 k parameters.

    Args:
        norm: `group` or `batch`.
        widths: channels after each convolution, multiples of 8.
    """

    def __init__(self, norm: str = "group", widths: tuple[int, ...] = WIDTHS):
        layers = []
        for before, after in itertools.pairwise((3, *widths)):
            conv = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            layers.append(nn.Sequential(conv, norm_layer(norm, after), nn.ReLU(inplace=True)))
        super().__init__(*layers)
        self.channels = widths[-1]


class NotesEncoder(ImageEncoder):
    """The notes' encoder: six times [3x3 convolution without padding, norm, Mish], 394 k parameters.

    Strides 2, 2, 1, 1, 1, 1 make maps (B, 256, 23, 23) of images of 128 px; below 39 px nothing is left.

    Args:
        norm: `group` or `batch`, as in the notes.
    """

    def __init__(self, norm: str = "group"):
        layers = []
        for (before, after), stride in zip(itertools.pairwise((3, *NOTES_WIDTHS)), NOTES_STRIDES):
            conv = nn.Conv2d(before, after, 3, stride=stride, bias=False)
            layers.append(nn.Sequential(conv, norm_layer(norm, after), nn.Mish(inplace=True)))
        super().__init__(*layers)
        self.channels = NOTES_WIDTHS[-1]


class Backbone(ImageEncoder):
    """A classifier of images cut at its features: all children before the first global pool or linear layer.

    Their names stay, so that weights of the whole classifier fit; auxiliary classifiers go too.

    Args:
        model: of torchvision, fastai or any other library, that calls its children one after the other.
        name: for messages.

    Attributes:
        cut_off: names of the children that went.

    Raises:
        DiagnoseError: what is left does not make maps of an image.
    """

    def __init__(self, model: nn.Module, name: str = ""):
        super().__init__()
        name = name or type(model).__name__
        children = list(model.named_children())
        end = next((i for i, (n, m) in enumerate(children) if n in _HEADS or isinstance(m, _POOLS)), len(children))
        kept = [(n, m) for n, m in children[:end] if not n.lower().startswith("aux")]
        self.cut_off = tuple(sorted({n for n, _ in children} - {n for n, _ in kept}))
        for child, module in kept:
            self.add_module(child, nn.Sequential(*module) if isinstance(module, nn.ModuleList) else module)
        if isinstance(model, torchvision_models.DenseNet):
            self.add_module("relu", nn.ReLU(inplace=True))  # which its `forward` calls as a function
        maps = next((m for s in (224, 64) if (m := _maps(self, s, s)) is not None), None)
        if maps is None:
            raise DiagnoseError(f"encoder.arch={name}: what comes before its classifier makes no maps of an image")
        self.channels = maps.shape[1]


def architectures() -> list[str]:
    """Names that `make_encoder` knows: its own, those of torchvision's classifiers and of fastai's xresnets."""
    fastai_names = [n for n in xresnet.__all__ if n.startswith("x")]
    return ["small", "notes", *torchvision_models.list_models(module=torchvision_models), *fastai_names]


def make_encoder(arch: str = "small", norm: str = "group", weights: str = "", frozen: bool = False) -> ImageEncoder:
    """An encoder by name, its new weights drawn from torch's current stream.

    Args:
        arch: `small`, `notes`, or any of `architectures()`, cut at its features.
        norm: `group` or `batch`; the batch norms of a known net become group norms, other norms stay what they are.
        weights: file or run to start from (see `load_weights`), or `imagenet` for those of torchvision, which must be
            on this computer already.
        frozen: see `ImageEncoder`.

    Raises:
        DiagnoseError: unknown name (the nearest is offered), a net without batch norms where they are asked for, or
            weights that are not there or do not fit.
    """
    known = architectures()
    if arch not in known:
        near = difflib.get_close_matches(arch, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "small, notes, or the name of a torchvision or fastai model"
        raise DiagnoseError(f"encoder.arch={arch}: no such encoder; {hint}")
    encoder: ImageEncoder
    if arch in ("small", "notes"):
        encoder = {"small": Encoder, "notes": NotesEncoder}[arch](norm)
    else:
        encoder = Backbone(_classifier(arch), arch)
        if norm == "group":
            _regroup(encoder)
        elif not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in encoder.modules()):
            raise DiagnoseError(f"encoder.norm=batch: {arch} has no batch norm; leave encoder.norm as it is")
    if weights == "imagenet":
        if norm == "group" and arch not in ("small", "notes"):
            raise DiagnoseError("encoder.weights=imagenet were trained with batch norm; set encoder.norm=batch")
        path = _imagenet_file(arch)
        encoder.loaded = load_weights(encoder, read_weights(path), path.name, getattr(encoder, "cut_off", ()))
    elif weights:
        encoder.loaded = load_weights(encoder, read_weights(weights), weights, getattr(encoder, "cut_off", ()))
    return encoder.freeze() if frozen else encoder


def random_encoder(arch: str, norm: str, seed: int) -> ImageEncoder:
    """The very encoder that a pretraining under this seed starts from; torch's own stream is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_encoder(arch, norm)


def _classifier(arch: str) -> nn.Module:
    if arch.startswith("x"):
        return getattr(xresnet, arch)(pretrained=False)
    options: dict[str, Any] = {}
    if arch in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    return torchvision_models.get_model(arch, weights=None, **options)


def _regroup(module: nn.Module) -> None:
    """Every batch norm in it to a group norm with the same scale and shift."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            group = norm_layer("group", child.num_features)
            if child.affine:
                group.load_state_dict({"weight": child.weight, "bias": child.bias})
            setattr(module, name, group)
        else:
            _regroup(child)


def _imagenet_file(arch: str) -> Path:
    if arch not in torchvision_models.list_models(module=torchvision_models):
        raise DiagnoseError(f"encoder.weights=imagenet: torchvision has none for {arch}")
    kinds = torchvision_models.get_model_weights(arch)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    paths = [folder / Path(urlparse(w.url).path).name for w in (kinds.DEFAULT, *kinds)]
    found = next((p for p in paths if p.is_file()), None)
    if found is None:
        raise DiagnoseError(
            f"encoder.weights=imagenet: {paths[0]} is not there, and nothing is downloaded; it can be had from "
            f"{kinds.DEFAULT.url}"
        )
    return found


@torch.no_grad()
def _maps(module: nn.Module, height: int, width: int) -> torch.Tensor | None:
    """Maps of one image as a tensor without data, in evaluation mode; None where the module cannot make any."""
    state = {n: t.detach().to("meta") for n, t in itertools.chain(module.named_parameters(), module.named_buffers())}
    modes = {m: m.training for m in module.modules()}
    forward = nn.Sequential.forward  # without the handling of errors that calls this
    module.eval()
    try:
        images = torch.empty(1, 3, height, width, device="meta")
        with torch.autocast("cpu", enabled=False):
            maps = torch.func.functional_call(
                _Plain(module, forward), {f"net.{n}": t for n, t in state.items()}, images
            )
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError, AssertionError):
        return None
    finally:
        for m, training in modes.items():
            m.training = training
    return maps if isinstance(maps, torch.Tensor) and maps.ndim == 4 and maps.numel() else None


class _Plain(nn.Module):
    """A module under another `forward`."""

    def __init__(self, net: nn.Module, forward: Any):
        super().__init__()
        self.net, self._forward = net, forward

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self._forward(self.net, images)
