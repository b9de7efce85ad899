"""Networks of the field's baselines, which see views of one image: encoder and lightly's projection heads."""

from __future__ import annotations

import torch
from lightly.models.modules.heads import SimCLRProjectionHead, VICRegProjectionHead
from torch import nn

from sslwang.models.layers import ConcatPool, encoded_once

VIEW_HEADS = {"simclr": SimCLRProjectionHead, "vicreg": VICRegProjectionHead}


class ViewNet(nn.Module):
    """Projections of the views of each row: an encoder, mean and maximum over its maps, and a projection head.

    The heads are those of SimCLR (Chen et al. 2020) and VICReg (Bardes et al. 2022) in lightly, with batch norm: in
    training mode rows depend on each other, as those methods want it. What is used later is the encoder.

    Args:
        encoder: images (B, 3, H, W) to maps (B, `encoder.channels`, h, w).
        head: `simclr` or `vicreg`.
        hidden, outputs: widths of the head; the papers' (2048 and 128, 8192 and 8192) are for larger encoders.
    """

    def __init__(self, encoder: nn.Module, head: str = "simclr", hidden: int = 256, outputs: int = 128):
        super().__init__()
        self.encoder, self.pool = encoder, ConcatPool()
        self.head = VIEW_HEADS[head](2 * encoder.channels, hidden, outputs)

    def encode(self, *views: torch.Tensor) -> torch.Tensor:
        """V views (B, 3, H, W) each to maps (B, V, C, h, w)."""
        return encoded_once(self.encoder, views)

    def forward(self, *views: torch.Tensor) -> torch.Tensor:
        """V views (B, 3, H, W) each to projections (B, V, `outputs`)."""
        maps = self.encode(*views).flatten(0, 1)
        return self.head(self.pool(maps)).unflatten(0, (-1, len(views)))
