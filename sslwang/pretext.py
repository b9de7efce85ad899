"""What every pretext task shares: settings, items that become batches, and a Task that says what may be known of it.

A task is one module of `sslwang.tasks` with a subclass of `PretextSettings`, of `PretextItems` and of `Pretext`. Its
items draw a row from a generator of their own (`row`), and turn a stack of rows into the batch that the network sees
(`batch`): mixing, cutting and standardising happen there, once for the whole batch and on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.torch_core import noop
from pydantic import Field
from torch import nn

from diagnose.errors import DiagnoseError
from diagnose.task import Settings, Task
from sslwang.data.loaders import Items, ReplayLoader, dataloaders
from sslwang.data.pixels import normalised
from sslwang.data.splits import Side, sides
from sslwang.losses import LOSSES
from sslwang.models.encoder import make_encoder
from sslwang.optimizers import OPTIMIZERS


class LossSettings(Settings):
    """`auto` is the task's own loss; `sslwang tasks --losses` shows which others fit."""

    kind: str = "auto"
    reduction: Literal["mean", "sum"] = "mean"


class EncoderSettings(Settings):
    """The encoder that all images share.

    `arch` is `small` (79 k parameters), `notes` (the notes' six blocks) or the name of a torchvision or fastai model,
    cut at its features. `weights` is a file or run to start from, `frozen` keeps them.
    """

    arch: str = "small"
    norm: Literal["group", "batch"] = "group"
    weights: str = ""
    frozen: bool = False


class HeadSettings(Settings):
    """`auto` is the task's own head; `sslwang tasks --heads` shows which others fit."""

    kind: str = "auto"


class DataSettings(Settings):
    """Where the images come from.

    `source` is photos, imagewang, fashion-mnist, digits, faces or a folder of images; `distinct` takes the images of a
    row from different files, as far as there are enough. `with_val` shows the task what transfer is judged on as well.
    `crops` are small parts of an image, or nearly the whole of it, as tasks need that ask where in it something was.
    `skip_corrupt` goes on without damaged files. `workers` processes load; `pin` has them do so into locked memory,
    from where a GPU copies faster.
    """

    source: str = "photos"
    split: Literal["region", "photo"] = "region"
    distinct: bool = True
    crops: Literal["parts", "whole"] = "parts"
    with_val: bool = False
    skip_corrupt: bool = False
    workers: int = Field(0, ge=0, le=64)
    pin: bool = False


class PretextSettings(Settings):
    """Settings of any pretext task; every one can be given as `--set name=value`.

    `inputs=noise` replaces every image by noise and keeps the labels: whoever then beats the best constant has a leak.
    `rows=frozen` shows the rows of epoch 0 in every epoch.
    """

    size: int = Field(64, ge=16, le=512)
    items: int = Field(4800, ge=1)
    valid_items: int = Field(960, ge=1)
    bs: int = Field(48, ge=1)
    inputs: Literal["images", "noise"] = "images"
    rows: Literal["fresh", "frozen"] = "fresh"
    hardened: bool = True
    opt: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = Field(2e-3, gt=0)
    wd: float = Field(0.01, ge=0)
    loss: LossSettings = LossSettings()
    encoder: EncoderSettings = EncoderSettings()
    head: HeadSettings = HeadSettings()
    data: DataSettings = DataSettings()


class PretextItems(Items):
    """Rows of a pretext task. A row is (images (k, S, S, 3) uint8, labels ...); see `row` and `batch`.

    Args:
        side: the images and the part of them that may be shown; None where no row is asked for.
        count, seed, split: see `Items`.
        settings: of the task.
    """

    inputs = 1  # how many of a batch's tensors the network sees; the rest are targets

    def __init__(self, side: Side | None, count: int, seed: int, split: str, settings: PretextSettings):
        super().__init__(count, seed, split)
        self.side, self.settings = side, settings

    def item(self, epoch: int, index: int) -> tuple:
        """Item `index` as it is in `epoch`."""
        return super().item(0 if self.settings.rows == "frozen" else epoch, index)

    def draw(self, rng: np.random.Generator) -> tuple:
        """`row`, and where the inputs are to be noise, the seed of that noise."""
        row = self.row(rng)
        return (*row, rng.integers(2**63)) if self.settings.inputs == "noise" else row

    def row(self, rng: np.random.Generator) -> tuple:
        """Images (k, S, S, 3) uint8, then numbers or arrays that say what was drawn; all from `rng`."""
        raise NotImplementedError

    def stack(self, items: Sequence[tuple]) -> tuple[torch.Tensor, ...]:
        """Rows as tensors: images (B, k, 3, S, S) uint8, labels (B, ...)."""
        images, *labels = (torch.from_numpy(np.stack(part)) for part in zip(*items))
        return images.movedim(-1, -3), *labels

    def first(self, rows: int) -> tuple[torch.Tensor, ...]:
        """The first rows of epoch 0 as `batch` takes them: images in [0, 1], then what was drawn."""
        images, *drawn = self.stack([self.item(0, i) for i in range(rows)])
        return self.scaled(images), *drawn

    def scaled(self, images: torch.Tensor) -> torch.Tensor:
        """Images in [0, 1] from uint8, plane by plane (of pixel after pixel everything later is slower)."""
        return images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)

    def batch(self, images: torch.Tensor, *labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Inputs, then targets, from images (B, k, 3, S, S) in [0, 1] and labels, on their device; nothing is drawn."""
        raise NotImplementedError

    def finish(self, stacked: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """`batch` of what `stack` made; under `inputs=noise` with clamp(N(0, 1), 0, 1) in place of every input."""
        images, *labels = stacked
        seeds = labels.pop() if self.settings.inputs == "noise" else None
        parts = [t.contiguous() for t in self.batch(self.scaled(images), *labels)]
        if seeds is not None:
            draws = [np.random.default_rng(int(seed)) for seed in seeds]
            for k, part in enumerate(parts[: self.inputs]):
                noise = np.stack([d.standard_normal(part.shape[1:], dtype=np.float32) for d in draws])
                parts[k] = normalised(torch.from_numpy(noise).clamp(0, 1)).to(part.device)
        return tuple(parts)


class PretextLearner(Learner):
    """fastai's Learner, which shows results from the outputs as they are: `Items.shown` reads them itself."""

    def show_results(
        self, ds_idx: int = 1, dl: Any = None, max_n: int = 6, shuffle: bool = True, **kwargs: Any
    ) -> None:
        """As fastai's, and for loaders of `Items` without the loss's `activation` and `decodes`."""
        dl = self.dls[ds_idx].new(shuffle=shuffle) if dl is None else dl
        if not isinstance(dl, ReplayLoader):
            super().show_results(dl=dl, max_n=max_n, **kwargs)
            return
        batch = dl.one_batch()
        dl.show_results(batch, self.get_preds(dl=[batch], act=noop)[0], max_n=max_n, **kwargs)


def pretext_learner(
    dls: DataLoaders,
    model: nn.Module,
    loss_func: nn.Module,
    metrics: Sequence[Any] = (),
    opt_func: Callable[..., Any] = OPTIMIZERS["adamw"],
    lr: float = 2e-3,
    wd: float = 0.01,
) -> Learner:
    """Learner of a pretext task on the device of its loaders. Args as in fastai's Learner."""
    return PretextLearner(dls, model.to(dls.device), loss_func, opt_func=opt_func, lr=lr, wd=wd, metrics=list(metrics))


class Pretext(Task):
    """A pretext task under given settings.

    Subclasses set what follows, `metric` and `chance`, and implement `network` and `metrics`, and of `Task` what may be
    known of them.

    Attributes:
        Items: class of its rows.
        HEADS: kinds of head that fit, its own first. LOSSES: kinds of loss that fit, its own first.
        SHORTCUTS: what solves the raw task without looking, and what is done against it.
        GENERALISES: whether a small encoder learns it in minutes on a CPU; if not it must still overfit a fixed batch.
    """

    Settings: ClassVar[type[PretextSettings]] = PretextSettings
    Items: ClassVar[type[PretextItems]]
    HEADS: ClassVar[tuple[str, ...]] = ()
    LOSSES: ClassVar[tuple[str, ...]] = ()
    SHORTCUTS: ClassVar[str] = ""
    GENERALISES: ClassVar[bool] = True
    settings: PretextSettings

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.id = cls.__module__.rsplit(".", 1)[-1].replace("_", "-")  # as the registry names it

    def __init__(self, settings: PretextSettings | None = None):
        super().__init__(settings)
        self._refuse_unfit("head.kind", self.settings.head.kind, self.heads())
        self._refuse_unfit("loss.kind", self.settings.loss.kind, self.losses())

    def heads(self) -> tuple[str, ...]:
        """Kinds of head that fit these settings, the task's own first."""
        return self.HEADS

    def losses(self) -> tuple[str, ...]:
        """Kinds of loss that fit these settings, the task's own first."""
        return self.LOSSES

    def _refuse_unfit(self, name: str, kind: str, fit: tuple[str, ...]) -> None:
        if kind != "auto" and kind not in fit:
            raise DiagnoseError(f"--set {name}={kind}: does not fit {self.id}; what fits: {', '.join(fit) or 'none'}")

    @property
    def head_kind(self) -> str:
        """The head meant by `head.kind`."""
        kind = self.settings.head.kind
        return self.heads()[0] if kind == "auto" else kind

    @property
    def loss_kind(self) -> str:
        """The loss meant by `loss.kind`."""
        kind = self.settings.loss.kind
        return self.losses()[0] if kind == "auto" else kind

    # ---- data, network, Learner --------------------------------------------------------------------------------------

    @cached_property
    def sides(self) -> tuple[Side, Side]:
        """What training and validation may show; a folder is read once for all data sets of the task."""
        data = self.settings.data
        train, valid = sides(data.source, data.split, data.with_val, data.skip_corrupt, self.settings.size)
        whole = data.crops == "whole"
        return replace(train, whole=whole), replace(valid, whole=whole)

    @cached_property
    def roles(self) -> PretextItems:
        """Rows without images, for what the settings alone say of them."""
        return self.Items(None, 0, 0, "train", self.settings)

    def items(self, seed: int, split: str) -> PretextItems:
        """Data set of one split, `train` or `valid`."""
        s = self.settings
        count = s.items if split == "train" else s.valid_items
        return self.Items(self.sides[split == "valid"], count, seed, split, s)

    def raw(self, rows: int, seed: int, **changes: Any) -> PretextItems:
        """Training rows of the raw task, as its oracle reads them."""
        return self.under(**{"hardened": False, "inputs": "images", "items": rows, **changes}).items(seed, "train")

    def loaders(self, seed: int, device: str | torch.device = "cpu") -> DataLoaders:
        """See `Task.loaders`."""
        s = self.settings
        train, valid = self.items(seed, "train"), self.items(seed, "valid")
        return dataloaders(train, valid, s.bs, device, s.data.workers, s.data.pin)

    def encoder(self) -> nn.Module:
        """The encoder that the settings name."""
        s = self.settings.encoder
        return make_encoder(s.arch, s.norm, s.weights, s.frozen)

    def network(self, encoder: nn.Module) -> nn.Module:
        """The network over an encoder, which it keeps as its attribute `encoder`."""
        raise NotImplementedError

    def loss(self) -> nn.Module:
        """The loss that the settings name."""
        return LOSSES[self.loss_kind](self.settings.loss.reduction)

    def metrics(self) -> list:
        """fastai metrics, that of `metric` first."""
        raise NotImplementedError

    def learner(self, seed: int, device: str | torch.device = "cpu") -> Learner:
        """See `Task.learner`. torch's own random stream is left as it was."""
        s = self.settings
        dls = self.loaders(seed, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.network(self.encoder())
            return pretext_learner(dls, network, self.loss(), self.metrics(), OPTIMIZERS[s.opt], s.lr, s.wd)

    def under(self, **changes: Any) -> Pretext:
        """The same task with some settings changed; they are validated."""
        return type(self)(type(self.settings).model_validate({**self.settings.model_dump(), **changes}))

    # ---- what may be known of it ---------------------------------------------------------------------------------

    def features(self, model: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        """What the encoder makes of the first input, (rows, 1, C, h, w)."""
        return model.encoder(inputs[0])[:, None]

    def oracle(self, rows: int = 256, seed: int = 0) -> float | None:
        """Score of a solver in closed form on the raw task, under `metric`; below about 1 the labels are wrong.

        None where there is none.
        """
        return None

    def baselines(self, rows: int = 256, seed: int = 0) -> dict[str, float]:
        """Scores, by name with unit, of simple answers to held-out rows that a network's are to be seen beside.

        Empty where the best constant and chance are enough.
        """
        return {}

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """Solvers without vision by name: the score each reaches on a batch. On the hardened task all must fail."""
        return {}
