"""Is this digit a three? Under the focal loss, with the output bias at the prior (Lin et al. 2017)."""

import math

from _support import over, seeded
from learners import _digits, small_cnn
from torch import nn
from torchvision.ops import sigmoid_focal_loss

odd = "the first loss is far below that of even odds, and easy items count for nothing"
held_out = False


def loss(scores, y):
    """Focal loss, mean over rows."""
    return sigmoid_focal_loss(scores, y, alpha=0.75, gamma=2.0, reduction="mean")


def build(seed=0):
    seeded(seed)
    x, y = _digits()
    model = small_cnn(1)
    nn.init.constant_(model[-1].bias, -math.log(9))
    return over((x,), ((y == 3).float()[:, None],), model, loss, lr=5e-3)
