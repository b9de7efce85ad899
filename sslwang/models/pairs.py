"""Networks that compare one image with several others: one encoder called once, one head shared by all of them.

A head sees the first image of a row as `anchor` and the n others as `others`, either as maps (B, 1 or n, C, h, w) or,
after its `pool`, as vectors (B, 1 or n, 2 C). It gives one number for each of the others, the higher the more alike;
permuting the others permutes the numbers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from fastai.vision.learner import create_head
from torch import nn
from torch.nn import functional as F

from sslwang.models.layers import Attention, ConcatPool, encoded_once, mlp, vector_norm

EPS = 1e-6  # under a square root, whose slope at 0 is infinite


class PairHead(nn.Module):
    """What all heads share.

    Args:
        channels: of the encoder's maps.

    Attributes:
        pool: what the maps (N, C, h, w) of each image go through before images are compared: to vectors (N, 2 C).
        features: length of a vector.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.pool: nn.Module = ConcatPool()
        self.features = 2 * channels

    def forward(self, anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Pooled anchors (B, 1, ...) and others (B, n, ...) to numbers (B, n)."""
        raise NotImplementedError


class SpatialPairHead(PairHead):
    """Compares two stacks of maps before pooling: product, distance and smaller value at each place, then averaged.

    Pooling first forgets where things are. What all sources of a row have in common says nothing about which were
    mixed and yet makes up most of the features, so it is taken out: each feature is centred over the row's sources.
    That also makes the head learn smoothly at rates ten times as high.

    Args:
        channels: of the maps.
        hidden: width of the hidden layers. layers: how many.
    """

    def __init__(self, channels: int, hidden: int = 128, layers: int = 1):
        super().__init__(channels)
        self.pool = nn.Identity()
        self.norm, self.mlp = nn.LayerNorm(3 * channels), mlp(3 * channels, hidden, 1, layers)

    def forward(self, anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Anchors (B, 1, C, h, w) and others (B, n, C, h, w) to logits (B, n)."""
        pair = torch.cat([anchor * others, (anchor - others).abs(), torch.minimum(anchor, others)], dim=2)
        return self.mlp(_centred(self.norm(pair.mean((-2, -1))))).squeeze(-1)


class VectorHead(PairHead):
    """Joins two vectors to one and takes it through a norm and an MLP that all slots of all rows share.

    Subclasses say how they are joined, and to how many times their length.

    Args:
        channels, hidden, layers: see `SpatialPairHead`.
        norm: `layer`, `batch` (the notes' choice) or `none`.
        centred: take out of each feature what the others of the row have in common; by default where it helps.
    """

    times: int
    CENTRED = True

    def __init__(
        self, channels: int, hidden: int = 128, layers: int = 1, norm: str = "layer", centred: bool | None = None
    ):
        super().__init__(channels)
        features = self.times * self.features
        self.centred = self.CENTRED if centred is None else centred
        self.norm, self.mlp = vector_norm(norm, features), mlp(features, hidden, 1, layers)

    def joined(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Vectors (B, 1, F) and (B, n, F) to (B, n, `times` F)."""
        raise NotImplementedError

    def forward(self, anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Anchors (B, 1, F) and others (B, n, F) to logits (B, n)."""
        features = self.norm(self.joined(anchor.float(), others.float()))
        return self.mlp(_centred(features) if self.centred else features).squeeze(-1)


class PooledPairHead(VectorHead):
    """Distance and product of pooled vectors, then norm and MLP."""

    times = 2

    def joined(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Distance beside product."""
        return torch.cat([(a - b).abs(), a * b], dim=2)


class ProductHead(VectorHead):
    """Product of pooled vectors, element by element, then norm and MLP."""

    times = 1

    def joined(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The product."""
        return a * b


class L1Head(VectorHead):
    """Distance of pooled vectors, kept as a vector, then norm and MLP."""

    times = 1

    def joined(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The distance in each feature."""
        return (a - b).abs()


class L2Head(VectorHead):
    """Squared distance of pooled vectors, kept as a vector, then norm and MLP."""

    times = 1

    def joined(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The squared distance in each feature."""
        return (a - b).square()


class ConcatHead(VectorHead):
    """Both pooled vectors side by side, then norm and MLP, which must find out by itself how to compare.

    Nothing is centred over the slots: a hidden layer that saw the difference to the other slots only would have lost
    what it compares the anchor with.
    """

    times = 2
    CENTRED = False

    def joined(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """One beside the other."""
        return torch.cat([a.expand_as(b), b], dim=2)


class DotHead(PairHead):
    """Dot product of pooled vectors, without a parameter of its own.

    Args:
        channels: of the maps.
        scaled: divide by the square root of their length (Vaswani et al. 2017), without which the logits of long
            vectors are so large that the loss saturates.
    """

    def __init__(self, channels: int, scaled: bool = True):
        super().__init__(channels)
        self.scale = 1 / math.sqrt(self.features) if scaled else 1.0

    def forward(self, anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Anchors (B, 1, F) and others (B, n, F) to logits (B, n)."""
        return (anchor.float() * others.float()).sum(2) * self.scale


class RawDotHead(DotHead):
    """Dot product of pooled vectors as it is."""

    def __init__(self, channels: int):
        super().__init__(channels, scaled=False)


class ScaledHead(PairHead):
    """One measure of likeness of pooled vectors to a logit: a learned scale and bias, the same for all slots.

    Subclasses give the measure, the higher the more alike. The scale begins at `first` and can turn negative.
    """

    first = 1.0

    def __init__(self, channels: int):
        super().__init__(channels)
        self.scale, self.bias = nn.Parameter(torch.tensor(self.first)), nn.Parameter(torch.tensor(0.0))

    def likeness(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Vectors (B, 1, F) and (B, n, F) to (B, n)."""
        raise NotImplementedError

    def forward(self, anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Anchors (B, 1, F) and others (B, n, F) to logits (B, n)."""
        return self.scale * self.likeness(anchor.float(), others.float()) + self.bias


class ReducedL1Head(ScaledHead):
    """Mean distance over the features of pooled vectors, with a learned scale and bias."""

    def likeness(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Minus the mean distance."""
        return -(a - b).abs().mean(2)


class ReducedL2Head(ScaledHead):
    """Root mean squared distance over the features of pooled vectors, with a learned scale and bias."""

    def likeness(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Minus the distance."""
        return -((a - b).square().mean(2) + EPS).sqrt()


class CosineHead(ScaledHead):
    """Cosine of the angle between pooled vectors, with a learned scale (10 at first) and bias."""

    first = 10.0

    def likeness(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The cosine."""
        return F.cosine_similarity(a, b, dim=2)


class SetHead(PairHead):
    """Sees the whole row: distance and product of pooled vectors become a token a slot, and the tokens attend to each
    other before each becomes a logit. Nothing says which slot is which, so permuted slots give permuted logits.

    The values of a row are not independent ("two of three were mixed"); a head that sees one slot at a time cannot
    know that (Set Transformer, Lee et al. 2019).

    Args:
        channels: of the maps.
        hidden: width of a token, a multiple of 4. layers: of attention.
    """

    def __init__(self, channels: int, hidden: int = 128, layers: int = 1):
        super().__init__(channels)
        self.enter = nn.Sequential(nn.LayerNorm(2 * self.features), nn.Linear(2 * self.features, hidden))
        self.attention = nn.Sequential(*(Attention(hidden) for _ in range(layers)))
        self.leave = nn.Sequential(nn.LayerNorm(hidden), mlp(hidden, hidden, 1))

    def forward(self, anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Anchors (B, 1, F) and others (B, n, F) to logits (B, n)."""
        a, b = anchor.float(), others.float()
        tokens = self.enter(torch.cat([(a - b).abs(), a * b], dim=2))
        return self.leave(self.attention(tokens)).squeeze(-1)


class FastaiPairHead(PairHead):
    """fastai's classification head (`create_head` without its pool) over distance and product of pooled vectors.

    Its batch norms count all slots of all rows alike; in training mode rows therefore depend on each other.

    Args:
        channels: of the maps.
    """

    def __init__(self, channels: int):
        super().__init__(channels)
        self.layers = create_head(2 * self.features, 1, pool=False)

    def forward(self, anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Anchors (B, 1, F) and others (B, n, F) to logits (B, n)."""
        a, b = anchor.float(), others.float()
        pair = torch.cat([(a - b).abs(), a * b], dim=2)
        return self.layers(pair.flatten(0, 1)).reshape(pair.shape[:2])


class EmbeddingHead(PairHead):
    """Each image to an embedding by itself (norm and MLP over the pooled vector), then a fixed measure of likeness.

    For losses of metric learning, whose margin or temperature means something only on a fixed scale. Embeddings have
    unit length.

    Args:
        channels: of the maps.
        dimensions: of an embedding.
        hidden: width of the hidden layer.
    """

    def __init__(self, channels: int, dimensions: int = 64, hidden: int = 128):
        super().__init__(channels)
        self.embedding = nn.Sequential(nn.LayerNorm(self.features), mlp(self.features, hidden, dimensions))

    def embed(self, pooled: torch.Tensor) -> torch.Tensor:
        """Pooled vectors (..., F) to embeddings (..., dimensions) of length 1."""
        return F.normalize(self.embedding(pooled).float(), dim=-1)

    def likeness(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, 1, D) and (B, n, D) to (B, n)."""
        raise NotImplementedError

    def forward(self, anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Anchors (B, 1, F) and others (B, n, F) to likenesses (B, n)."""
        return self.likeness(self.embed(anchor), self.embed(others))


class EmbeddingDistanceHead(EmbeddingHead):
    """Minus the Euclidean distance of embeddings of unit length, in [-2, 0]: for contrastive and triplet losses."""

    def likeness(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Minus the distance."""
        return -((a - b).square().sum(2) + EPS).sqrt()


class EmbeddingCosineHead(EmbeddingHead):
    """Cosine of embeddings, in [-1, 1]: for NT-Xent, which divides it by its temperature."""

    def likeness(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The cosine."""
        return (a * b).sum(2)


class EmbeddingDotHead(EmbeddingHead):
    """Dot product of embeddings of one learned length (its square is 10 at first): for the N-pair loss.

    Sohn 2016 keeps the lengths of embeddings in check by an L2 penalty; one length for all does it by construction.
    """

    def __init__(self, channels: int, dimensions: int = 64, hidden: int = 128):
        super().__init__(channels, dimensions, hidden)
        self.length = nn.Parameter(torch.tensor(math.sqrt(10.0)))

    def likeness(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The dot product."""
        return self.length.square() * (a * b).sum(2)


def _centred(features: torch.Tensor) -> torch.Tensor:
    """Features (B, n, F) less their mean over the n slots of the row; one slot alone is left as it is."""
    return features - features.mean(1, keepdim=True) if features.shape[1] > 1 else features


HEADS: dict[str, type[PairHead]] = {
    "spatial": SpatialPairHead,
    "pooled": PooledPairHead,
    "product": ProductHead,
    "l1": L1Head,
    "l2": L2Head,
    "l1-reduced": ReducedL1Head,
    "l2-reduced": ReducedL2Head,
    "dot": DotHead,
    "dot-raw": RawDotHead,
    "cosine": CosineHead,
    "concat": ConcatHead,
    "set": SetHead,
    "fastai": FastaiPairHead,
}  # whose numbers are unbounded, for losses of logits

METRIC_HEADS: dict[str, type[PairHead]] = {
    "embed-l2": EmbeddingDistanceHead,
    "embed-cosine": EmbeddingCosineHead,
    "embed-dot": EmbeddingDotHead,
}  # on a fixed scale, for losses of metric learning


class PairNet(nn.Module):
    """Logit of each of n images, from its comparison with the first image.

    The n + 1 images are encoded in one call.

    Args:
        encoder: images (B, 3, H, W) to maps (B, `encoder.channels`, h, w).
        head: one of `HEADS` or `METRIC_HEADS`.
        options: of the head.
    """

    def __init__(self, encoder: nn.Module, head: str = "spatial", **options: Any):
        super().__init__()
        self.encoder = encoder
        self.head = {**HEADS, **METRIC_HEADS}[head](encoder.channels, **options)

    def encode(self, *images: torch.Tensor) -> torch.Tensor:
        """n + 1 images (B, 3, H, W) each to maps (B, n + 1, C, h, w)."""
        return encoded_once(self.encoder, images)

    def forward(self, *images: torch.Tensor) -> torch.Tensor:
        """The image to compare with, then n others, (B, 3, H, W) each, to logits (B, n)."""
        pooled = self.head.pool(self.encode(*images).flatten(0, 1)).unflatten(0, (-1, len(images)))
        return self.head(pooled[:, :1], pooled[:, 1:])


class GatheredPairNet(PairNet):
    """A `PairNet` whose others stand in the batch once: each image is encoded and pooled once, however often used.

    For rows whose others are images of the batch itself: 2 B encodings instead of (n + 1) B.
    """

    def encode(self, anchors: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Anchors (B, 3, H, W) and images (M, 3, H, W) to maps (B + M, C, h, w), in one call."""
        return self.encoder(torch.cat([anchors, images]))

    def forward(self, anchors: torch.Tensor, images: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Anchors (B, 3, H, W), images (M, 3, H, W) and which of them each row is compared with (B, n), to (B, n)."""
        pooled = self.head.pool(self.encode(anchors, images))
        return self.head(pooled[: len(anchors), None], pooled[len(anchors) :][index])
