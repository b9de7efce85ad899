"""Each check goes red on the defect it is there for, and says the number."""

import math

import pytest
import torch
from learners import _digits, digits, small_cnn
from odd_subjects import learner
from torch import nn
from torch.nn import functional as F

from diagnose import registry
from diagnose.checks import Check
from diagnose.faults import Fault
from diagnose.isolate import seed_everything
from diagnose.lab import Lab
from diagnose.subject import from_learner, from_task
from diagnose.task import Task

CHECKS = registry.load_all("diagnose.checks", Check)
FAULTS = registry.load_all("diagnose.faults", Fault)


def judged(id, learn, task=None):
    subject = from_learner(learn)
    subject.task = task
    check = CHECKS[id]
    return check.judge(check.measure(Lab(subject)))


@pytest.mark.parametrize(
    ("check", "fault", "status", "says"),
    [
        ("optimizer-holds-parameters", "head-replaced", "fail", "2 of 12"),
        ("initialisation", "weights-constant", "warn", "4 of 4"),
        ("loss-contract", "target-not-reshaped", "fail", "[160, 1] with [160]"),
        ("loss-contract", "activation-twice", "fail", "0.7"),
        ("loss-contract", "loss-summed", "warn", "is 2 times as large"),
        ("gradient-flow", "detached-encoder", "fail", "8 of"),
        ("row-independence", "wrong-view", "fail", "changes 1"),
        ("overfit-one-batch", "lr-too-high", "fail", "of one batch in 200 steps"),
        ("overfit-one-batch", "lr-too-low", "fail", "needed 80%"),
        ("overfit-one-batch", "weights-frozen", "fail", "needed 80%"),
        ("weight-change", "head-replaced", "fail", "2 of 10 tensors"),
        ("weight-change", "lr-too-low", "fail", "in 200 steps"),
        ("learning-rate-ladder", "lr-too-high", "fail", "rate 30 learns nothing"),
        ("learning-rate-ladder", "lr-too-low", "fail", "rate 3e-09 learns nothing"),
        ("real-against-random", "lr-too-low", "fail", "needed 30%"),
    ],
)
def test_check_goes_red(check, fault, status, says):
    learn = digits()
    FAULTS[fault].inject(learn)
    found, summary = judged(check, learn)
    assert found == status, summary
    assert says in summary


def test_place_of_a_cut_is_named():
    learn = digits()
    FAULTS["detached-encoder"].inject(learn)
    evidence = CHECKS["gradient-flow"].measure(Lab(from_learner(learn)))
    assert evidence.get("gradient stops after").startswith("2.part")
    assert evidence.get("gradient arrives at") == "3"
    assert not evidence.get("cut under no_grad")


def test_place_of_the_mixing_is_named_for_roles_stacked_the_wrong_way():
    class Siamese(nn.Module):
        """The notes' stacked encoder (F1): roles one after the other, read as if rows were."""

        def __init__(self, right):
            super().__init__()
            self.encoder, self.head, self.right = small_cnn(16), nn.Linear(32, 10), right

        def forward(self, x):
            rows = len(x)
            images = [x, x.flip(-1)]
            stacked = torch.stack(images, 1).flatten(0, 1) if self.right else torch.cat(images, 0)
            return self.head(self.encoder(stacked).view(rows, -1))

    for right in (True, False):
        check = CHECKS["row-independence"]
        evidence = check.measure(Lab(from_learner(digits(model=Siamese(right)))))
        status, summary = check.judge(evidence)
        assert status == ("pass" if right else "fail")
        if not right:
            assert "apart after encoder, mixed at the input of head" in summary


def test_a_loss_that_ignores_its_target_is_learned_with_any_labels():
    class Ignores(nn.Module):
        def forward(self, pred, target):
            return pred.pow(2).mean() + 0 * target.float().mean()

    status, summary = judged("real-against-random", digits(loss_func=Ignores()))
    assert status == "fail", summary


class TwoViews(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 24))

    def forward(self, a, b):
        return self.net(a), self.net(b)


def test_labels_that_come_along_unread_are_not_permuted():
    def nearest(views, label):
        a, b = (F.normalize(z, dim=1) for z in views)
        return F.cross_entropy(a @ b.T / 0.2, torch.arange(len(a)))

    seed_everything(0)
    x, y = _digits()
    items = [(x[i] + 0.1 * torch.randn_like(x[i]), x[i] + 0.1 * torch.randn_like(x[i]), y[i]) for i in range(256)]
    status, summary = judged("real-against-random", learner(items, TwoViews(), nearest, n_inp=2))
    assert status == "pass"
    assert "from noise" in summary
    assert "permuted" not in summary
    assert "with permuted labels" in judged("real-against-random", digits())[1]  # they are read there


def test_one_label_only_proves_nothing():
    learn = digits()
    learn.dls.train.dataset.tensors = (learn.dls.train.dataset.tensors[0], torch.zeros(1497, dtype=torch.long))
    status, summary = judged("overfit-one-batch", learn)
    assert status != "pass"
    assert "proves nothing" in summary or "the loss" in summary


def test_batch_norm_on_tiny_batches_shows_in_evaluation_mode():
    class Lags(nn.BatchNorm2d):
        """Batch norm whose running statistics never follow."""

        def forward(self, x):
            out = super().forward(x)
            self.running_mean = torch.full_like(self.running_mean, 5.0)
            return out

    model = small_cnn()
    model[0][1] = Lags(16)
    status, summary = judged("overfit-one-batch", digits(model=model))
    assert status == "warn"
    assert "in evaluation mode" in summary


def test_a_first_loss_far_above_the_best_constant_is_told():
    learn = digits()
    learn.model[-1].bias.data[3] = 100.0
    status, summary = judged("first-loss", learn)
    assert status == "warn"
    assert "best constant" in summary


def test_a_gradient_that_is_not_finite_is_named():
    class Roots(nn.Module):
        def forward(self, x):
            return (x * 0).sqrt() + x

    learn = digits(model=nn.Sequential(small_cnn(), Roots()))
    status, summary = judged("gradient-flow", learn)
    assert status == "fail"
    assert "not finite" in summary


def test_outputs_that_do_not_vary_are_told():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.ones(10))

        def forward(self, x):
            return self.bias.expand(len(x), 10)

    status, summary = judged("output-spread", digits(model=Constant()))
    assert status == "fail"
    assert "answers with a constant" in summary


class TestUnmix:
    """Checks that need to know the task."""

    def task(self, **kwargs) -> Task:
        return from_task("unmix", kwargs, 0, "cpu")

    def test_identical_images_under_batch_norm_called_once_a_role(self):
        subject = self.task(**{"encoder.norm": "batch", "sources": "row"})
        check = CHECKS["identical-pairs"]
        assert check.judge(check.measure(Lab(subject))).status == "pass"
        net = type(subject.learner.model)
        maps = net.maps

        def once_a_role(self, *images):
            return torch.stack([self.encoder(im) for im in images], 1)

        net.maps = once_a_role
        try:
            status, summary = check.judge(check.measure(Lab(subject)))
        finally:
            net.maps = maps
        assert status == "fail"
        assert "in train mode" in summary

    def test_a_head_that_treats_slots_apart_is_told(self):
        subject = self.task()
        check = CHECKS["permuted-sources"]
        assert check.judge(check.measure(Lab(subject))).status == "pass"

        class PerSlot(nn.Module):
            def __init__(self, net):
                super().__init__()
                self.net, self.scale = net, nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

            def forward(self, *images):
                return self.net(*images) * self.scale

        subject.learner.model = PerSlot(subject.learner.model)
        status, summary = check.judge(check.measure(Lab(subject)))
        assert status == "warn"
        assert "largest output" in summary

    def test_noise_is_not_learned(self):
        subject = self.task(inputs="noise")
        check = CHECKS["real-against-random"]
        evidence = check.measure(Lab(subject))
        assert evidence.get("learned from noise inputs") < 0.3
        assert math.isfinite(evidence.get("mean gradient norm on noise inputs"))
