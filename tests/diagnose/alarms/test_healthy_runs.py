"""Healthy runs that look like faulty ones raise nothing."""

import learners
import pytest
import torch
import watched
from fastai.callback.schedule import ParamScheduler, SchedLin, combined_cos
from fastai.callback.training import GradientAccumulation
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.optimizer import SGD
from torch import nn


def scheduled(lr) -> ParamScheduler:
    return ParamScheduler({"lr": lr})


def warm_up_from_zero(seed):
    return watched.fit(watched.digits(seed), 300, scheduled(SchedLin(0, 3e-3)))


def slow_warm_up(seed):
    """150 steps at rates from 0 to 1e-7: the loss stays where it began, and few bits move."""
    return watched.fit(watched.digits(seed, opt_func=SGD), 150, scheduled(SchedLin(0, 1e-7)))


def warm_up_of_a_zero_last_layer(seed):
    learn = watched.digits(seed)
    nn.init.zeros_(learn.model[-1].weight)
    nn.init.zeros_(learn.model[-1].bias)

    def lr(pos):  # 30 steps at 0
        return 0.0 if pos < 0.1 else 3e-3 * pos

    return watched.fit(learn, 200, scheduled(lr))


class Sparse(nn.Module):
    """Keeps the 10 % largest of each item's features: 90 % zeros, and no unit is always among them."""

    def forward(self, x):
        x = x.relu()
        return x * (x >= x.topk(max(x.shape[1] // 10, 1), 1).values[:, -1:])


def sparse_relu(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 60), nn.BatchNorm1d(60), Sparse(), nn.Linear(60, 10))
    return watched.fit(watched.digits(seed, model=model), 280)


def frozen_body(seed):
    learn = learners.declared_freeze(seed)
    return watched.fit(learn, 140)


def frozen_body_by_hand(seed):
    learn = watched.digits(seed, widths=(64, 64, 64, 10), lr=1e-2)
    for p in learn.model[:-1].parameters():
        p.requires_grad_(False)
    return watched.fit(learn, 140)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x):
        return x + self.outer(self.inner(x).relu())


class Scaled(nn.Module):
    """A residual branch with a gain that starts at zero (ReZero) and one at 1e-6 (LayerScale)."""

    def __init__(self, width):
        super().__init__()
        self.body = nn.Linear(width, width)
        self.gain, self.gains = nn.Parameter(torch.zeros(1, 1)), nn.Parameter(1e-6 * torch.ones(1, width))

    def forward(self, x):
        return x + self.gain * self.body(x).relu() + self.gains * x.tanh()


def residual(seed, **kwargs):
    torch.manual_seed(seed)
    parts = [Residual(32), Scaled(32), Residual(32)]
    return watched.digits(
        seed, model=nn.Sequential(nn.Flatten(), nn.Linear(64, 32), *parts, nn.Linear(32, 10)), **kwargs
    )


def zero_initialised_branches(seed):
    return watched.fit(residual(seed), 200)


def zero_initialised_branches_under_sgd(seed):
    return watched.fit(residual(seed, opt_func=SGD, lr=3e-2), 200)


def zero_initialised_branches_at_a_tiny_rate(seed):
    """The inner layers of the branches hardly move at first. At this rate the net as a whole learns little either."""
    learn = residual(seed, opt_func=SGD, lr=1e-3)
    return watched.fit(learn, 200, alarms=["update-ratio", "nothing-moves", "layer-died"])


class Gan(nn.Module):
    """A generator and a critic, one module for each of two steps."""

    def __init__(self):
        super().__init__()
        self.generator, self.critic = watched.mlp(8, 32, 64), watched.mlp(64, 32, 1)
        self.turn = 0

    def forward(self, x):
        fake = self.generator(torch.randn(len(x), 8))
        return self.critic(x), self.critic(fake)


class GanLoss(nn.Module):
    """Non-saturating GAN loss (Goodfellow et al. 2014) of the part whose turn it is."""

    def __init__(self, model):
        super().__init__()
        self.model = [model]

    def forward(self, scores, _):
        real, fake = scores
        ones, zeros = torch.ones_like(real), torch.zeros_like(real)
        bce = nn.functional.binary_cross_entropy_with_logits
        if self.model[0].turn:
            return bce(fake, ones)
        return bce(real, ones) + bce(fake, zeros)


def gan(seed):
    torch.manual_seed(seed)
    model = Gan()

    def switch(learn):
        model.turn = learn.train_iter % 2
        model.generator.requires_grad_(bool(model.turn))
        model.critic.requires_grad_(not model.turn)

    learn = watched.digits(seed, model=model, loss_func=GanLoss(model), lr=1e-3)
    return watched.fit(learn, 240, watched.At("before_batch", switch))


def oscillating_loss(seed):
    """A rate just below where SGD with momentum diverges: the loss swings."""
    return watched.fit(watched.digits(seed, opt_func=SGD, lr=0.5), 200)


def one_cycle(seed):
    return watched.fit(learners.digits(seed), 230, scheduled(combined_cos(0.25, 1e-2 / 25, 1e-2, 1e-7)))


def small_cnn(seed):
    return watched.fit(learners.digits(seed), 200)


def regression(seed):
    return watched.fit(learners.diabetes(seed), 200)


def raw_regression(seed):
    """Targets around 100, their spread about 1 %: the outputs are nearly alike beside their size."""
    learn = learners.diabetes(seed, lr=1e-2)
    learn.model.append(Shifted())
    learn.loss_func = RawLoss()
    return watched.fit(learn, 200)


class Shifted(nn.Module):
    def forward(self, x):
        return x + 100


class RawLoss(nn.Module):
    def forward(self, pred, y):
        return nn.functional.mse_loss(pred, y + 100)


def fine_tuning(seed):
    return watched.fit(learners.fine_tuning_rate(seed), 200)


def fine_tuning_at_a_tiny_rate(seed):
    learn = learners.fine_tuning_rate(seed)
    learn.lr = 1e-6
    return watched.fit(learn, 150)


def converged(seed):
    """Trained until hardly anything is left to learn, then trained on by SGD: gradients are small, and so are steps."""
    learn = watched.digits(seed, widths=(64, 128, 10), lr=1e-2)
    with learn.no_bar(), learn.no_logging():
        learn.fit(30)
    learn.opt_func, learn.opt = SGD, None
    return watched.fit(learn, 200, lr=3e-5)


def gradient_accumulation(seed):
    return watched.fit(watched.digits(seed, bs=16), 300, GradientAccumulation(64))


def noisy_tiny_batch(seed):
    return watched.fit(watched.digits(seed, bs=4), 300)


def batches_of_one(seed):
    return watched.fit(watched.digits(seed, bs=1, opt_func=SGD, lr=1e-2), 200)


def label_smoothing(seed):
    return watched.fit(learners.label_smoothing(seed), 140)


def two_classes(seed):
    """Neural collapse of two classes leaves one direction."""
    learn = watched.digits(seed, widths=(64, 64, 2), lr=1e-2, loss_func=Odd())
    return watched.fit(learn, 300)


class Odd(nn.Module):
    def forward(self, pred, y):
        return nn.functional.cross_entropy(pred, y % 2)


def embeddings(seed):
    """A table of which every step touches a few rows, most of them outside the sample."""
    torch.manual_seed(seed)
    x = torch.randint(0, 20_000, (1500, 4))
    y = torch.randint(0, 2, (1500,))
    model = nn.Sequential(nn.Embedding(20_000, 8), nn.Flatten(), nn.Linear(32, 2))
    dls = learners.loaders_of(x, y, bs=8)
    return watched.fit(Learner(dls, model, loss_func=CrossEntropyLossFlat(), opt_func=SGD, lr=1e-1), 150)


def only_embeddings(seed):
    torch.manual_seed(seed)
    x, y = torch.randint(0, 20_000, (1500, 4)), torch.rand(1500, 4, 8)
    learn = Learner(
        learners.loaders_of(x, y, bs=8), nn.Embedding(20_000, 8), loss_func=nn.MSELoss(), opt_func=SGD, lr=1.0
    )
    return watched.fit(learn, 150)


def deep_relu(seed):
    """Ten layers without norm: features start with a cosine near 1 and get apart."""
    return watched.fit(watched.digits(seed, widths=(64, *[64] * 10, 10), lr=1e-3), 250)


def weights_in_bfloat16(seed):
    """Usual steps are below the format's resolution, and some elements move."""
    learn = watched.digits(seed, bs=8)
    return watched.fit(learn, 140, *watched.in_bfloat16(learn))


def two_rates(seed):
    """Discriminative rates, 1 to 10,000."""
    split = {"splitter": lambda m: [list(m[:2].parameters()), list(m[2:].parameters())]}
    learn = watched.digits(seed, opt_func=SGD, **split)
    return watched.fit(learn, 150, lr=slice(1e-5, 1e-1))


RUNS = [
    *(warm_up_from_zero, slow_warm_up, warm_up_of_a_zero_last_layer, sparse_relu, frozen_body, frozen_body_by_hand),
    *(zero_initialised_branches, zero_initialised_branches_under_sgd, zero_initialised_branches_at_a_tiny_rate, gan),
    *(oscillating_loss, one_cycle, small_cnn, regression, raw_regression, fine_tuning, fine_tuning_at_a_tiny_rate),
    *(converged, gradient_accumulation, noisy_tiny_batch, batches_of_one, label_smoothing, two_classes, embeddings),
    *(only_embeddings, deep_relu, weights_in_bfloat16, two_rates),
]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__)
def test_raises_nothing(run, seed):
    watch = run(seed)
    assert watch.recording.recorded >= 100
    assert watch.raised == []
