"""A random transform shuffles the pixels of each picture: a jigsaw where the arrangement is what the label says."""

import torch
from fastai.learner import Learner
from fastai.torch_core import TensorImage
from fastai.vision.augment import RandTransform

from diagnose.faults import Fault
from diagnose.faults._transforms import augmented


class PicturesScrambled(Fault):
    """Puts the pixels of every training picture into a random order."""

    cause = "inputs-destroyed-by-transforms"

    def inject(self, learn: Learner) -> None:
        augmented(learn, _Jigsaw(p=1.0))


class _Jigsaw(RandTransform):
    split_idx = None  # it stands in the training loader only

    def encodes(self, x: TensorImage) -> TensorImage:
        flat = x.flatten(2)
        orders = torch.rand(flat.shape[0], 1, flat.shape[2], device=x.device).argsort(2)
        return flat.gather(2, orders.expand_as(flat)).reshape(x.shape)
