"""Watch: training with it is training without it, bit for bit, and nothing stays on the model."""

from __future__ import annotations

import copy
import pickle
import random
import warnings

import fastai.callback.schedule  # noqa: F401 - adds fit_one_cycle
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from fastai.callback.core import Callback, CancelBatchException, CancelFitException, CancelStepException
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.core import DataLoaders, Datasets
from fastai.learner import Learner, load_learner
from fastai.losses import CrossEntropyLossFlat
from fastai.vision.core import PILImageBW
from fastai.vision.data import ImageBlock
from learners import digits, small_cnn
from torch import nn

from diagnose import compiled
from diagnose.errors import DiagnoseError
from diagnose.isolate import seed_everything
from diagnose.store import Store
from diagnose.watch import LARGEST, Schedule, Watch


class Losses(Callback):
    """Keeps the bits of every loss, training and validation."""

    order = 60

    def __init__(self):
        self.seen = []

    def after_loss(self):
        self.seen.append(self.loss.detach().clone())


class Stop(Callback):
    """Raises at a training batch."""

    order = 0

    def __init__(self, error: BaseException, at: int, event: str):
        self.error, self.at, self.event, self.count = error, at, event, 0

    def __call__(self, event_name):
        if event_name == self.event and getattr(self, "training", False):
            self.count += 1
            if self.count == self.at:
                raise self.error


class BreakForward(nn.Module):
    """Raises in the middle of the forward pass."""

    def __init__(self, error: BaseException, at: int):
        super().__init__()
        self.error, self.at, self.count = error, at, 0

    def forward(self, x):
        self.count += self.training
        if self.count == self.at and self.training:
            raise self.error
        return x


def fit(learn: Learner, cbs, **kwargs) -> None:
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=cbs, **kwargs)


def simple(learn, cbs):
    fit(learn, cbs)


def several_fits(learn, cbs):
    fit(learn, cbs)
    fit(learn, cbs)


def one_cycle(learn, cbs):
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1, 1e-2, cbs=cbs)


def validate_between(learn, cbs):
    fit(learn, cbs)
    with learn.no_bar():
        learn.validate(cbs=cbs)
        learn.get_preds(ds_idx=0, cbs=cbs)
    fit(learn, cbs)


def validate_first(learn, cbs):
    with learn.no_bar():
        learn.validate(cbs=cbs)
    fit(learn, cbs)


def accumulation(learn, cbs):
    fit(learn, [GradientAccumulation(128), *cbs])


def clipping(learn, cbs):
    fit(learn, [GradientClip(0.1), *cbs])


def half(learn, cbs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(learn, [MixedPrecision(), *cbs])


def frozen(learn, cbs):
    learn.model[0].requires_grad_(False)
    fit(learn, cbs)
    learn.model[0].requires_grad_(True)
    fit(learn, cbs)


def exception(learn, cbs):
    with pytest.raises(ValueError):
        fit(learn, [Stop(ValueError("theirs"), 5, "after_pred"), *cbs])
    fit(learn, cbs)


def exception_before_the_pass(learn, cbs):
    late = Stop(ValueError("theirs"), 5, "before_batch")
    late.order = 50
    with pytest.raises(ValueError):
        fit(learn, [late, *cbs])
    fit(learn, cbs)


def interrupt(learn, cbs):
    with pytest.raises(KeyboardInterrupt):
        fit(learn, [Stop(KeyboardInterrupt(), 5, "after_backward"), *cbs])
    fit(learn, cbs)


def interrupt_in_forward(learn, cbs):
    learn.model = nn.Sequential(learn.model[0], BreakForward(KeyboardInterrupt(), 4), learn.model[1:])
    with pytest.raises(KeyboardInterrupt):
        fit(learn, cbs)
    fit(learn, cbs)


def cancelled(learn, cbs):
    for error, event in [
        (CancelBatchException(), "after_pred"),
        (CancelStepException(), "before_step"),
        (CancelFitException(), "after_loss"),
    ]:
        fit(learn, [Stop(error, 3, event), *cbs])


def converted(learn, cbs):
    fit(learn, cbs)
    learn.model = nn.SyncBatchNorm.convert_sync_batchnorm(learn.model).eval()
    for m in learn.model.modules():
        if isinstance(m, nn.SyncBatchNorm):
            m.eval()  # training mode needs a GPU
    learn.model.train = lambda mode=True: learn.model
    fit(learn, cbs)


SCENARIOS = [
    *(simple, several_fits, one_cycle, validate_between, validate_first, accumulation, clipping, half, frozen),
    *(exception, exception_before_the_pass, interrupt, interrupt_in_forward, cancelled, converted),
]


def state(learn: Learner, losses: Losses) -> list[torch.Tensor]:
    opt = [v for s in learn.opt.state_dict()["state"] for v in s.values() if isinstance(v, torch.Tensor)]
    rng = [torch.get_rng_state(), torch.tensor(np.random.get_state()[1].astype(np.int64))]  # noqa: NPY002
    return [*learn.model.state_dict().values(), *opt, *losses.seen, *rng]


def no_hook_is_left(model: nn.Module) -> bool:
    return not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules()) and (
        "forward" not in vars(model)
    )


def play(scenario, make_watch, standing: bool):
    learn, losses = digits(3, dropout=0.1), Losses()
    learn.add_cb(losses)
    watch = make_watch()
    if standing and watch:
        learn.add_cb(watch)
    seed_everything(11)
    scenario(learn, [] if standing or not watch else [watch])
    return state(learn, losses), random.random(), learn.dls.train.rng.random(), learn, watch


@pytest.mark.parametrize("standing", [False, True], ids=["passed to fit", "standing"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_training_with_it_gives_the_same_bits(scenario, standing):
    plain, py, rng, _, _ = play(scenario, lambda: None, standing)
    watched, py_too, rng_too, learn, watch = play(scenario, lambda: Watch(first=4, every=3), standing)
    assert len(plain) == len(watched)
    for a, b in zip(plain, watched):
        assert torch.equal(torch.nan_to_num(a.float()), torch.nan_to_num(b.float()))
    assert (py, rng) == (py_too, rng_too)
    assert no_hook_is_left(learn.model)
    assert len(watch.frame("steps")) > 3


@pytest.mark.parametrize("exact", [False, True], ids=["sampled", "exact"])
def test_every_step_with_everything_gives_the_same_bits(exact):
    plain, *_ = play(one_cycle, lambda: None, False)
    watched, *_ = play(one_cycle, lambda: Watch(every=1, exact=exact), False)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched))


def test_hooks_are_off_at_once_when_the_forward_pass_raises():
    learn, watch = digits(0), Watch()
    learn.model = nn.Sequential(learn.model[0], BreakForward(RuntimeError("theirs"), 2), learn.model[1:])
    learn.add_cb(watch)
    with pytest.raises(RuntimeError, match="theirs"):
        fit(learn, [])
    assert all("diagnose.watch" not in m._forward_hooks for m in learn.model.modules())


def test_a_copied_learner_has_a_watch_of_its_own():
    learn = digits(0, cbs=Watch(first=2, without=["memory"]))
    fit(learn, [])
    twin = copy.deepcopy(learn)
    assert twin.watch is not learn.watch
    assert "memory" not in twin.watch.recording.gauges
    steps = len(learn.watch.frame("steps"))
    fit(twin, [])
    assert len(twin.watch.frame("steps")) == steps
    assert len(learn.watch.frame("steps")) == steps


def _picture(i: int) -> torch.Tensor:
    return torch.full((1, 8, 8), i / 64)


def _label(i: int) -> int:
    return i % 10


def test_a_learner_with_a_watch_is_exported_and_loaded(tmp_path):
    items = Datasets(list(range(64)), [[_picture], [_label]])
    dls = DataLoaders.from_dsets(items, items, bs=16, num_workers=0)
    learn = Learner(dls, small_cnn(), loss_func=nn.CrossEntropyLoss(), cbs=Watch(), path=tmp_path)
    fit(learn, [])
    learn.export("model.pkl")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fastai warns that pickles are not safe
        again = load_learner(tmp_path / "model.pkl")
    assert isinstance(again.watch, Watch)
    assert pickle.loads(pickle.dumps(Watch(first=3))).recording.schedule.first == 3


def test_steps_go_on_over_fits_and_skip_validation():
    learn, watch = digits(0), Watch(every=1)
    validate_between(learn, [watch])
    steps = watch.frame("steps")
    batches = len(learn.dls.train)
    assert list(steps["step"]) == list(range(2 * batches))
    assert list(steps["fit"]) == [0] * batches + [1] * batches


def test_losses_are_those_of_the_run():
    learn, watch, losses = digits(0), Watch(every=1), Losses()
    with learn.no_bar(), learn.no_logging():
        learn.dls.loaders[1] = []
        learn.fit(1, cbs=[watch, losses])
    np.testing.assert_array_equal(watch.frame("steps")["loss"], [float(x) for x in losses.seen])


def test_the_default_schedule_records_the_first_hundred_and_every_tenth():
    schedule = Schedule()
    due = [s for s in range(200) if schedule.due(s)]
    assert due == [*range(100), *range(100, 200, 10)]
    assert sum(map(schedule.due, range(1_000_000))) == 100_000 - 10 + 100
    assert sum(map(schedule.due, range(50))) == 50


def test_a_gauge_is_slowed_and_turned_off_by_name():
    learn, watch = digits(0), Watch(every={"activations": 5, "weights": 4}, without=["gradients", "gradient-norm"])
    fit(learn, [watch])
    assert set(np.diff(watch.frame("activations")["step"].unique())) == {5}
    assert set(np.diff(watch.frame("weights")["step"].unique())) == {4}
    assert "gradients" not in watch.store.tables
    assert "gradient_norm" not in watch.frame("steps")
    assert set(np.diff(watch.frame("updates")["step"].unique())) == {1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"without": ["activation"]}, "no gauge activation; there are activations"),
        ({"every": {"loss": 0}}, "every 0"),
        ({"every": 0}, "every >= 1"),
        ({"alarms": ["nan"]}, "no alarm nan"),
        ({"alarms": False, "stop_on": ["nonfinite-loss"]}, "alarms= leaves out"),
    ],
)
def test_a_wrong_setting_is_told_with_the_way_out(arguments, words):
    with pytest.raises(DiagnoseError, match=words):
        Watch(**arguments)


def test_features_that_name_no_module_are_told():
    with pytest.raises(ValueError, match="its parts are"):
        fit(digits(0), [Watch(features="encodr")])


def test_a_folder_is_read_while_the_run_goes_on(tmp_path):
    seen = []

    class Look(Callback):
        order = 100

        def after_epoch(self):
            self.watch.frame("steps")  # writes what is pending
            seen.append(len(Store.read(tmp_path / "run").frame("steps")))

    learn = digits(0)
    with learn.no_bar(), learn.no_logging():
        learn.fit(2, cbs=[Watch(tmp_path / "run", every=1), Look()])
    assert seen == [len(learn.dls.train), 2 * len(learn.dls.train)]


def test_memory_does_not_grow_with_steps():
    learn, watch = digits(0), Watch(every=1)
    fit(learn, [watch])
    sources = (watch.recording.activations, watch.recording.parameters)
    held = [s.bytes_a_step for s in sources]
    several_fits(learn, [watch])
    assert [s.bytes_a_step for s in sources] == held
    assert not watch.recording.moments
    assert not watch.recording.activations._outputs


def test_large_models_get_small_blocks():
    learn = digits(0)
    watch = Watch(every=1)
    fit(learn, [watch])
    assert watch.recording.block == LARGEST
    stopping = Watch(every=1, stop_on=True)
    fit(learn, [stopping])
    assert stopping.recording.block == 8  # a fit is stopped at the end of a block
    model = nn.Sequential(nn.Flatten(), *(nn.Linear(64, 64) for _ in range(60)), nn.Linear(64, 10))
    big = digits(0, model=model)
    watch = Watch(every=1)
    fit(big, [watch])
    assert 8 <= watch.recording.block < LARGEST


def test_a_learner_without_targets_is_watched():
    class Embedding(Callback):
        def after_pred(self):
            self.learn.loss_grad = self.pred.square().mean()
            self.learn.loss = self.learn.loss_grad.clone()

    learn, watch = digits(0, model=small_cnn(4)), Watch(every=1)
    learn.dls.n_inp = 2
    learn.model.forward = lambda x, y: nn.Sequential.forward(learn.model, x)
    fit(learn, [Embedding(), watch])
    steps = watch.frame("steps")
    assert set(steps["outcome"]) == {"no targets"}


def _image(i: int) -> np.ndarray:
    return (np.arange(64).reshape(8, 8) * (i % 10 + 1) % 256).astype(np.uint8)


def _name(i: int) -> str:
    return str(i % 10)


@pytest.mark.filterwarnings("ignore")
def test_showing_results_between_fits_changes_nothing_more_than_it_does_alone():
    matplotlib.use("Agg")
    block = DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_x=_image, get_y=_name)
    ends = []
    for watch in (None, Watch(first=3, every=2)):
        seed_everything(4)
        learn = Learner(block.dataloaders(list(range(60)), bs=8), small_cnn(), loss_func=CrossEntropyLossFlat())
        losses = Losses()
        learn.add_cb(losses)
        cbs = [watch] if watch else []
        learn.add_cbs(cbs)
        fit(learn, [])
        learn.show_results(max_n=4)
        fit(learn, [])
        ends.append(state(learn, losses))
        plt.close("all")
    assert all(torch.equal(a.float(), b.float()) for a, b in zip(*ends))
    assert no_hook_is_left(learn.model)
    assert set(watch.frame("steps")["fit"]) == {0, 1}


def test_an_error_of_ours_does_not_end_a_pass(monkeypatch, caplog):
    seen = []

    def broken(*args):
        seen.append(1)
        if len(seen) > 4:
            raise MemoryError("no room")
        return read(*args)

    compiled.enabled()  # which tries it out
    read = compiled.reader()
    monkeypatch.setattr(compiled, "reader", lambda: broken)
    learn, watch = digits(0), Watch(every=1)
    fit(learn, [watch])
    assert len(seen) == 5
    assert "no room" in caplog.text
    rows = watch.frame("activations").groupby("step").size()
    assert len(rows) == watch.store.frame("steps")["step"].nunique()
    assert rows.nunique() == 1  # of every layer at every step, also at that one
