"""How a model is listened to: what is read of an output, when, and what becomes of the model."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from torch import nn

from diagnose import sources
from diagnose.watch import Watch


def fitted(model: nn.Module, steps: int = 8, **settings) -> Watch:
    torch.manual_seed(0)
    batches = [(torch.randn(16, 20), torch.randint(0, 5, (16,))) for _ in range(steps)]
    watch = Watch(every=1, alarms=False, **settings)
    learn = Learner(DataLoaders(batches, batches[:1]), model, loss_func=nn.CrossEntropyLoss(), lr=1e-2)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=watch)
    return watch


def rows_of(watch: Watch, layer: str) -> pd.DataFrame:
    found = watch.frame("activations")
    return found[found["layer"] == layer]


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Linear(20, 400), nn.BatchNorm1d(400), nn.ReLU(), nn.Linear(400, 400), nn.Tanh(), nn.Linear(400, 5)]
    return nn.Sequential(*layers)


def test_what_autograd_keeps_is_read_after_the_pass_and_nothing_else_is_held():
    watch = fitted(net())
    activations = watch.recording.activations
    later = {key[0] for key in activations._keeping._known if key is not None}
    assert "4" in later  # tanh needs its output to go backward
    assert "0" in later  # batch norm its input
    assert "1" not in later  # ReLU keeps what it puts out
    assert "2" in later
    assert len(rows_of(watch, "1")) == 8


def test_an_output_is_read_alike_at_once_and_after_the_pass(monkeypatch):
    found = fitted(net()).frame("activations")
    monkeypatch.setattr(sources._Keeping, "saw", lambda *args: None)
    watch = fitted(net())
    assert not any(watch.recording.activations._keeping._known)
    at_once = watch.frame("activations")
    pd.testing.assert_frame_equal(found.drop(columns="histogram"), at_once.drop(columns="histogram"))
    assert all(map(np.array_equal, found["histogram"], at_once["histogram"]))


class Moody(nn.Module):
    """Overwrites what its first layer puts out from the fifth pass on."""

    def __init__(self):
        super().__init__()
        self.first, self.square, self.second = nn.Linear(20, 400), nn.Tanh(), nn.Linear(400, 5)
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        x = self.first(x)
        y = self.second(self.square(x))
        if self.passes > 4:
            with torch.no_grad():
                x.fill_(7.0)
        return y + 0 * self.second.bias


class Keeper(Moody):
    """The same, and something keeps the first layer's output."""

    def forward(self, x):
        self.passes += 1
        self.kept = x = self.first(x)
        y = self.second(self.square(x.clone()))
        if self.passes > 4:
            with torch.no_grad():
                x.fill_(7.0)
        return y


@pytest.mark.parametrize("kind", [Moody, Keeper])
def test_an_output_that_is_overwritten_when_none_was_before_is_never_read_as_what_overwrote_it(kind, both_ways):
    rows = rows_of(fitted(kind(), steps=12), "first")
    assert (rows["std"] > 0.1).all()
    if both_ways == "compiled":
        assert len(rows) >= 11  # of the first such step its reading is gone, later ones are read in time


class Teacher(nn.Module):
    """Makes a copy of its encoder in the first pass, as BYOL in its usual code."""

    def __init__(self, copied):
        super().__init__()
        self.encoder, self.head, self.copied, self.teacher = nn.Linear(20, 40), nn.Linear(40, 5), copied, None

    def forward(self, x):
        features = self.encoder(x)
        if self.teacher is None:
            self.teacher = [self.copied(self.encoder)]
        return self.head(features.relu())


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: copy.deepcopy(nn.Sequential(m))],
    ids=["deepcopy", "pickle", "in a container"],
)
def test_a_copy_made_in_the_middle_of_a_pass_is_a_module_of_its_own(copied):
    model = Teacher(copied)
    first = copy.deepcopy(model.encoder)
    fitted(model, steps=6)
    x = torch.randn(3, 20)
    teacher = model.teacher[0]
    assert torch.equal(teacher(x), first(x))  # it has not moved, and does not answer for the one that has
    assert not torch.equal(teacher(x), model.encoder(x))
    again = copy.deepcopy(teacher)
    with torch.no_grad():
        for p in again.parameters():
            p.zero_()
    assert again(x).abs().sum() == 0
    assert torch.equal(teacher(x), first(x))


def test_a_shallow_copy_made_in_the_middle_of_a_pass_goes_on_working():
    model = Teacher(copy.copy)
    watch = fitted(model, steps=6)
    x = torch.randn(3, 20)
    assert torch.equal(model.teacher[0](x), model.encoder(x))  # it shares the weights
    assert len(rows_of(watch, "encoder")) == 6


def test_a_module_whose_hook_changes_its_output_is_recorded_as_what_comes_out():
    model = net()
    handle = model[0].register_forward_hook(lambda module, inputs, output: output * 0 + 3)
    rows = rows_of(fitted(model), "0")
    assert np.allclose(rows["mean"], 3)
    handle.remove()
    assert not model[0]._forward_hooks


def test_a_module_with_a_forward_pass_of_its_own_keeps_it():
    model = net()
    mine = model[0].forward
    model[0].forward = lambda x: mine(x) * 0 + 2
    patched = model[0].forward
    rows = rows_of(fitted(model), "0")
    assert np.allclose(rows["mean"], 2)
    assert model[0].forward is patched
    assert "forward" not in vars(model[2])


class Packs(nn.Module):
    """Puts out what its layer does in something else, which its user takes apart again."""

    def __init__(self, pack):
        super().__init__()
        self.layer, self.pack = nn.Linear(20, 5), pack

    def forward(self, x):
        return self.pack(self.layer(x))


class Unpacks(nn.Module):
    def __init__(self, pack, unpack):
        super().__init__()
        self.parts, self.unpack = Packs(pack), unpack

    def forward(self, x):
        return self.unpack(self.parts(x))


class Refusing:
    """Something that nobody may iterate over."""

    def __init__(self, value):
        self.value = value

    def __iter__(self):
        raise NotImplementedError("one at a time")


def test_an_output_that_can_be_read_once_is_left_to_the_model():
    watch = fitted(Unpacks(lambda t: iter([t]), next))
    assert len(rows_of(watch, "parts.layer")) == 8


def test_an_output_that_cannot_be_taken_apart_ends_no_pass_and_is_told():
    watch = fitted(Unpacks(Refusing, lambda packed: packed.value))
    assert len(rows_of(watch, "parts.layer")) == 8
    unrecorded = watch.frame("unrecorded")
    assert "Refusing" in unrecorded.set_index("where").loc["parts", "reason"]


class Averaged(nn.Module):
    """Makes a copy of the whole of itself in the first pass."""

    def __init__(self):
        super().__init__()
        self.layer, self.before = nn.Linear(20, 5), None

    def forward(self, x):
        if self.before is None:
            self.before = []
            self.before.append(copy.deepcopy(self))
        return self.layer(x)


def test_a_copy_of_the_whole_model_made_in_its_pass_is_a_model_of_its_own():
    model = Averaged()
    first = copy.deepcopy(model.layer)
    fitted(model, steps=6)
    x = torch.randn(3, 20)
    assert torch.equal(model.before[0](x), first(x))
    assert not torch.equal(model.before[0](x), model(x))


class Distils(nn.Module):
    """Has a teacher whose outputs are made in inference mode."""

    def __init__(self):
        super().__init__()
        self.student, self.teacher = nn.Linear(20, 400), nn.Linear(20, 400)
        self.head = nn.Linear(400, 5)

    def forward(self, x):
        with torch.inference_mode():
            soft = self.teacher(x)
        return self.head(self.student(x) + soft.clone())


def test_what_is_made_in_inference_mode_is_recorded(both_ways):
    watch = fitted(Distils(), steps=20)
    assert len(rows_of(watch, "teacher")) == 20
    assert rows_of(watch, "teacher")["std"].gt(0).all()
