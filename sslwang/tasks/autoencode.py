"""Autoencode: give the picture back after it went through a code that is shorter than it.

What it is: a row is one picture; the network is an encoder, a code of 128 numbers and a decoder. It trains an encoder
by itself, before it is used for something else. `kind=variational` draws the code from a Gaussian that the encoder
gives and keeps that near the standard one (variational autoencoder).

Labels: the picture itself. Mean squared error (`loss.kind=l1`: absolute error), or for `kind=variational` half the
squared error and the divergence of the code, both a pixel.

Best constant: 1, the variance of a picture with mean 0 and variance 1, or 1/2 for `kind=variational`; R2 = 0, the share
of the variance that is given back.

Shortcuts: the mean colour alone is a good part of raw pictures. So every picture is standardised by itself, channel by
channel: of 2048 raw pictures the mean colour gives back R2 = 0.55, of hardened ones 0.

Oracle: the picture that went in, which must be the one that is asked for.

Easier versions: `detail=4`: pictures of 4 x 4 smooth patches, 48 numbers, which the code can hold; `detail=16`: of 16 x
16.

Source: Hinton and Salakhutdinov 2006; Kingma and Welling 2014; the notes, who meant to train the encoder apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from fastai.metrics import AccumMetric
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from sslwang.data.pictures import Shown
from sslwang.data.pixels import normalised, standardised
from sslwang.losses import LOSSES
from sslwang.models.autoencoder import Autoencoder, VariationalAutoencoder
from sslwang.pretext import Pretext, PretextItems, PretextSettings

GOOD = 0.5  # R2 of a picture from which it is shown as right


class AutoencodeSettings(PretextSettings):
    """Settings of `autoencode`. `detail` is how many patches a side a picture is averaged to; 0 leaves it whole.

    `beta` is the weight of the divergence in `kind=variational`.
    """

    kind: Literal["plain", "variational"] = "plain"
    code: int = Field(128, ge=1, le=4096)
    beta: float = Field(1.0, ge=0)
    detail: int = Field(0, ge=0, le=512)


class AutoencodeItems(PretextItems):
    """Pictures. A row is (picture,), a batch (picture, picture), (B, 3, S, S) float32."""

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        return (self.side.tiles(rng, self.settings.size, 1),)

    def batch(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Batch (picture, the same)."""
        s, pictures = self.settings, images[:, 0]
        if s.detail:
            small = F.adaptive_avg_pool2d(pictures, s.detail)
            pictures = F.interpolate(small, (s.size, s.size), mode="bilinear")
        pictures = standardised(pictures) if s.hardened else normalised(pictures)
        return pictures, pictures.clone()

    def shown(self, batch: tuple, outputs: torch.Tensor | tuple | None = None) -> list[Shown]:
        """The picture that is asked for, and the one that came back with its R2."""
        _, target = batch
        if outputs is None:
            return [Shown([picture], ["picture in and out"], [None]) for picture in target]
        pictures = given_back(outputs)
        rows = []
        for picture, truth in zip(pictures, target):
            share = explained(picture[None], truth[None])
            rows.append(Shown([truth, picture], ["picture", f"given back: R2 {share:.2f}"], [None, share >= GOOD]))
        return rows


def given_back(outputs: torch.Tensor | tuple) -> torch.Tensor:
    """The pictures among the outputs of either autoencoder."""
    return outputs if isinstance(outputs, torch.Tensor) else outputs[0]


def explained(outputs: torch.Tensor | tuple, target: torch.Tensor) -> float:
    """Coefficient of determination over all pixels: 1 less squared errors over squares about the mean of a channel."""
    spread = (target - target.mean((0, 2, 3), keepdim=True)).square().sum()
    return (1 - (given_back(outputs) - target).square().sum() / spread.clamp_min(1e-12)).item()


class MeanExplained(AccumMetric):
    """`explained` of all pictures, from batches of either kind of output."""

    def __init__(self):
        super().__init__(explained, flatten=False)

    def accumulate(self, learn) -> None:
        """Keep the pictures among the outputs."""
        self.accum_values(given_back(learn.pred), learn.y, learn)


class Autoencode(Pretext):
    """Autoencode under given settings."""

    Settings: ClassVar[type[PretextSettings]] = AutoencodeSettings
    Items: ClassVar[type[PretextItems]] = AutoencodeItems
    HEADS = ("decoder",)
    SHORTCUTS = "the mean colour is a good part of a raw picture; every picture is standardised by itself"
    metric = "R2"
    chance = 0.0

    def losses(self) -> tuple[str, ...]:
        """See `Pretext.losses`."""
        return ("mse", "l1") if self.settings.kind == "plain" else ("vae",)

    def loss(self) -> nn.Module:
        """See `Pretext.loss`; pixels are compared as they are."""
        s = self.settings
        if s.kind == "variational":
            return LOSSES["vae"](s.loss.reduction, beta=s.beta)
        return LOSSES[self.loss_kind](s.loss.reduction, activation="none")

    def network(self, encoder: nn.Module) -> nn.Module:
        """See `Pretext.network`."""
        s = self.settings
        kind = Autoencoder if s.kind == "plain" else VariationalAutoencoder
        return kind(encoder, (3, s.size, s.size), s.code)

    def metrics(self) -> list:
        """See `Pretext.metrics`."""
        return [MeanExplained()]

    def best_constant(self) -> float | None:
        """1 a pixel for mse and half of it for vae, on standardised pictures.

        None for raw ones, whose variance the data decide, and for l1.
        """
        s = self.settings
        if not s.hardened or self.loss_kind == "l1":
            return None
        value, count = (1.0, s.bs * 3 * s.size**2) if self.loss_kind == "mse" else (0.5, s.bs)
        return value * (count if s.loss.reduction == "sum" else 1)

    def titles(self) -> list[str]:
        """One picture."""
        return ["picture"]

    def easier(self) -> dict[str, Pretext]:
        """`detail=4`, then `detail=16`, under the same settings."""
        return {f"detail={d}": self.under(detail=d) for d in (4, 16)}

    def oracle(self, rows: int = 256, seed: int = 0) -> float | None:
        """R2 of what went in."""
        raw = self.under(hardened=False, items=rows, bs=rows, inputs="images")
        return explained(*raw.loaders(seed).train.one_batch())

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`: each picture in its own mean colour."""
        return {"mean colour": lambda b: explained(b[0].mean((2, 3), keepdim=True).expand_as(b[0]), b[1])}

    def score(self, outputs: torch.Tensor | tuple, *targets: torch.Tensor) -> float:
        """R2, values below 0 counted as 0."""
        return max(0.0, explained(outputs, targets[0]))
