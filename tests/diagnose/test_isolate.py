"""Promise 1: nothing is changed. Compared bit for bit, after success, an exception and Ctrl-C."""

import random
import time
from functools import partial

import numpy as np
import pytest
import torch
from data_subjects import digit, over
from fastai.callback.core import Callback
from fastai.callback.hook import ActivationStats
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.data.core import DataLoaders
from fastai.metrics import F1Score
from fastai.optimizer import SGD, OptimWrapper
from learners import digits, small_cnn
from torch import nn
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import TensorDataset

from diagnose.errors import DiagnoseError, SubjectError
from diagnose.examination import examine
from diagnose.isolate import left_out_callbacks, seed_everything, stray_modules, twin, untouched, writes
from diagnose.stats import same_bits
from diagnose.subject import from_learner


def train(learn, epochs=1):
    with learn.no_bar(), learn.no_logging():
        learn.fit(epochs)


def bits(learn):
    "Everything that training on depends on, and everything that training gave."
    model = {k: v.clone() for k, v in learn.model.state_dict().items()}
    model["hidden"] = getattr(learn.model, "hidden", torch.zeros(1)).clone()
    grads = [None if p.grad is None else p.grad.clone() for p in learn.model.parameters()]
    flags = [p.requires_grad for p in learn.model.parameters()] + [m.training for m in learn.model.modules()]
    opt = (
        [] if learn.opt is None else [learn.opt.hypers, [dict(learn.opt.state[p]) for p, *_ in learn.opt.all_params()]]
    )
    streams = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    loaders = [dl.rng.getstate() for dl in learn.dls.loaders if hasattr(dl, "rng")]
    cbs = [type(cb).__name__ for cb in learn.cbs]
    losses = [float(x) for x in vars(learn.recorder).get("losses", [])]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in learn.model.modules()]
    return model, grads, flags, opt, streams, loaders, cbs, losses, hooks, sorted(k for k in vars(learn))


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return same_bits(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def hidden_buffer():
    model = small_cnn(dropout=0.3)
    model.register_buffer("hidden", torch.ones(3), persistent=False)
    return model


BUILDS = {
    "adam": lambda: digits(model=hidden_buffer(), metrics=F1Score(average="macro")),
    "sgd, clipped": lambda: digits(model=hidden_buffer(), opt_func=partial(SGD, mom=0.9), cbs=GradientClip(1.0)),
    "torch AdamW": lambda: digits(model=hidden_buffer(), opt_func=partial(OptimWrapper, opt=torch.optim.AdamW)),
    "accumulation": lambda: digits(model=hidden_buffer(), cbs=GradientAccumulation(128)),
    "hooked": lambda: digits(model=hidden_buffer(), cbs=ActivationStats()),
}


@pytest.mark.parametrize("trained_before", [False, True])
@pytest.mark.parametrize("name", BUILDS)
def test_training_after_an_examination_gives_the_bits_it_would_have_given(name, trained_before):
    results = []
    for examined in (False, True):
        seed_everything(7)
        learn = BUILDS[name]()
        seed_everything(8)
        if trained_before:
            train(learn)
        before = bits(learn)
        if examined:
            examine(from_learner(learn), seed=3, budget=None, skip=["learning-rate-ladder"])
        assert equal(before, bits(learn))
        train(learn, 2)
        results.append(bits(learn))
        assert not equal(before, results[-1])  # the comparison can fail
    assert equal(*results)


class Broken(nn.Module):
    """Raises at the n-th forward pass in training mode."""

    def __init__(self, after: int, error: type[BaseException]):
        super().__init__()
        self.net, self.after, self.error = small_cnn(), after, error
        self.count = [0]  # shared by copies made by reference, as user code would have it

    def __deepcopy__(self, memo):
        copy = Broken.__new__(Broken)
        nn.Module.__init__(copy)
        memo[id(self)] = copy
        import copy as copies

        copy.net = copies.deepcopy(self.net, memo)
        copy.after, copy.error, copy.count = self.after, self.error, self.count
        return copy

    def forward(self, x):
        self.count[0] += 1
        if self.count[0] > self.after:
            raise self.error("here")
        return self.net(x)


@pytest.mark.parametrize("after", [0, 3, 40])
def test_an_exception_of_the_subject_is_passed_on_and_leaves_no_mark(after):
    learn = digits(model=Broken(after, ZeroDivisionError))
    before = bits(learn)
    with pytest.raises(SubjectError) as caught:
        examine(from_learner(learn), budget=None)
    assert isinstance(caught.value.original, ZeroDivisionError)
    assert equal(before, bits(learn))


@pytest.mark.parametrize("after", [3, 40, 80])
def test_ctrl_c_gives_a_partial_diagnosis_and_leaves_no_mark(after):
    learn = digits(model=Broken(after, KeyboardInterrupt))
    before = bits(learn)
    diagnosis = examine(from_learner(learn), budget=None)
    assert diagnosis.partial
    assert diagnosis.verdict == "warn"
    assert equal(before, bits(learn))


def noisy_digits(wait):
    "Items that are drawn anew at every reading, and a net that draws too."

    def read(i):
        time.sleep(wait)
        x, y = digit(i)
        return x + 0.05 * torch.randn(1, 8, 8), y

    seed_everything(0)
    return over(read, model=small_cnn(dropout=0.3), count=256)


@pytest.mark.parametrize("subjects", [(digits, digits), (partial(noisy_digits, 0.0), partial(noisy_digits, 0.002))])
def test_same_seed_same_report(subjects):
    def report(make):
        diagnosis = examine(from_learner(make()), seed=5, budget=None)
        checks = [c.model_copy(update={"seconds": 0}) for c in diagnosis.checks]
        same = {"checks": checks, "seconds": 0, "environment": {}}
        return diagnosis.model_copy(update=same).to_json()

    first, second = map(report, subjects)
    assert '"items-finite"' in first
    assert first == second


def test_a_twin_keeps_an_optimizer_with_stale_parameters_stale():
    learn = digits()
    learn.create_opt()
    learn.model[-1] = nn.Linear(64, 10)
    copy = twin(learn)
    held = {id(p) for group in copy.opt.param_lists for p in group}
    own = {id(p) for p in copy.model.parameters()}
    assert len(own - held) == 2
    assert not held & {id(p) for p in learn.model.parameters()}


def test_a_twin_copies_optimizer_state():
    learn = digits()
    train(learn)
    copy = twin(learn)
    for (p, _, state, _), (q, _, other, _) in zip(learn.opt.all_params(), copy.opt.all_params(), strict=True):
        assert p is not q
        assert same_bits(state["sqr_avg"], other["sqr_avg"])
        assert state["sqr_avg"] is not other["sqr_avg"]


def test_a_twin_of_a_model_that_keeps_its_last_output():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_cnn()

        def forward(self, x):
            self.last = self.net(x)
            return self.last

    learn = digits(model=Keeps())
    learn.model(torch.rand(2, 1, 8, 8))
    assert twin(learn).model.last.grad_fn is None


def test_a_model_that_cannot_be_copied_is_refused_in_one_line():
    learn = digits()
    learn.model.file = open(__file__)  # noqa: SIM115
    with learn.model.file, pytest.raises(DiagnoseError, match="cannot be copied"):
        twin(learn)


def test_stray_modules_are_found_and_restored():
    outside = nn.BatchNorm2d(1)
    listed = [nn.Linear(10, 10)]

    class Strays(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.pre, self.parts = small_cnn(), (lambda x: outside(x)), listed

        def forward(self, x):
            return self.parts[0](self.net(self.pre(x)))

    learn = digits(model=Strays())
    assert set(map(id, stray_modules(learn.model).values())) == {id(outside), id(listed[0])}
    before = outside.running_mean.clone(), listed[0].weight.clone()
    examine(from_learner(learn), budget=None, only=["overfit-one-batch", "gradient-flow"])
    assert same_bits(before[0], outside.running_mean)
    assert same_bits(before[1], listed[0].weight)
    assert all(p.grad is None for p in [*outside.parameters(), *listed[0].parameters()])


def test_user_callbacks_stay_in_trials_unless_they_write():
    class Halves(Callback):
        def before_backward(self):
            self.learn.loss_grad *= 0.5

    class Saves(Callback):
        def after_batch(self):
            with open("/nonexistent/file", "a") as f:
                f.write("x")

    learn = digits(cbs=[Halves(), Saves()])
    assert [type(cb).__name__ for cb in twin(learn).cbs if type(cb).__module__ == __name__] == ["Halves"]
    assert writes(Saves())
    assert set(left_out_callbacks(learn)) == {"Saves"}
    assert "Saves" in " ".join(u.id for u in examine(from_learner(learn), only=["initialisation"]).unchecked)


@pytest.mark.parametrize("kind", ["torch loaders", "list of batches", "torch generator"])
def test_other_kinds_of_loaders_end_as_they_began(kind):
    seed_everything(0)
    x, y = torch.rand(96, 1, 8, 8), torch.randint(10, (96,))
    generator = torch.Generator().manual_seed(3)
    if kind == "list of batches":
        dls = DataLoaders([(x[:32], y[:32]), (x[32:64], y[32:64])], [(x[64:], y[64:])])
    else:
        extra = {"generator": generator} if kind == "torch generator" else {}
        loader = TorchLoader(TensorDataset(x, y), 32, shuffle=True, **extra)
        dls = DataLoaders(loader, TorchLoader(TensorDataset(x, y), 32))
    learn = digits()
    learn.dls = dls
    before, state = bits(learn), generator.get_state()
    diagnosis = examine(from_learner(learn), budget=None, skip=["learning-rate-ladder"])
    assert diagnosis.check("overfit-one-batch").status == "pass"
    assert equal(before, bits(learn))
    assert torch.equal(state, generator.get_state())


def test_untouched_restores_what_user_code_rebinds():
    learn = digits()
    learn.note = [1]

    def misbehave():
        with untouched(learn):
            learn.note.append(2)
            learn.lr = 9.0
            learn.extra = 1
            learn.model.train(False)
            learn.model[-1].weight.data += 1
            learn.model[-1].weight.requires_grad_(False)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        misbehave()
    assert learn.note == [1]
    assert learn.lr == 3e-3
    assert not hasattr(learn, "extra")
    assert learn.model.training
    assert learn.model[-1].weight.requires_grad
