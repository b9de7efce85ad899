"""What gauges record, against NumPy on the tensors themselves."""

from __future__ import annotations

import warnings
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback, CancelStepException
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.losses import BCEWithLogitsLossFlat, CrossEntropyLossFlat
from fastai.optimizer import OptimWrapper
from torch import nn

from diagnose import registry
from diagnose.gauges import Block, Gauge, Moment
from diagnose.gauges.seconds import Seconds
from diagnose.isolate import seed_everything
from diagnose.store import Store
from diagnose.watch import Watch

pytestmark = pytest.mark.usefixtures("both_ways")

ROWS = 12


class Truth(Callback):
    """Keeps whole tensors at the places where gauges read."""

    order = 10.4

    def __init__(self):
        self.weights, self.gradients, self.after, self.preds, self.targets, self.lrs = [], [], [], [], [], []

    def after_loss(self):
        if self.training:
            self.preds.append(self.pred.detach().clone())
            self.targets.append(self.yb[0].clone() if len(self.yb) else None)

    def before_step(self):
        named = list(self.model.named_parameters())
        self.weights.append({n: p.detach().clone() for n, p in named})
        self.gradients.append({n: p.grad.clone() for n, p in named if p.grad is not None})

    def after_step(self):
        self.after.append({n: p.detach().clone() for n, p in self.model.named_parameters()})


def train(model: nn.Module, steps: int = 6, loss=None, x=None, y=None, cbs=(), watch=None, seed=0, **kwargs):
    seed_everything(seed)
    x = torch.randn(steps, ROWS, 20) if x is None else x
    y = torch.randint(0, 5, (steps, ROWS)) if y is None else y
    dls = DataLoaders([(a, b) for a, b in zip(x, y)], [])
    learn = Learner(dls, model, loss_func=loss or CrossEntropyLossFlat(), lr=0.05, **kwargs)
    watch, truth = watch or Watch(every=1), Truth()
    with learn.no_bar(), learn.no_logging(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learn.fit(1, cbs=[watch, truth, *cbs])
    assert not watch.recording.failed
    return watch, truth, learn


def mlp(width: int = 16, outputs: int = 5) -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.Linear(width, outputs))


def one(frame, **where):
    for column, value in where.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1, frame
    return frame.iloc[0]


def norm(t: torch.Tensor) -> float:
    return float(np.linalg.norm(t.double().numpy()))


# ---- parameters ----------------------------------------------------------------------------------------------------


def test_weights_are_numpys():
    watch, truth, _ = train(mlp())
    frame = watch.frame("weights")
    for step in (0, 5):
        for name, t in truth.weights[step].items():
            row, x = one(frame, step=step, parameter=name), t.double().numpy()
            assert row["mean"] == pytest.approx(x.mean(), rel=1e-5, abs=1e-7)
            assert row["std"] == pytest.approx(x.std(), rel=1e-5)
            assert row["l2"] == pytest.approx(norm(t), rel=1e-5)
            assert row["abs_max"] == pytest.approx(np.abs(x).max(), rel=1e-6)
            assert row["distance"] == pytest.approx(
                norm(t - truth.weights[0][name]) / norm(truth.weights[0][name]), rel=1e-4
            )
            assert row["histogram"].sum() == x.size


def test_gradients_are_numpys():
    watch, truth, _ = train(mlp())
    frame = watch.frame("gradients")
    for step in (0, 3):
        for name, g in truth.gradients[step].items():
            row, x = one(frame, step=step, parameter=name), g.double().numpy()
            assert row["l2"] == pytest.approx(norm(g), rel=1e-5)
            assert row["zeros"] == pytest.approx((x == 0).mean(), abs=1e-6)
            if step:
                before = truth.gradients[step - 1][name].double().numpy()
                cosine = (x * before).sum() / np.linalg.norm(x) / np.linalg.norm(before)
                assert row["cosine"] == pytest.approx(cosine, abs=1e-5)
            else:
                assert np.isnan(row["cosine"])
    steps = watch.frame("steps")
    total = [np.sqrt(sum(norm(g) ** 2 for g in grads.values())) for grads in truth.gradients]
    np.testing.assert_allclose(steps["gradient_norm"], total, rtol=1e-5)
    np.testing.assert_allclose(steps["gradient_norm_exact"][0], total[0], rtol=1e-5)


@pytest.mark.parametrize("first", [0, 100])
def test_the_cosine_is_with_the_step_before_also_where_that_was_not_recorded(first):
    watch, truth, _ = train(mlp(), steps=9, watch=Watch(first=first, every=4))
    frame = watch.frame("gradients")
    a, b = truth.gradients[8]["2.weight"], truth.gradients[7]["2.weight"]
    expected = torch.nn.functional.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0)
    assert one(frame, step=8, parameter="2.weight")["cosine"] == pytest.approx(float(expected), abs=1e-5)


def test_the_cosine_goes_on_over_blocks():
    watch, truth, _ = train(mlp(), steps=20)
    frame = watch.frame("gradients")
    cosines = frame[frame["parameter"] == "0.weight"].sort_values("step")["cosine"].to_numpy()
    flat = [g["0.weight"].flatten().double() for g in truth.gradients]
    expected = [float(torch.nn.functional.cosine_similarity(a, b, dim=0)) for a, b in zip(flat[1:], flat)]
    np.testing.assert_allclose(cosines[1:], expected, atol=1e-5)


def test_updates_are_those_of_the_real_step():
    watch, truth, _ = train(mlp())
    frame = watch.frame("updates")
    for step in (0, 4):
        for name, before in truth.weights[step].items():
            expected = norm(truth.after[step][name] - before) / norm(before)
            assert one(frame, step=step, parameter=name)["ratio"] == pytest.approx(expected, rel=1e-4)
    assert not frame["unchanged"].any()


def test_what_does_not_move_is_said_to_be_unchanged():
    model = mlp()
    model[0].requires_grad_(False)
    watch, _, _ = train(model)
    frame = watch.frame("updates")
    assert set(frame[frame["unchanged"]]["parameter"]) == {"0.weight", "0.bias"}
    assert "0.weight" not in set(watch.frame("gradients")["parameter"])


def test_a_zero_weight_that_moves_has_an_infinite_ratio():
    model = mlp()
    nn.init.zeros_(model[2].bias)
    watch, _, _ = train(model, steps=1)
    assert one(watch.frame("updates"), parameter="2.bias")["ratio"] == np.inf


def test_the_applied_gradient_is_the_clipped_one():
    watch, truth, _ = train(mlp(), cbs=[GradientClip(0.01)])
    steps = watch.frame("steps")
    assert (steps["gradient_norm"] > 0.05).all()
    np.testing.assert_allclose(steps["gradient_norm_applied"], 0.01, rtol=1e-3)
    row = one(watch.frame("gradients"), step=2, parameter="0.weight")
    assert row["l2"] == pytest.approx(norm(truth.gradients[2]["0.weight"]), rel=1e-5)
    assert row["l2_applied"] == pytest.approx(row["l2"] * 0.01 / steps["gradient_norm"][2], rel=1e-3)


def test_the_gradient_is_read_after_unscaling_and_before_clipping():
    class Scaler(Callback):
        order = 10

        def before_backward(self):
            self.learn.loss_grad = self.loss_grad * 1024

        def before_step(self):
            for p in self.model.parameters():
                p.grad /= 1024

    plain, _, _ = train(mlp())
    scaled, _, _ = train(mlp(), cbs=[Scaler(), GradientClip(0.01)])
    assert scaled.frame("steps")["gradient_norm"][0] == pytest.approx(
        plain.frame("steps")["gradient_norm"][0], rel=1e-4
    )


def test_a_cancelled_step_is_told_from_one_that_moves_nothing():
    class Overflow(Callback):
        order = 10

        def before_step(self):
            if self.train_iter in (1, 3):
                raise CancelStepException

    watch, _, _ = train(mlp(), cbs=[Overflow()])
    assert list(watch.frame("steps")["outcome"]) == ["", "cancelled", "", "cancelled", "", ""]
    assert sorted(watch.frame("updates")["step"].unique()) == [0, 2, 4, 5]
    assert sorted(watch.frame("gradients")["step"].unique()) == [0, 2, 4, 5]


def test_accumulated_batches_are_no_steps():
    watch, truth, _ = train(mlp(), cbs=[GradientAccumulation(2 * ROWS)])
    assert list(watch.frame("steps")["outcome"]) == ["accumulating", ""] * 3
    assert sorted(watch.frame("updates")["step"].unique()) == [1, 3, 5]
    assert one(watch.frame("gradients"), step=1, parameter="2.bias")["l2"] == pytest.approx(
        norm(truth.gradients[0]["2.bias"]), rel=1e-5
    )


class WithSpare(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.spare = mlp(), nn.Linear(3, 3)

    def forward(self, x):
        return self.used(x)


def test_a_parameter_without_gradient_is_missing_not_zero():
    watch, _, _ = train(WithSpare())
    frame = watch.frame("gradients")
    assert set(frame[frame["missing"]]["parameter"]) == {"spare.weight", "spare.bias"}
    assert (watch.frame("steps")["gradient_missing"] == 2).all()
    assert not frame[~frame["missing"]]["l2"].isna().any()


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(50, 4, sparse=True), nn.Linear(4, 5)

    def forward(self, x):
        return self.out(self.table(x).mean(1))


@pytest.mark.filterwarnings("ignore")
def test_sparse_gradients_are_read_by_their_values():
    x = torch.randint(0, 50, (3, ROWS, 2))
    sgd = lambda params, lr: OptimWrapper(params, torch.optim.SGD, lr=lr)  # noqa: E731

    class Zero(Callback):
        order = 100

        def after_step(self):
            self.model.table.weight.grad = None  # fastai zeroes gradients in a way that sparse ones do not know

    watch, truth, _ = train(Table(), x=x, steps=3, opt_func=sgd, cbs=[Zero()])
    row = one(watch.frame("gradients"), step=1, parameter="table.weight")
    assert row["l2"] == pytest.approx(norm(truth.gradients[1]["table.weight"].to_dense()), rel=1e-4)


def test_first_over_last_gradient():
    model = nn.Sequential(*(layer for _ in range(6) for layer in (nn.Linear(20, 20), nn.Sigmoid())), nn.Linear(20, 5))
    watch, truth, _ = train(model)
    g = truth.gradients[0]
    rms = [norm(g[n]) / g[n].numel() ** 0.5 for n in ("0.weight", "12.weight")]
    assert watch.frame("steps")["gradient_first_last"][0] == pytest.approx(rms[0] / rms[1], rel=1e-4)
    assert rms[0] / rms[1] < 0.01  # it vanishes through six sigmoids


# ---- activations ---------------------------------------------------------------------------------------------------


class Pair(nn.Module):
    """One encoder, called twice."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Sequential(nn.Linear(20, 8), nn.Tanh()), nn.Linear(16, 5)

    def forward(self, x):
        return self.head(torch.cat([self.encoder(x), self.encoder(100 * x)], 1))


def test_calls_of_a_shared_encoder_are_kept_apart():
    watch, _, _ = train(Pair())
    frame = watch.frame("activations")
    first, second = (one(frame, step=0, layer="encoder.1", call=c) for c in (0, 1))
    assert second["std"] > 1.2 * first["std"]
    assert second["saturated"] > 0.8 > first["saturated"]
    assert len(frame[(frame["step"] == 0) & (frame["layer"] == "head")]) == 1


def _keep(seen: dict, name: str, module, inputs, output) -> None:
    seen[name] = output.detach().clone()


def test_activations_are_numpys_and_containers_add_no_rows():
    seen = {}
    model = mlp()
    handles = [m.register_forward_hook(partial(_keep, seen, n)) for n, m in model.named_modules()]
    watch, _, _ = train(model, steps=1)
    for handle in handles:
        handle.remove()
    frame = watch.frame("activations")
    assert list(frame["layer"]) == ["0", "1", "2"]
    for name in ("0", "1", "2"):
        row, x = one(frame, layer=name), seen[name].double().numpy()
        assert row["mean"] == pytest.approx(x.mean(), rel=1e-5)
        assert row["std"] == pytest.approx(x.std(), rel=1e-5)
        assert row["zeros"] == pytest.approx((x == 0).mean(), abs=1e-6)
        assert row["negatives"] == pytest.approx((x < 0).mean(), abs=1e-6)
        assert (row["min"], row["max"]) == (pytest.approx(x.min()), pytest.approx(x.max()))


def test_an_output_that_is_overwritten_is_not_read_as_what_overwrote_it(both_ways):
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(20, 400), nn.BatchNorm1d(400), nn.ReLU(inplace=True), nn.Linear(400, 5))
    watch, _, _ = train(model, steps=20)
    frame = watch.frame("activations")
    norm_rows, relu = frame[frame["kind"] == "BatchNorm1d"], frame[frame["kind"] == "ReLU"]
    assert len(relu) == 20
    if both_ways == "compiled":
        assert len(norm_rows) == 20  # read before it is overwritten
    else:
        assert 2 <= len(norm_rows) <= 4  # every eighth step
    assert (norm_rows["negatives"] > 0.3).all()
    assert (relu["negatives"] == 0).all()


class Odd(nn.Module):
    """Outputs of every kind."""

    def __init__(self):
        super().__init__()
        self.rnn, self.parts, self.whole, self.head = (
            nn.LSTM(20, 6, batch_first=True),
            Parts(),
            Whole(),
            nn.Linear(6, 5),
        )
        self.wave = Wave()

    def forward(self, x):
        out, _ = self.rnn(x[:, None])
        self.wave(x)
        self.whole(x)
        return self.head(self.parts(out[:, 0])["a"])


class Parts(nn.Module):
    def forward(self, x):
        return {"a": x * 2, "b": (x, None, "text")}


class Whole(nn.Module):
    def forward(self, x):
        return x.argmax(1)


class Wave(nn.Module):
    def forward(self, x):
        return torch.fft.fft(x)


def test_outputs_of_every_kind():
    watch, _, _ = train(Odd(), steps=2)
    frame = watch.frame("activations")
    at = frame[frame["step"] == 0]
    assert list(at[at["layer"] == "rnn"]["part"]) == [0, 1, 2]
    assert list(at[at["layer"] == "parts"]["part"]) == [0, 1]
    assert one(at, layer="whole")["max"] < 20
    assert "wave" not in set(at["layer"])
    assert set(watch.recording.activations.refused) == {"wave"}


def test_every_element_is_read_if_asked():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 3000), nn.ReLU(), nn.Linear(3000, 5))
    seen = []
    handle = model[1].register_forward_hook(lambda m, i, o: seen.append(o.detach().clone()))
    watch, truth, _ = train(model, watch=Watch(every=1, exact=True), steps=2)
    handle.remove()
    row, x = one(watch.frame("activations"), step=1, layer="1"), seen[1].double().numpy()
    assert row["count"] == row["size"] == ROWS * 3000
    assert row["max"] == pytest.approx(x.max())
    assert row["zeros"] == pytest.approx((x == 0).mean(), abs=1e-6)
    weight = one(watch.frame("weights"), step=1, parameter="0.weight")
    assert weight["std"] == pytest.approx(truth.weights[1]["0.weight"].double().numpy().std(), rel=1e-5)
    assert one(watch.frame("gradients"), step=1, parameter="0.weight")["l2"] == pytest.approx(
        norm(truth.gradients[1]["0.weight"]), rel=1e-5
    )


def test_samples_say_so_and_their_error_holds():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 3000), nn.Linear(3000, 5))
    seen = []
    handle = model[0].register_forward_hook(lambda m, i, o: seen.append(o.detach().clone()))
    watch, _, _ = train(model, steps=40)
    handle.remove()
    frame = watch.frame("activations")
    frame = frame[frame["layer"] == "0"].sort_values("step")
    assert (frame["count"] == 4096).all()
    assert (frame["size"] == ROWS * 3000).all()
    assert frame["max"].isna().all()
    truth = np.array([float(t.double().mean()) for t in seen])
    off = np.abs(frame["mean"].to_numpy() - truth) / frame["error"].to_numpy()
    assert (off < 1.96).mean() > 0.7
    assert (off < 4).all()


# ---- outputs, representations, units -------------------------------------------------------------------------------


def test_outputs_of_a_classifier_are_numpys():
    watch, truth, _ = train(mlp())
    steps = watch.frame("steps")
    pred, target = truth.preds[2].double().numpy(), truth.targets[2].numpy()
    p = np.exp(pred) / np.exp(pred).sum(1, keepdims=True)
    row = steps.iloc[2]
    assert row["output_variance"] == pytest.approx(pred.var(0).mean(), rel=1e-4)
    assert row["output_spread"] == pytest.approx(pred.std(0).mean(), rel=1e-4)
    assert row["output_spread_within"] == pytest.approx(pred.std(1).mean(), rel=1e-4)
    assert row["output_confidence"] == pytest.approx(p.max(1).mean(), rel=1e-4)
    assert row["output_confidence_std"] == pytest.approx(p.max(1).std(), rel=1e-3)
    assert row["output_entropy"] == pytest.approx(-(p * np.log(p)).sum(1).mean() / np.log(5), rel=1e-4)
    assert row["output_top_class"] == pytest.approx(np.bincount(p.argmax(1), minlength=5).max() / ROWS, rel=1e-5)
    share = np.bincount(target, minlength=5) / ROWS
    assert row["target_top_class"] == pytest.approx(share.max(), rel=1e-5)
    assert row["output_calibration"] == pytest.approx(np.abs(p.mean(0) - share).sum() / 2, rel=1e-4)
    assert row["output_constant"] == 0
    classes = watch.frame("classes")
    at = classes[classes["step"] == 0].sort_values("class")
    np.testing.assert_allclose(at["actual"], np.bincount(truth.targets[0].numpy(), minlength=5) / ROWS, rtol=1e-5)
    np.testing.assert_allclose(
        at["predicted"], np.bincount(truth.preds[0].argmax(1).numpy(), minlength=5) / ROWS, rtol=1e-5
    )


def test_a_constant_answer_is_seen():
    model = mlp()
    nn.init.zeros_(model[2].weight)
    watch, _, _ = train(model)
    steps = watch.frame("steps")
    assert steps["output_constant"][0] == 1
    assert steps["output_spread"][0] < 1e-7
    assert steps["output_constant"][5] < 1


def test_outputs_of_a_binary_loss():
    y = torch.randint(0, 2, (4, ROWS, 3)).float()
    watch, truth, _ = train(mlp(outputs=3), y=y, loss=BCEWithLogitsLossFlat(), steps=4)
    row = watch.frame("steps").iloc[1]
    p = truth.preds[1].sigmoid().double().numpy()
    assert row["output_confidence"] == pytest.approx(p.mean(), rel=1e-4)
    assert row["output_calibration"] == pytest.approx(
        np.abs(p.mean(0) - truth.targets[1].numpy().mean(0)).mean(), rel=1e-4
    )
    assert "classes" not in watch.store.tables


def test_outputs_of_a_regression_have_no_confidence():
    y = torch.randn(4, ROWS, 1)
    watch, _, _ = train(mlp(outputs=1), y=y, loss=nn.MSELoss(), steps=4)
    steps = watch.frame("steps")
    assert "output_confidence" not in steps
    assert "output_spread_within" not in steps
    assert (steps["output_variance"] > 0).all()


class Maps(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x)


def test_outputs_with_places_are_rows():
    x, y = torch.randn(3, 4, 1, 6, 6), torch.randint(0, 3, (3, 4, 6, 6))
    watch, _, _ = train(Maps(), x=x, y=y, loss=CrossEntropyLossFlat(axis=1), steps=3)
    steps = watch.frame("steps")
    assert steps["output_confidence"].between(1 / 3, 1).all()
    assert steps["target_top_class"].between(1 / 3, 0.7).all()


@pytest.mark.parametrize("flat", [True, False], ids=["fastai's loss", "another one"])
def test_outputs_of_a_language_model_have_their_classes_last(flat):
    def negated(pred, target):
        return -nn.functional.cross_entropy(pred.flatten(0, 1), target.flatten())

    model = nn.Sequential(nn.Embedding(12, 8), nn.Linear(8, 12))
    x = torch.randint(0, 12, (3, 10, 7))
    watch, _, _ = train(model, x=x, y=x, loss=CrossEntropyLossFlat() if flat else negated, steps=3)
    steps = watch.frame("steps")
    assert steps["output_confidence"].between(1 / 12, 1).all()
    assert (steps["output_calibration"] <= 1).all()


def test_a_gauge_that_raises_is_turned_off_and_told_and_training_goes_on(caplog):
    watch = Watch(every=1)
    watch.recording.gauges["outputs"].rows = None  # not callable
    dls = DataLoaders([(torch.randn(ROWS, 20), torch.randint(0, 5, (ROWS,))) for _ in range(20)], [])
    learn = Learner(dls, mlp(), loss_func=CrossEntropyLossFlat())
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=watch)
    assert set(watch.recording.failed) == {"outputs"}
    assert caplog.text.count("gauge outputs is off") == 1
    assert len(watch.frame("steps")) == 20


def test_rank_and_cosine_of_features_are_numpys():
    kept = []
    model = mlp(width=32)
    handle = model[1].register_forward_hook(lambda m, i, o: kept.append(o.detach().clone()))
    watch, _, _ = train(model, steps=1)
    handle.remove()
    f = kept[0].double().numpy()
    singular = np.linalg.svd(f - f.mean(0), compute_uv=False)
    p = singular / singular.sum()
    rank = np.exp(-(p[p > 1e-12] * np.log(p[p > 1e-12])).sum())
    unit = f / np.linalg.norm(f, axis=1, keepdims=True)
    cosine = ((unit @ unit.T).sum() - ROWS) / (ROWS * (ROWS - 1))
    row = watch.frame("steps").iloc[0]
    assert row["feature_rank"] == pytest.approx(rank, rel=1e-3)
    assert row["feature_rank_share"] == pytest.approx(rank / (ROWS - 1), rel=1e-3)
    assert row["feature_cosine"] == pytest.approx(cosine, rel=1e-3)


def test_collapsed_features_have_rank_one():
    class Collapse(nn.Module):
        def forward(self, x):
            return torch.outer(x[:, 0], torch.arange(1.0, 9.0))

    model = nn.Sequential(Collapse(), nn.Linear(8, 5))
    watch, _, _ = train(model, steps=1)
    assert watch.frame("steps")["feature_rank"][0] == pytest.approx(1, abs=1e-3)
    named = nn.Module()
    watch, _, _ = train(Pair(), steps=1, watch=Watch(every=1, features="encoder"))
    assert watch.frame("steps")["feature_rank"][0] > 3
    assert named is not None


def test_a_dead_unit_is_one_that_never_fires_not_one_with_zeros():
    model = mlp(width=10)
    with torch.no_grad():
        model[0].bias[:3] = -1000.0  # three units never fire
        model[0].bias[3:] = -0.9  # the others seldom do
    watch, _, _ = train(
        model, steps=200, watch=Watch(every=1), opt_func=lambda p, lr: OptimWrapper(p, torch.optim.SGD, lr=0.0)
    )
    frame = watch.frame("units")
    row = frame[frame["layer"] == "1"].iloc[-1]
    assert (row["units"], row["batches"]) == (10, 8)
    assert row["dead"] == pytest.approx(0.3)
    activations = watch.frame("activations")
    assert activations[activations["layer"] == "1"]["zeros"].mean() > 0.8


# ---- the rest ------------------------------------------------------------------------------------------------------


def test_rates_and_momenta_of_every_group():
    splitter = lambda m: [list(m[0].parameters()), list(m[2].parameters())]  # noqa: E731
    seed_everything(0)
    dls = DataLoaders([(torch.randn(ROWS, 20), torch.randint(0, 5, (ROWS,))) for _ in range(4)], [])
    learn = Learner(dls, mlp(), loss_func=CrossEntropyLossFlat(), splitter=splitter, lr=slice(1e-4, 1e-2))
    watch = Watch(every=1)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, lr=slice(1e-4, 1e-2), cbs=watch)
    steps = watch.frame("steps")
    assert (steps["lr_0"].iloc[0], steps["lr_1"].iloc[0]) == (pytest.approx(1e-4), pytest.approx(1e-2))
    assert (steps["momentum_1"] == 0.9).all()


def test_seconds_add_up():
    watch, _, _ = train(mlp(), steps=30)
    steps = watch.frame("steps")
    parts = sum(steps[f"seconds_{n}"] for n in ("forward", "loss", "backward", "step"))
    assert (parts > 0).all()
    assert (parts <= steps["seconds_batch"] * 1.0001).all()
    assert (steps["seconds_waiting"] >= 0).all()
    assert (steps["memory_resident"].dropna() > 1e7).all()


class Event:
    """What a CUDA event tells: milliseconds to another one."""

    def __init__(self, at: float):
        self.at = at

    def elapsed_time(self, other: Event) -> float:
        return other.at - self.at


def test_on_a_device_its_own_events_count():
    names = ("start", "pred", "loss", "backward", "step")
    moment = Moment(0, marks=dict.fromkeys((*names, "end", "waiting"), 1.0))
    moment.device_marks = {n: Event(10.0 * i) for i, n in enumerate(names)}
    found = Seconds().rows(Block([moment]))
    assert found["seconds_forward"][0] == found["seconds_backward"][0] == pytest.approx(0.01)
    assert found["seconds_waiting"][0] == 0


GAUGES = registry.entries("diagnose.gauges")


@pytest.mark.parametrize("entry", GAUGES, ids=lambda e: e.id)
def test_every_gauge_explains_itself(entry):
    for section in ("## What is recorded", "## How it is measured", "## What it costs", "## Source"):
        assert section in entry.doc
    assert issubclass(registry.load(entry, Gauge), Gauge)


@pytest.mark.parametrize("entry", GAUGES, ids=lambda e: e.id)
def test_every_gauge_can_be_left_out(entry):
    watch, _, _ = train(mlp(), steps=3, watch=Watch(every=1, without=[entry.id]))
    assert len(watch.frame("steps")) == 3
    assert entry.id not in watch.recording.gauges


@pytest.mark.parametrize("entry", GAUGES, ids=lambda e: e.id)
def test_every_gauge_stands_alone(entry):
    others = [e.id for e in GAUGES if e.id != entry.id]
    watch, _, _ = train(mlp(), steps=20, watch=Watch(every=1, without=others, alarms=False))
    table = registry.load(entry, Gauge).table
    if table == "units":
        assert watch.store.tables in (["steps"], ["steps", "units"])  # which outputs are rectified, `activations` tells
    else:
        assert len(watch.frame(table)) >= 2


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_recorded_is_told(tmp_path, caplog):
    class Phases(nn.Module):
        def __init__(self):
            super().__init__()
            self.phase, self.net = nn.Parameter(torch.zeros(3, dtype=torch.complex64)), mlp()
            self.scripted, self.spectrum = torch.jit.script(nn.Sequential(nn.Linear(20, 20), nn.ReLU())), Wave()

        def forward(self, x):
            self.spectrum(x)
            return self.net(self.scripted(x))

    kept = Watch(tmp_path / "run", every=1)
    watch, _, _ = train(Phases(), steps=2, watch=kept)
    assert "phase" not in set(watch.frame("weights")["parameter"])
    told = {"phase": "complex", "scripted": "scripted", "spectrum": "its output is complex"}
    for store in (watch.store, Store.read(tmp_path / "run")):
        assert set(store.unrecorded) == set(told)
        assert all(store.unrecorded[name].startswith(f"{why}: ") for name, why in told.items())
    lines = [r.getMessage() for r in caplog.records if "not recorded" in r.getMessage()]
    assert len(lines) == 1
    assert all(f"{name} ({why}: " in lines[0] for name, why in told.items())
    train(Phases(), steps=2, watch=watch)
    assert sum("not recorded" in r.getMessage() for r in caplog.records) == 2  # once a fit
    assert len(watch.frame("unrecorded")) == 3


def test_where_all_is_recorded_nothing_is_told(caplog):
    watch, _, _ = train(mlp(), steps=2)
    assert watch.store.unrecorded == {}
    assert "unrecorded" not in watch.store.tables
    assert "not recorded" not in caplog.text


def test_gradients_that_are_new_at_every_step_are_read_and_not_kept_alive():
    born, alive = [], []

    class Fresh(Callback):
        order = 100

        def before_step(self):
            born.extend(weakref.ref(p.grad) for p in self.model.parameters())

        def after_step(self):
            for p in self.model.parameters():
                p.grad = None
            alive.append(sum(ref() is not None for ref in born))

    watch, truth, _ = train(mlp(), steps=8, cbs=[Fresh()])
    frame = watch.frame("gradients")
    for step in (0, 2, 7):
        for name, g in truth.gradients[step].items():
            assert one(frame, step=step, parameter=name)["l2"] == pytest.approx(norm(g), rel=1e-5)
    assert alive[3:] == [0] * 5  # at the first steps nobody knows yet that they will not come back


def test_a_parameter_with_gaps_in_memory_is_read_anew_at_every_step():
    model = nn.Linear(20, 5)
    model.weight = nn.Parameter(torch.randn(5, 40)[:, :20])
    watch, truth, _ = train(model)
    found = watch.frame("weights").query("parameter == 'weight'")
    expected = [float(w["weight"].double().mean()) for w in truth.weights]
    np.testing.assert_allclose(found["mean"], expected, rtol=1e-5)
    changes = watch.frame("updates").query("parameter == 'weight'")["ratio"]
    assert (changes > 0).all()


def test_a_step_that_destroys_the_weights_is_a_step_that_was_made():
    class Destroy(Callback):
        order = Watch.order + 0.2

        def before_step(self):
            if self.learn.train_iter == 3:
                self.model[0].weight.grad.fill_(np.nan)

    watch, truth, _ = train(mlp(), cbs=[Destroy()])
    assert [bool(after["0.weight"].isnan().all()) for after in truth.after] == [False] * 3 + [True] * 3
    found = watch.frame("updates").query("parameter == '0.weight'")
    assert found["step"].tolist() == list(range(6))
    assert found["ratio"].isna().tolist() == [False] * 3 + [True] * 3


class AsSparse(Callback):
    "Makes the gradient of the first layer sparse while gauges read, at some steps."

    order = Watch.order - 0.2

    def __init__(self, steps):
        self.steps = steps

    def before_step(self):
        weight = self.model[0].weight
        if self.learn.train_iter in self.steps:
            self.kept, weight.grad = weight.grad, weight.grad.to_sparse()


class AsDense(Callback):
    "Puts it back for the optimizer."

    order = Watch.order + 0.2

    def before_step(self):
        weight = self.model[0].weight
        if weight.grad.is_sparse:
            weight.grad = self.learn.as_sparse.kept


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_steps_that_are_read_in_different_ways_stand_in_order():
    sparse = AsSparse(steps=(2, 3))
    watch, truth, _ = train(mlp(), cbs=[sparse, AsDense()])
    found = watch.frame("gradients")
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert found["step"].tolist() == [step for step in range(6) for _ in names]
    assert found["parameter"].tolist() == names * 6
    for step in range(6):
        for name in names:
            row = one(found, step=step, parameter=name)
            assert row["l2"] == pytest.approx(norm(truth.gradients[step][name].to_dense()), rel=1e-5)
            if step > 0 and step not in (2, 4):  # at these its neighbour was read in the other way
                a, b = (truth.gradients[k][name].to_dense().double().flatten() for k in (step, step - 1))
                expected = float(torch.nn.functional.cosine_similarity(a, b, dim=0))
                assert row["cosine"] == pytest.approx(expected, abs=1e-5), (step, name)
