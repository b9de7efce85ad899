"""A random transform makes pictures so bright that they are white."""

import torch
from fastai.learner import Learner
from fastai.torch_core import TensorImage
from fastai.vision.augment import RandTransform

from diagnose.faults import Fault
from diagnose.faults._transforms import augmented


class PicturesOverexposed(Fault):
    """Adds a random brightness beyond the range of every training picture, and cuts it off at white."""

    cause = "inputs-destroyed-by-transforms"

    def inject(self, learn: Learner) -> None:
        augmented(learn, _Bright(p=1.0))


class _Bright(RandTransform):
    split_idx = None  # it stands in the training loader only

    def encodes(self, x: TensorImage) -> TensorImage:
        size = float(x.max() - x.min()) or 1.0
        light = size * (0.97 + torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device))
        return (x + light).clamp(max=float(x.max()))
