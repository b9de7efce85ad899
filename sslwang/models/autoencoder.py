"""Autoencoders over any encoder, to train the encoder by itself before it is used for something else."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from sslwang.models.decoder import Decoder

GRID = 4  # cells a side that maps are averaged to before they become one vector


class Autoencoder(nn.Module):
    """Encoder, a vector in between, decoder: images (B, 3, H, W) to images of the same shape.

    Hinton and Salakhutdinov 2006. The vector is shorter than the image, so that the identity cannot be learned.

    Args:
        encoder: images (B, 3, H, W) to maps (B, `encoder.channels`, h, w).
        shape: (3, H, W) of the images.
        code: length of the vector.
    """

    def __init__(self, encoder: nn.Module, shape: tuple[int, int, int], code: int = 128):
        super().__init__()
        self.encoder = encoder
        features = GRID * GRID * encoder.channels
        self.code = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, self._outputs(code)))
        self.decoder = Decoder(code, shape)

    def _outputs(self, code: int) -> int:
        return code

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images to vectors (B, code)."""
        return self.code(F.adaptive_avg_pool2d(self.encoder(images), GRID).flatten(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images as they come back."""
        return self.decoder(self.encode(images))


class VariationalAutoencoder(Autoencoder):
    """An autoencoder whose vector is drawn, in training, from a Gaussian that the encoder gives (Kingma, Welling 2014).

    In evaluation the vector is the mean. Draws come from torch's stream, as those of dropout do. For the loss `vae`.
    """

    LIMITS = (-20.0, 10.0)  # of the log variance, so that its exponential stays finite in float32

    def _outputs(self, code: int) -> int:
        return 2 * code

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images (B, 3, H, W) to images, means (B, code) and log variances (B, code)."""
        mean, log_variance = self.encode(images).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(*self.LIMITS)
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp() if self.training else mean
        return self.decoder(code), mean, log_variance
