"""Fine-tuning: an encoder under a new head, trained on labelled images in one cycle, and what it predicts.

The encoder may thaw step by step. What is frozen stays bit for bit, parameters and buffers: a batch norm in training
mode would go on adapting its running statistics whatever `requires_grad` says.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from fastai.callback.core import Callback, CancelValidException
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.schedule import Learner  # patches fit_one_cycle in
from fastai.data.core import DataLoaders
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from PIL import Image
from torch import nn

from diagnose.errors import DiagnoseError
from diagnose.isolate import random_streams, seed_everything
from sslwang.data.labelled import Labelled, LabelledImages
from sslwang.data.loaders import SPLITS, Items, dataloaders
from sslwang.data.pictures import Shown
from sslwang.data.pixels import normalised, standardised
from sslwang.models.encoder import ImageEncoder
from sslwang.models.single import SingleNet
from sslwang.optimizers import OPTIMIZERS

Unfreeze = Literal["gradual", "all", "none"]
Inputs = Literal["standardised", "normalised"]

BS, LR, WD = 64, 3e-3, 0.01  # images a batch; highest rate of AdamW, and its decoupled decay
SMALLEST_AREA = 0.35  # of an image that a training crop shows at least, as the leaderboard's own script crops
RATIOS = (3 / 4, 4 / 3)  # width to height of a training crop, as in torchvision and fastai
TRIES = 10  # draws of a crop before the whole image is taken
PARTS = 3  # that an encoder thaws in, the last layers first
THAW = 0.1  # of all steps between one part and the next
SPREAD = 10.0  # the head's rate over that of the first part, as in fastai's `fine_tune` of vision models
MIRRORED = ("digits",)  # sources whose classes a mirror changes: they are not flipped


class LabelledItems(Items):
    """Labelled images as items: a random resized crop, flipped or not, for training; the middle square for validation.

    Args:
        images: with their labels.
        classes: names of the classes, by label.
        size: side in px of what the network sees.
        seed, split: see `Items`.
        count: items an epoch; the number of images if not given. More than that go through the images again and again.
        balanced: every class has equally many items; which of its images is drawn for each item.
        inputs: each image with mean 0 and deviation 1 in every channel, as hardened pretext tasks show them, or all
            images on one scale.
        flip: mirror half of the training images.
    """

    def __init__(
        self,
        images: LabelledImages,
        classes: Sequence[str],
        size: int,
        seed: int,
        split: str,
        count: int | None = None,
        balanced: bool = False,
        inputs: Inputs = "standardised",
        flip: bool = True,
    ):
        super().__init__(len(images) if count is None else count, seed, split)
        self.images, self.classes, self.size = images, tuple(classes), size
        self.balanced, self.inputs, self.flip = balanced, inputs, flip
        self.places = [np.flatnonzero(images.labels == c) for c in np.unique(images.labels)] if balanced else []

    def item(self, epoch: int, index: int) -> tuple[np.ndarray, int]:
        """Tile (S, S, 3) uint8 and label."""
        if not 0 <= index < self.count:
            raise IndexError(f"item {index} of {self.count}")
        rng = np.random.default_rng([self.seed, SPLITS[self.split], epoch, index])
        if self.balanced:
            of_class = self.places[index % len(self.places)]
            place = int(of_class[rng.integers(len(of_class))])
        else:
            place = index % len(self.images)
        image = self.images.images[place]
        tile = self._crop(rng, image) if self.split == "train" else self._middle(image)
        return tile, int(self.images.labels[place])

    def order(self, epoch: int) -> list[int]:
        """Indices in the shuffled order of `epoch`: all images once, then all of them again, up to `count`."""
        if self.balanced:
            return super().order(epoch)
        rng, total = np.random.default_rng([self.seed, SPLITS[self.split], epoch]), len(self.images)
        passes = [k * total + rng.permutation(total) for k in range(math.ceil(self.count / total))]
        return [int(i) for i in np.concatenate(passes) if i < self.count]

    def _crop(self, rng: np.random.Generator, image: Image.Image) -> np.ndarray:
        "A part of the image of random area and ratio, resized to a square (Szegedy et al. 2015)."
        width, height = image.size
        box = (0.0, 0.0, float(width), float(height))
        for _ in range(TRIES):
            area = rng.uniform(SMALLEST_AREA, 1) * width * height
            ratio = math.exp(rng.uniform(math.log(RATIOS[0]), math.log(RATIOS[1])))
            w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
            if w <= width and h <= height:
                x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
                box = (x, y, x + w, y + h)
                break
        tile = np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR, box))
        return tile[:, ::-1] if self.flip and rng.random() < 0.5 else tile

    def _middle(self, image: Image.Image) -> np.ndarray:
        width, height = image.size
        side = min(width, height)
        x, y = (width - side) / 2, (height - side) / 2
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR, (x, y, x + side, y + side)))

    def stack(self, items: Sequence[tuple]) -> tuple[torch.Tensor, ...]:
        """Images (B, 3, S, S) uint8 and labels (B,) int64."""
        tiles, labels = zip(*items)
        return torch.from_numpy(np.stack(tiles)).movedim(-1, 1), torch.tensor(labels)

    def finish(self, stacked: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Images (B, 3, S, S) float32 on the scale that `inputs` says, and labels."""
        images, labels = stacked
        images = images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        return standardised(images) if self.inputs == "standardised" else normalised(images), labels

    def shown(self, batch: tuple, outputs: Any = None) -> list[Shown]:
        """Each image with its class, and with what was predicted."""
        images, labels = batch
        said = [None] * len(labels) if outputs is None else torch.as_tensor(outputs).argmax(1).tolist()
        rows = []
        for image, label, guess in zip(images, labels.tolist(), said):
            caption = self.classes[label] if guess is None else f"{self.classes[label]}\nsaid {self.classes[guess]}"
            rows.append(Shown([image], [caption], [None if guess is None else guess == label]))
        return rows


# ---- the network and how it thaws ------------------------------------------------------------------------------------


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _owners(layers: list[nn.Module]) -> list[int]:
    "Places of the layers that have parameters."
    return [i for i, m in enumerate(layers) if _size(m)]


class TransferNet(SingleNet):
    """An encoder under a linear head over pooled maps: images (B, 3, H, W) to logits (B, C).

    Args:
        encoder: to be fine-tuned. outputs: classes C.

    Attributes:
        held: parts of the encoder, counted from the first layers, that stay in evaluation mode whatever mode the net
            is put into, so that their buffers stay.
    """

    def __init__(self, encoder: ImageEncoder, outputs: int):
        super().__init__(encoder, "pooled", (outputs,), layers=0)
        self.held = 0

    def parts(self) -> list[list[nn.Module]]:
        """Modules of the encoder in at most three parts, the first layers first, that thaw one after the other."""
        layers = list(self.encoder.children())
        while len(_owners(layers)) < PARTS and (nested := [m for m in layers if isinstance(m, nn.Sequential)]):
            at = layers.index(max(nested, key=_size))
            layers[at : at + 1] = layers[at].children()
        owners = _owners(layers)
        starts = [0, *(int(part[0]) for part in np.array_split(owners, min(PARTS, len(owners)))[1:])]
        return [layers[a:b] for a, b in zip(starts, [*starts[1:], len(layers)])]

    def hold(self, parts: int) -> None:
        """From now on the first `parts` parts are in evaluation mode, the others in the mode of the net."""
        self.held = parts
        self.train(self.training)

    def train(self, mode: bool = True) -> TransferNet:
        """As PyTorch's, but what is held stays in evaluation mode."""
        super().train(mode)
        for part in self.parts()[: self.held]:
            for module in part:
                module.eval()
        return self


def parameter_groups(net: TransferNet) -> list[list[nn.Parameter]]:
    """fastai's splitter: parameters of each part of the encoder, then those of the head."""
    groups = [[p for m in part for p in m.parameters()] for part in net.parts()]
    told = {id(p) for group in groups for p in group}
    groups[0] += [p for p in net.encoder.parameters() if id(p) not in told]
    return [*groups, list(net.head.parameters())]


class GradualUnfreezing(Callback):
    """First the head alone, then every tenth of the steps one more part of the encoder, the last layers first.

    Howard and Ruder 2018 (ULMFiT), by steps instead of epochs, so that short trainings thaw too.
    """

    order = -5  # after the mode was set, before the batch is seen

    def before_batch(self) -> None:
        """Thaw what is due."""
        if not self.training:
            return
        parts = len(self.opt.param_lists) - 1
        done = (self.epoch * self.n_iter + self.iter) / (self.n_epoch * self.n_iter)
        frozen = max(0, parts - int(done / THAW + 1e-9))
        if (self.epoch, self.iter) == (0, 0) or frozen != self.model.held:
            self.opt.freeze_to(frozen)  # Learner.freeze_to would also forget the optimizer's averages
            self.model.hold(frozen)


class NoValidation(Callback):
    """Leaves out the validation after every epoch; fine-tuning is judged once, at its end."""

    def before_validate(self) -> None:
        """Skip it."""
        raise CancelValidException


class Steps(Callback):
    """Calls `on_step(step, steps)` after every training batch."""

    order = 60

    def __init__(self, on_step: Callable[[int, int], None]):
        self.on_step = on_step

    def after_batch(self) -> None:
        """Count training batches only."""
        if self.training:
            self.on_step(self.train_iter, self.n_epoch * self.n_iter)


# ---- fine-tuning -----------------------------------------------------------------------------------------------------


def finetune_loaders(
    data: Labelled,
    indices: Sequence[int] | np.ndarray | None = None,
    seed: int = 0,
    size: int | None = None,
    steps: int | None = None,
    balanced: bool = False,
    inputs: Inputs = "standardised",
    bs: int = BS,
    workers: int = 0,
    device: str | torch.device = "cpu",
) -> DataLoaders:
    """Loaders over labelled images. Args as in `finetune_learner`.

    Raises:
        DiagnoseError: fewer than two training images, or none for validation.
    """
    train = data.train if indices is None else data.train.subset(indices)
    if len(train) < 2 or not len(data.valid):
        raise DiagnoseError(f"{data.source}: {len(train)} training and {len(data.valid)} validation images; too few")
    bs = min(bs, len(train))
    make = functools.partial(LabelledItems, classes=data.classes, size=size or data.size, seed=seed, inputs=inputs)
    flip, count = data.source not in MIRRORED, None if steps is None else steps * bs
    items = make(train, split="train", count=count, balanced=balanced, flip=flip)
    dls = dataloaders(items, make(data.valid, split="valid"), bs, device, workers)
    dls.vocab = [data.titles.get(c, c) for c in data.classes]
    return dls


def finetune_learner(
    encoder: ImageEncoder,
    data: Labelled,
    indices: Sequence[int] | np.ndarray | None = None,
    seed: int = 0,
    size: int | None = None,
    steps: int | None = None,
    unfreeze: Unfreeze = "gradual",
    balanced: bool = False,
    inputs: Inputs = "standardised",
    bs: int = BS,
    lr: float = LR,
    wd: float = WD,
    workers: int = 0,
    device: str | torch.device = "cpu",
) -> Learner:
    """The Learner that `fit` trains, over the encoder itself. torch's own random stream is left as it was.

    Args:
        encoder: becomes part of the Learner's model.
        data: classes, training and validation images.
        indices: training images to use; all if not given.
        seed: of the head's weights, of order and crops.
        size: side in px of what the network sees; that of the data if not given.
        steps: batches that one epoch has; a pass over the images if not given.
        unfreeze: `none` freezes the encoder here; `gradual` is up to `fit`.
        balanced: see `LabelledItems`. inputs: see there.
        bs: images a batch, at most as many as there are.
        lr, wd: highest learning rate of the head, decoupled weight decay, under AdamW.

    Raises:
        DiagnoseError: too few images.
    """
    dls = finetune_loaders(data, indices, seed, size, steps, balanced, inputs, bs, workers, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = TransferNet(encoder, len(data.classes)).to(dls.device)
    learner = Learner(
        dls,
        net,
        CrossEntropyLossFlat(),
        opt_func=OPTIMIZERS["adamw"],
        lr=lr,
        wd=wd,
        splitter=parameter_groups,
        metrics=[accuracy],
        train_bn=False,  # else fastai would go on training the batch norms of frozen parts
        cbs=[MixedPrecision()] if dls.device.type == "cuda" else [],
    )
    if unfreeze == "none":
        encoder.freeze()
        learner.freeze()
    return learner


def fit(
    learner: Learner,
    epochs: int,
    unfreeze: Unfreeze = "gradual",
    seed: int = 0,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> None:
    """Train what `finetune_learner` built, one cycle over all epochs (Smith 2018), without validating in between.

    `gradual` begins with the head alone (see `GradualUnfreezing`), and earlier parts learn at lower rates, the first at
    a tenth of the head's. The random streams end as they were.
    """
    learner.remove_cbs([cb for cb in learner.cbs if cb.name == "progress"])
    cbs = [NoValidation(), Steps(on_step), *([GradualUnfreezing()] if unfreeze == "gradual" else [])]
    rates = slice(learner.lr / SPREAD, learner.lr) if unfreeze == "gradual" else learner.lr
    with random_streams(), learner.no_logging():
        seed_everything(seed)
        learner.fit_one_cycle(epochs, rates, cbs=cbs)


@dataclass(frozen=True)
class Predictions:
    """What a net says of the validation images.

    Args:
        probabilities: (N, C) float32.
        labels: (N,) int64, places in C.
        names: N names of the images.
        items: the data set that they were scored from.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    names: Sequence[str]
    items: LabelledItems

    def __len__(self) -> int:
        return len(self.labels)

    def tensor(self, i: int) -> torch.Tensor:
        """The very tensor (3, S, S) float32 that was scored."""
        return self.items.collate([self.items.item(0, i)])[0][0]

    def picture(self, i: int) -> np.ndarray:
        """The same as 8-bit RGB (S, S, 3), before it was standardised."""
        return self.items.item(0, i)[0]


@torch.no_grad()
def predict(learner: Learner) -> Predictions:
    """Probabilities of all validation images, in their order, in float32 and evaluation mode.

    Raises:
        DiagnoseError: outputs that are no finite numbers.
    """
    net, loader = learner.model.eval(), learner.dls.valid
    with random_streams():  # of which to begin a pass over a loader draws
        logits, labels = zip(*((net(x).float().cpu(), y.cpu()) for x, y in loader))
    outputs = torch.cat(logits)
    if not outputs.isfinite().all():
        raise DiagnoseError(f"fine-tuning diverged: outputs are no finite numbers; lower lr, which is {learner.lr:g}")
    probabilities = outputs.double().softmax(1).float().numpy()
    items = loader.dataset
    return Predictions(probabilities, torch.cat(labels).numpy(), items.images.names, items)


def finetune(
    encoder: ImageEncoder,
    data: Labelled,
    indices: Sequence[int] | np.ndarray | None = None,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    size: int | None = None,
    unfreeze: Unfreeze = "gradual",
    balanced: bool = False,
    device: str | torch.device = "cpu",
    on_step: Callable[[int, int], None] = lambda step, steps: None,
    **settings: Any,
) -> Predictions:
    """Fine-tune a copy of an encoder under a new linear head, and predict the validation images.

    Equal arguments give equal bits on a CPU. Args as in `finetune_learner` (its others as `settings`); the encoder
    itself is left as it is.

    Args:
        epochs: passes over the training images. steps: batches, whatever the number of images. Give one of them.
        on_step: called with (step, of how many).

    Raises:
        DiagnoseError: too few images, images too small for the encoder, or a training that diverged.
        ValueError: neither or both of epochs and steps, or less than one.
    """
    if (epochs is None) == (steps is None):
        raise ValueError("give either epochs or steps")
    if (epochs or steps or 0) < 1:
        raise ValueError(f"give at least one epoch or step, not {steps if epochs is None else epochs}")
    learner = finetune_learner(
        copy.deepcopy(encoder), data, indices, seed, size, steps, unfreeze, balanced, device=device, **settings
    )
    fit(learner, epochs or 1, unfreeze, seed, on_step)
    return predict(learner)
