"""Odd but healthy Learners: kinds of input, output, loss, loader and optimizer that fastai allows. All tiny."""

from __future__ import annotations

import string
from functools import partial

import torch
from fastai.callback.mixup import MixUp
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.data.core import DataLoaders, Datasets, TfmdDL
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.losses import BCEWithLogitsLossFlat, CrossEntropyLossFlat, MSELossFlat
from fastai.optimizer import SGD, OptimWrapper
from fastai.text.data import LMDataLoader, SortedDL, TensorText, pad_input
from fastai.text.learner import language_model_learner, text_classifier_learner
from fastai.text.models.awdlstm import AWD_LSTM, awd_lstm_clas_config, awd_lstm_lm_config
from fastai.torch_core import TensorCategory, TensorImage
from learners import _digits, digits, small_cnn
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import Dataset, TensorDataset

from diagnose.isolate import seed_everything

ROWS = 256  # items of each training set


class Items(Dataset):
    """A list of items as a data set."""

    def __init__(self, items: list):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int):
        return self.items[i]


def learner(items: list, model: nn.Module, loss, n_inp: int | None = None, bs: int = 32, workers: int = 0, **kwargs):
    """A Learner over a list of items, a quarter of them held out."""
    cut = len(items) // 4
    train = DataLoader(Items(items[cut:]), bs=bs, shuffle=True, drop_last=True, num_workers=workers)
    valid = DataLoader(Items(items[:cut]), bs=bs, num_workers=workers)
    dls = DataLoaders(train, valid, device=torch.device("cpu"))
    if n_inp is not None:
        train.n_inp = valid.n_inp = n_inp
    return Learner(dls, model, loss_func=loss, **{"lr": 3e-3, **kwargs})


def digit_items(count: int = ROWS) -> list[tuple[Tensor, Tensor]]:
    x, y = _digits()
    return [(x[i], y[i]) for i in range(count)]


class Halves(nn.Module):
    """Left and right half of a picture, each through its own layer."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(64, 10)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        both = torch.cat([self.left(left.flatten(1)), self.right(right.flatten(1))], 1)
        return self.head(F.relu(both))


class FromDict(Halves):
    """The same two halves out of a dict."""

    def forward(self, parts: dict) -> Tensor:
        return super().forward(parts["left"], parts["right"])


def tuple_inputs(seed: int = 0) -> Learner:
    """Two input tensors."""
    seed_everything(seed)
    return learner([(x[..., :4], x[..., 4:], y) for x, y in digit_items()], Halves(), CrossEntropyLossFlat())


def nested_tuple_input(seed: int = 0) -> Learner:
    """One input that is a tuple of two tensors."""

    class FromTuple(Halves):
        def forward(self, parts):
            return super().forward(*parts)

    seed_everything(seed)
    items = [((x[..., :4], x[..., 4:]), y) for x, y in digit_items()]
    return learner(items, FromTuple(), CrossEntropyLossFlat())


def dict_input(seed: int = 0) -> Learner:
    """One input that is a dict."""
    seed_everything(seed)
    items = [({"left": x[..., :4], "right": x[..., 4:]}, y) for x, y in digit_items()]
    return learner(items, FromDict(), CrossEntropyLossFlat())


class TextNet(nn.Module):
    """Token ids to classes: embedding, GRU, linear."""

    def __init__(self, tokens: int = 20, classes: int = 4):
        super().__init__()
        self.embedding = nn.Embedding(tokens, 16, padding_idx=0)
        self.rnn, self.head = nn.GRU(16, 32, batch_first=True), nn.Linear(32, classes)

    def forward(self, ids: Tensor) -> Tensor:
        _, h = self.rnn(self.embedding(ids))
        return self.head(h[-1])


def text(seed: int = 0) -> Learner:
    """Padded token ids; the class is the remainder of the last token."""
    seed_everything(seed)
    ids = torch.randint(1, 20, (ROWS, 9))
    ids[:, :3] *= torch.rand(ROWS, 1) > 0.5  # padding in front
    return learner([(r, r[-1] % 4) for r in ids], TextNet(), CrossEntropyLossFlat(), lr=1e-2)


class TabularNet(nn.Module):
    """Categorical and continuous columns, as fastai's TabularModel takes them."""

    def __init__(self):
        super().__init__()
        self.embeddings = nn.ModuleList([nn.Embedding(5, 4), nn.Embedding(7, 4)])
        self.norm = nn.BatchNorm1d(3)
        self.layers = nn.Sequential(nn.Linear(11, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        parts = [e(categories[:, i]) for i, e in enumerate(self.embeddings)]
        return self.layers(torch.cat([*parts, self.norm(numbers)], 1))


def tabular(seed: int = 0) -> Learner:
    """Two categorical and three continuous columns, a real target."""
    seed_everything(seed)
    categories = torch.stack([torch.randint(5, (ROWS,)), torch.randint(7, (ROWS,))], 1)
    numbers = torch.randn(ROWS, 3) * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([0.0, 10.0, 0.0])
    y = (categories[:, 0] - 2) * 0.5 + numbers[:, 0] + (numbers[:, 1] - 10) / 5
    return learner(list(zip(categories, numbers, y[:, None])), TabularNet(), MSELossFlat(), lr=1e-2)


class Siamese(nn.Module):
    """Three pictures through one encoder in one stacked call."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = small_cnn(16), nn.Linear(48, 3)

    def forward(self, *pictures: Tensor) -> Tensor:
        z = self.encoder(torch.stack(pictures, 1).flatten(0, 1))
        return self.head(z.unflatten(0, (-1, len(pictures))).flatten(1))


def several_images(seed: int = 0) -> Learner:
    """Three pictures a row; multi-label target: which of them are odd digits."""
    seed_everything(seed)
    x, y = _digits()
    picks = torch.randint(len(x), (ROWS, 3))
    items = [(x[a], x[b], x[c], (y[[a, b, c]] % 2).float()) for a, b, c in picks.tolist()]
    return learner(items, Siamese(), BCEWithLogitsLossFlat())


def segmentation(seed: int = 0) -> Learner:
    """A class for every pixel: ink or paper, under cross-entropy over axis 1."""
    seed_everything(seed)
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 2, 1))
    return learner([(x, (x[0] > 0.4).long()) for x, _ in digit_items()], model, CrossEntropyLossFlat(axis=1), lr=1e-2)


class CharacterModel(nn.Module):
    """Next-character scores at every place: (rows, places, characters)."""

    def __init__(self, characters: int):
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(characters, 16), nn.GRU(16, 64, batch_first=True)
        self.head = nn.Linear(64, characters)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.rnn(self.embedding(ids))[0])


def character_model(seed: int = 0) -> Learner:
    """A language model over characters."""
    seed_everything(seed)
    sentence = "the quick brown fox jumps over the lazy dog while five wizards box quietly; "
    known = sorted(set(string.ascii_lowercase + " ;"))
    ids = torch.tensor([known.index(c) for c in sentence * 8])
    items = [(ids[i : i + 12], ids[i + 1 : i + 13]) for i in range(0, len(ids) - 13, 3)]
    return learner(items, CharacterModel(len(known)), CrossEntropyLossFlat(), lr=1e-2)


def autoencoder(seed: int = 0) -> Learner:
    """The target is the input, the very same tensor."""
    seed_everything(seed)
    model = nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU()),
        *(nn.Linear(32, 64), nn.Unflatten(1, (1, 8, 8))),
    )
    return learner([(x, x) for x, _ in digit_items()], model, nn.MSELoss(), lr=1e-2)


class Views(nn.Module):
    """Embeddings of two views of each picture: (rows, 2, features)."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([self.encoder(a), self.encoder(b)], 1)


class ContrastiveLoss(nn.Module):
    """NT-Xent over the batch; what comes as target is an index and is not used."""

    def forward(self, views: Tensor, index: Tensor) -> Tensor:
        z = F.normalize(views.transpose(0, 1).flatten(0, 1), dim=1)
        n = len(views)
        scores = (z @ z.T / 0.2).masked_fill(torch.eye(2 * n, dtype=torch.bool, device=z.device), -1e4)
        return F.cross_entropy(scores, torch.arange(2 * n, device=z.device).roll(n))


def contrastive(seed: int = 0) -> Learner:
    """Two views and no label: the target is the item's index only."""
    seed_everything(seed)
    items = [(x + 0.1 * torch.randn_like(x), x.roll(1, -1), i) for i, (x, _) in enumerate(digit_items())]
    return learner(items, Views(), ContrastiveLoss(), lr=3e-3)


class TwoHeads(nn.Module):
    """One body, a class and a number out of it, as a tuple."""

    def __init__(self):
        super().__init__()
        self.body, self.label, self.ink = small_cnn(32), nn.Linear(32, 10), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = F.relu(self.body(x))
        return self.label(z), self.ink(z)


class SummedLosses(nn.Module):
    """Cross-entropy plus mean squared error."""

    def forward(self, outputs: tuple, label: Tensor, ink: Tensor) -> Tensor:
        return F.cross_entropy(outputs[0], label) + F.mse_loss(outputs[1], ink)


def multi_task(seed: int = 0) -> Learner:
    """Two targets and a tuple of two outputs."""
    seed_everything(seed)
    items = [(x, y, x.mean(dim=(1, 2)) * 5) for x, y in digit_items()]
    return learner(items, TwoHeads(), SummedLosses(), n_inp=1)


def dict_output(seed: int = 0) -> Learner:
    """A model that answers with a dict."""

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_cnn()

        def forward(self, x: Tensor) -> dict:
            return {"scores": self.net(x), "name": "digits"}

    def loss(out: dict, y: Tensor) -> Tensor:
        return F.cross_entropy(out["scores"], y)

    seed_everything(seed)
    return learner(digit_items(), Named(), loss)


def torch_optimizer(seed: int = 0) -> Learner:
    """torch's AdamW under fastai's OptimWrapper."""
    return digits(seed, opt_func=partial(OptimWrapper, opt=torch.optim.AdamW))


def torch_loaders(seed: int = 0) -> Learner:
    """Plain torch loaders."""
    learn = digits(seed)
    x, y = _digits()
    data = TensorDataset(x[:ROWS], y[:ROWS])
    learn.dls = DataLoaders(TorchLoader(data, 32, shuffle=True), TorchLoader(data, 32))
    return learn


def list_of_batches(seed: int = 0) -> Learner:
    """A list of batches in place of a loader."""
    learn = digits(seed)
    x, y = _digits()
    learn.dls = DataLoaders([(x[i : i + 32], y[i : i + 32]) for i in (0, 32, 64)], [(x[96:128], y[96:128])])
    return learn


def two_workers(seed: int = 0) -> Learner:
    """Batches made in two worker processes."""
    seed_everything(seed)
    return learner(digit_items(), small_cnn(), CrossEntropyLossFlat(), workers=2)


def frozen_body(seed: int = 0) -> Learner:
    """A body frozen by requires_grad, under a head that trains."""
    learn = digits(seed, lr=1e-2)
    learn.model[:2].requires_grad_(False)
    return learn


def fp16_on_cpu(seed: int = 0) -> Learner:
    """Mixed precision where there is no CUDA: no effect."""
    return digits(seed).to_fp16() if torch.cuda.is_available() else _quiet_fp16(seed)


def _quiet_fp16(seed: int) -> Learner:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return digits(seed).to_fp16()


def flat_regression(seed: int = 0) -> Learner:
    """Outputs and targets of one dimension."""
    seed_everything(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
    return learner([(x, (x.mean() - 0.3) * 20) for x, _ in digit_items()], model, nn.MSELoss(), lr=1e-2)


def binary_column(seed: int = 0) -> Learner:
    """One logit a row, targets (n, 1) of floats."""
    seed_everything(seed)
    items = [(x, (y > 4).float()[None]) for x, y in digit_items()]
    return learner(items, small_cnn(1), nn.BCEWithLogitsLoss())


def mixup(seed: int = 0) -> Learner:
    """fastai's MixUp, which stacks onto the loss."""
    return digits(seed, cbs=MixUp())


def clipped_and_accumulated(seed: int = 0) -> Learner:
    """Gradient clipping and accumulation over two batches."""
    return digits(seed, cbs=[GradientClip(1.0), GradientAccumulation(128)])


def byte_pictures(seed: int = 0) -> Learner:
    """Pictures as bytes, scaled inside the model."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_cnn()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.float() / 255)

    seed_everything(seed)
    items = [((x * 255).byte(), y) for x, y in digit_items()]
    return learner(items, Scaled(), CrossEntropyLossFlat())


def typed_tensors(seed: int = 0) -> Learner:
    """fastai's own data sets, whose tensors carry a type."""
    seed_everything(seed)
    x, y = _digits()
    transforms = [[lambda i: TensorImage(x[i])], [lambda i: TensorCategory(y[i])]]
    sets = [Datasets(list(part), transforms) for part in (range(ROWS), range(ROWS, 2 * ROWS))]
    loaders = [TfmdDL(s, bs=32, shuffle=not i, drop_last=not i) for i, s in enumerate(sets)]
    return Learner(DataLoaders(*loaders), small_cnn(), loss_func=CrossEntropyLossFlat(), lr=3e-3)


class Recurrent(nn.Module):
    """Keeps its hidden state from batch to batch, as language models do."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head, self.state = nn.GRU(8, 32, batch_first=True), nn.Linear(32, 10), None

    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, 0]
        state = self.state if self.state is not None and self.state.shape[1] == len(rows) else None
        out, state = self.rnn(rows, state)
        self.state = state.detach() * 0.1
        return self.head(out[:, -1])


def stateful(seed: int = 0) -> Learner:
    """A recurrent model that carries its state over."""
    seed_everything(seed)
    return learner(digit_items(), Recurrent(), CrossEntropyLossFlat(), lr=1e-2)


def tied_weights(seed: int = 0) -> Learner:
    """One weight used by two layers."""
    seed_everything(seed)
    model = CharacterModel(20)
    model.rnn, model.head = nn.GRU(16, 16, batch_first=True), nn.Linear(16, 20)
    model.head.weight = model.embedding.weight
    ids = torch.arange(3 * ROWS) % 20
    items = [(ids[i : i + 6], ids[i + 1 : i + 7]) for i in range(0, len(ids) - 7, 2)]
    return learner(items, model, CrossEntropyLossFlat(), lr=1e-2)


def sparse_embedding(seed: int = 0) -> Learner:
    """An embedding with sparse gradients, under plain SGD of torch."""
    seed_everything(seed)
    model = nn.Sequential(nn.EmbeddingBag(20, 4, sparse=True))
    items = [(torch.tensor([i % 20]), torch.tensor(i % 4)) for i in range(ROWS)]
    return learner(items, model, CrossEntropyLossFlat(), opt_func=partial(OptimWrapper, opt=torch.optim.SGD), lr=20.0)


class WeightsOfRows(nn.Module):
    """A loss without reduction, times a weight that comes with each row."""

    def forward(self, out: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return (F.cross_entropy(out, y, reduction="none") * weight).mean()


def weighted_rows(seed: int = 0) -> Learner:
    """A weight for each row beside the target."""
    seed_everything(seed)
    items = [(x, y, torch.tensor(1.0 if y % 2 else 0.5)) for x, y in digit_items()]
    return learner(items, small_cnn(), WeightsOfRows(), n_inp=1)


def graph_batches(seed: int = 0) -> Learner:
    """Nodes and edges: the tensors of a batch do not agree on their first dimension."""

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(6, 32), nn.Linear(32, 3)

        def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
            h = F.relu(self.inner(nodes))
            return self.outer(h + torch.zeros_like(h).index_add(0, edges[1], h[edges[0]]))

    seed_everything(seed)
    batches = []
    for _ in range(4):
        nodes = torch.randn(24, 6)
        batches.append((nodes, torch.randint(24, (2, 40)), nodes[:, :3].argmax(1)))
    learn = digits(seed, model=Graph(), lr=1e-2)
    learn.dls = DataLoaders(batches, batches[:1])
    return learn


def double_precision(seed: int = 0) -> Learner:
    """Weights and inputs in float64."""
    seed_everything(seed)
    return learner([(x.double(), y) for x, y in digit_items()], small_cnn().double(), CrossEntropyLossFlat())


def bfloat16(seed: int = 0) -> Learner:
    """Weights and inputs in bfloat16."""
    seed_everything(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).bfloat16()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out.float(), y)  # fastai's recorder takes no loss in bfloat16

    return learner([(x.bfloat16(), y) for x, y in digit_items()], model, loss)


def sgd_before_norms(seed: int = 0) -> Learner:
    """Plain SGD: biases before batch norm get rounding for a gradient and stay where they are."""
    return digits(seed, opt_func=SGD, lr=0.1)


class FixedSize(nn.Module):
    """A model written for one batch size."""

    def __init__(self):
        super().__init__()
        self.net = small_cnn()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).view(32, 10)


def fixed_batch_size(seed: int = 0) -> Learner:
    """A model that takes batches of 32 only."""
    seed_everything(seed)
    return learner(digit_items(), FixedSize(), CrossEntropyLossFlat())


class ContrastiveOfSize(ContrastiveLoss):
    """A contrastive loss whose mask is made for one batch size."""

    def __init__(self, rows: int):
        super().__init__()
        self.register_buffer("mask", torch.eye(2 * rows, dtype=torch.bool))

    def forward(self, views: Tensor, index: Tensor) -> Tensor:
        z = F.normalize(views.transpose(0, 1).flatten(0, 1), dim=1)
        scores = (z @ z.T / 0.2).masked_fill(self.mask, -1e4)
        return F.cross_entropy(scores, torch.arange(len(z), device=z.device).roll(len(z) // 2))


def contrastive_of_one_size(seed: int = 0) -> Learner:
    """A contrastive loss that takes batches of 32 only."""
    learn = contrastive(seed)
    learn.loss_func = ContrastiveOfSize(32)
    return learn


def far_targets(seed: int = 0) -> Learner:
    """Targets that are not standardised: mean 2, standard deviation 1."""
    seed_everything(seed)
    items = [(x, (x.mean() - 0.3) / 0.05 * torch.ones(1) + 2) for x, _ in digit_items()]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    return learner(items, model, nn.MSELoss(), lr=1e-2)


def contrastive_dummy_label(seed: int = 0) -> Learner:
    """A contrastive loss, and zero for a label in every row."""
    learn = contrastive(seed)
    for loader in learn.dls.loaders:
        loader.dataset.items = [(a, b, 0) for a, b, _ in loader.dataset.items]
    return learn


def slice_of_rates(seed: int = 0) -> Learner:
    """Two parameter groups under a slice of rates."""
    return digits(seed, splitter=lambda m: [list(m[:2].parameters()), list(m[2:].parameters())], lr=slice(1e-3, 1e-2))


VOCABULARY = 24  # tokens of the synthetic texts; fastai pads with 1
SMALL = {"emb_sz": 16, "n_hid": 24, "n_layers": 2}


def language_model_of_fastai(seed: int = 0) -> Learner:
    """AWD-LSTM over a stream of tokens: a tuple for an output, a hidden state that callbacks reset."""
    seed_everything(seed)
    rhyme = torch.randint(2, VOCABULARY, (40,))
    sets = [[TensorText(rhyme.roll(-i).repeat(2)) for i in range(count)] for count in (60, 20)]
    loaders = [LMDataLoader(s, bs=16, seq_len=12, shuffle=not k, device="cpu") for k, s in enumerate(sets)]
    dls = DataLoaders(*loaders)
    dls.vocab = [f"t{i}" for i in range(VOCABULARY)]
    config = {**awd_lstm_lm_config, **SMALL}
    return language_model_learner(dls, AWD_LSTM, config=config, drop_mult=0.1, pretrained=False, lr=2e-2)


def text_classifier_of_fastai(seed: int = 0) -> Learner:
    """AWD-LSTM under a pooling head, over padded texts: the class is that of the most frequent token."""
    seed_everything(seed)
    items = []
    for _ in range(ROWS):
        label = int(torch.randint(4, ()))
        length = int(torch.randint(6, 14, ()))
        ids = torch.where(torch.rand(length) < 0.5, 2 + label, torch.randint(6, VOCABULARY, (length,)))
        items.append((ids, label))
    transforms = [lambda i: TensorText(items[i][0]), lambda i: TensorCategory(items[i][1])]
    sets = [Datasets(list(part), transforms) for part in (range(64, ROWS), range(64))]
    loaders = [SortedDL(s, bs=32, shuffle=not k, before_batch=pad_input, device="cpu") for k, s in enumerate(sets)]
    dls = DataLoaders(*loaders)
    dls.vocab = [f"t{i}" for i in range(VOCABULARY)]
    config = {**awd_lstm_clas_config, **SMALL}
    own = {"config": config, "n_out": 4, "seq_len": 8, "drop_mult": 0.1, "pretrained": False, "lin_ftrs": [16]}
    return text_classifier_learner(dls, AWD_LSTM, loss_func=CrossEntropyLossFlat(), lr=1e-2, **own)


class WithTeacher(nn.Module):
    """A small net that is also given what a fixed one makes of the picture, in inference mode."""

    def __init__(self):
        super().__init__()
        self.teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16)).requires_grad_(
            False
        )
        self.student, self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU()), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            hint = self.teacher(x)
        return self.head(torch.cat([self.student(x), hint.clone()], 1))


def teacher_in_inference_mode(seed: int = 0) -> Learner:
    """Part of the forward pass makes tensors that count no writes."""
    seed_everything(seed)
    return learner(digit_items(), WithTeacher(), CrossEntropyLossFlat())


ODD = {
    f.__name__: f
    for f in (
        *(tuple_inputs, nested_tuple_input, dict_input, text, tabular, several_images, segmentation, character_model),
        *(autoencoder, contrastive, multi_task, dict_output, torch_optimizer, torch_loaders, list_of_batches),
        *(two_workers, frozen_body, fp16_on_cpu, flat_regression, binary_column, mixup, clipped_and_accumulated),
        *(byte_pictures, typed_tensors, stateful, tied_weights, sparse_embedding, weighted_rows),
        *(graph_batches, double_precision, bfloat16, slice_of_rates, sgd_before_norms, fixed_batch_size),
        *(contrastive_of_one_size, contrastive_dummy_label, far_targets),
        *(language_model_of_fastai, text_classifier_of_fastai, teacher_in_inference_mode),
    )
}
