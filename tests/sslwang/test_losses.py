"""Every loss against its formula in NumPy, on random and hostile outputs; gradients, reductions, precision."""

import math

import numpy as np
import pytest
import torch
from fastai.losses import CrossEntropyLossFlat

from diagnose.errors import DiagnoseError
from sslwang.losses import IGNORED, L1, LOSSES, MSE, NPair, RowDistance
from sslwang.tasks.unmix import Unmix, UnmixSettings

# ---- the formulas, row by row or element by element, in float64 -------------------------------------------------


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(x):
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def sigmoid(x):
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def bce(x, y):
    return np.logaddexp(0, x) - x * y


def ce(x, y):
    values = np.zeros(y.shape)
    for place in np.ndindex(y.shape):
        if y[place] != IGNORED:
            values[place] = -log_softmax(x[place])[y[place]]
    return values, max(1, int((y != IGNORED).sum()))


def soft_ce(x, y, temperature=1.0):
    t = math.sqrt(x.shape[-1]) if temperature == "auto" else temperature
    return -(y * log_softmax(x / t)).sum(-1)


def activated(x, activation="softmax", low=0.0, high=1.0):
    return {"softmax": softmax, "sigmoid": lambda v: low + (high - low) * sigmoid(v), "none": lambda v: v}[activation](
        x
    )


def mse(x, y, **kw):
    return (activated(x, **kw) - y) ** 2


def l1(x, y, **kw):
    return np.abs(activated(x, **kw) - y)


def distance(x, y, **kw):
    difference = (activated(x, **kw) - y).reshape(len(x), -1) + 1e-6
    return np.sqrt((difference**2).sum(1))


def contrastive(x, y, margin=1.0):
    d = -x
    return y * d**2 / 2 + (1 - y) * np.maximum(0, margin - d) ** 2 / 2


def triplet(x, y, margin=0.2):
    rows = [[max(0, margin + n - p) for p in s[t == 1] for n in s[t == 0]] for s, t in zip(x, y)]
    return np.array([sum(r) for r in rows]), max(1, sum(map(len, rows)))


def n_pair(x, y):
    rows = [[np.logaddexp.reduce(np.array([0, *(s[t == 0] - p)])) for p in s[t == 1]] for s, t in zip(x, y)]
    return np.array([sum(r) for r in rows]), max(1, sum(map(len, rows)))


def nt_xent(x, y, temperature=0.1):
    rows = [(-log_softmax(s / temperature)[t == 1]).mean() if t.any() else 0.0 for s, t in zip(x, y)]
    return np.array(rows), max(1, int((y.sum(1) > 0).sum()))


REFERENCES = {
    "bce": bce,
    "ce": ce,
    "soft-ce": soft_ce,
    "mse": mse,
    "l1": l1,
    "distance": distance,
    "contrastive": contrastive,
    "triplet": triplet,
    "n-pair": n_pair,
    "nt-xent": nt_xent,
}

OPTIONS = {
    "soft-ce": [{}, {"temperature": 0.07}, {"temperature": "auto"}],
    "mse": [{}, {"activation": "sigmoid"}, {"activation": "sigmoid", "low": 0.5}, {"activation": "none"}],
    "l1": [{}, {"activation": "sigmoid", "low": -1.0, "high": 3.0}, {"activation": "none"}],
    "distance": [{}, {"activation": "none"}],
    "contrastive": [{}, {"margin": 2.0}],
    "triplet": [{}, {"margin": 1.5}],
    "nt-xent": [{}, {"temperature": 0.5}],
}

CASES = [(kind, options) for kind in REFERENCES for options in OPTIONS.get(kind, [{}])]


def outputs(style, shape, rng):
    x = rng.standard_normal(shape)
    return {
        "random": x,
        "large": 300 * x,
        "huge": np.where(x > 0, 1e4, -1e4),
        "equal": np.zeros(shape),
        "one row": 3 * x,
    }[style][: 1 if style == "one row" else None]


def targets(kind, x, rng, style):
    if kind == "ce":
        y = rng.integers(0, x.shape[-1], x.shape[:-1])
        y[rng.random(y.shape) < 0.3] = IGNORED
        return np.full_like(y, IGNORED) if style == "equal" else y
    if kind == "soft-ce":
        return softmax(3 * rng.standard_normal(x.shape))
    if kind in ("bce", "contrastive", "triplet", "n-pair", "nt-xent"):
        y = (rng.random(x.shape) < 0.5).astype(float)
        y[:1] = 0.0  # a row without a positive
        y[1:2] = 1.0  # and one without a negative
        return y
    return rng.random(x.shape)


def case(kind, style, seed):
    rng = np.random.default_rng(seed)
    x = outputs(style, (6, 4, 5) if kind in ("ce", "mse", "l1") else (6, 5), rng)
    return x, targets(kind, x, rng, style)


STYLES = ["random", "large", "huge", "equal", "one row"]
styles = pytest.mark.parametrize("style", STYLES)
every = pytest.mark.parametrize(("kind", "options"), CASES, ids=str)


@every
@styles
def test_it_is_its_formula_under_every_reduction(kind, options, style):
    for seed in range(5):
        x, y = case(kind, style, seed)
        values = REFERENCES[kind](x, y, **options)
        values, count = values if isinstance(values, tuple) else (values, values.size)
        expected = {"none": values, "sum": values.sum(), "mean": values.sum() / count}
        for reduction, right in expected.items():
            loss = LOSSES[kind](reduction, **options)
            got = loss(torch.from_numpy(x), torch.from_numpy(y))
            assert got.dtype == torch.float64
            np.testing.assert_allclose(got.numpy(), right, rtol=1e-9, atol=1e-12)
            single = loss(torch.from_numpy(x).float(), torch.from_numpy(y if kind == "ce" else y.astype(np.float32)))
            np.testing.assert_allclose(single.numpy(), right, rtol=2e-4, atol=1e-4)


@every
@styles
def test_gradients_are_finite_and_those_of_small_differences(kind, options, style):
    x, y = case(kind, style, 3)
    at, y = torch.from_numpy(x).requires_grad_(), torch.from_numpy(y)
    loss = LOSSES[kind](**options)
    (slope,) = torch.autograd.grad(loss(at, y), at)
    assert torch.isfinite(slope).all()
    if style == "random":
        assert torch.autograd.gradcheck(lambda t: loss(t, y), at)
    if kind == "ce" and style == "equal":
        assert slope.abs().max() == 0, "all cells are ignored"


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_outputs_are_summed_in_float32(kind, options, dtype):
    x, y = case(kind, "random", 1)
    half = torch.from_numpy(x).to(dtype)
    y = torch.from_numpy(y if kind == "ce" else y.astype(np.float32))
    got = LOSSES[kind](**options)(half, y)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, LOSSES[kind](**options)(half.float(), y))


@every
def test_autocast_changes_nothing(kind, options):
    x, y = case(kind, "random", 1)
    at = torch.from_numpy(x).float().requires_grad_()
    y = torch.from_numpy(y if kind == "ce" else y.astype(np.float32))
    loss = LOSSES[kind](**options)
    right = loss(at, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss(at * 1, y)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, right)
    torch.testing.assert_close(torch.autograd.grad(cast, at), torch.autograd.grad(right, at))


@every
def test_rows_in_another_order_have_the_same_loss(kind, options):
    x, y = map(torch.from_numpy, case(kind, "random", 4))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    loss = LOSSES[kind]("sum", **options)
    torch.testing.assert_close(loss(x[order], y[order]), loss(x, y))


@pytest.mark.parametrize("kind", ["contrastive", "triplet", "n-pair", "nt-xent"])
def test_others_in_another_order_have_the_same_loss_and_the_right_answer_a_smaller_one(kind):
    x, y = map(torch.from_numpy, case(kind, "random", 4))
    order = torch.tensor([3, 0, 4, 1, 2])
    loss = LOSSES[kind]()
    torch.testing.assert_close(loss(x[:, order], y[:, order]), loss(x, y))
    right = torch.where(y > 0, -0.05, -1.9)
    assert loss(right, y) < 0.5 * loss(-2 - right, y)


# ---- values that are known ----------------------------------------------------------------------------------------


def test_values_of_constants():
    one = torch.zeros(7, 4)
    first = torch.tensor([1.0, 0, 0, 0]).expand(7, 4)
    assert LOSSES["nt-xent"]()(one, first).item() == pytest.approx(math.log(4))
    assert LOSSES["n-pair"]()(one, first).item() == pytest.approx(math.log(4))
    assert LOSSES["triplet"](margin=0.3)(one, first).item() == pytest.approx(0.3)
    assert LOSSES["soft-ce"]()(one, first).item() == pytest.approx(math.log(4))
    assert LOSSES["ce"]()(torch.zeros(7, 3, 4), torch.zeros(7, 3, dtype=torch.long)).item() == pytest.approx(
        math.log(4)
    )
    assert LOSSES["simclr"]()(torch.ones(8, 2, 5)).item() == pytest.approx(math.log(15))
    assert LOSSES["vicreg"]()(torch.ones(8, 2, 5)).item() == pytest.approx(25 * 0.99)
    assert LOSSES["bce"]()(torch.full((9, 3), math.log(2)), torch.tensor([1.0, 1, 0]).expand(9, 3)).item() == (
        pytest.approx(0.6365, abs=1e-4)
    )


def test_cells_are_what_fastai_makes_of_classes_last():
    x, y = map(torch.from_numpy, case("ce", "random", 0))
    x = x.float()
    torch.testing.assert_close(LOSSES["ce"]()(x, y), CrossEntropyLossFlat(axis=-1)(x, y))
    assert LOSSES["ce"]().axis == -1


def test_a_class_that_does_not_exist_is_refused():
    with pytest.raises(IndexError):
        LOSSES["ce"]()(torch.zeros(2, 3), torch.tensor([0, 3]))


def test_several_positives_are_the_mean_over_each_of_them():
    """NT-Xent and N-pair: of each positive alone, the other positives taken out of the N-pair's sum."""
    s = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([1.0, 0, 1, 0, 0])
    each = []
    for p in (0, 2):
        keep = [p, 1, 3, 4]
        each.append(NPair()(s[keep][None], torch.tensor([[1.0, 0, 0, 0]])))
    assert NPair()(s[None], y[None]).item() == pytest.approx(sum(each).item() / 2)
    one_hot = torch.eye(5)[[0, 2]]
    alone = LOSSES["nt-xent"]("none")(s.expand(2, 5), one_hot)
    assert LOSSES["nt-xent"]()(s[None], y[None]).item() == pytest.approx(alone.mean().item())


def test_contrastive_draws_positives_and_pushes_negatives_to_the_margin_only():
    s = torch.tensor([[-0.5, -0.5, -1.5]], requires_grad=True)
    LOSSES["contrastive"]("sum")(s, torch.tensor([[1.0, 0, 0]])).backward()
    assert s.grad[0].tolist() == pytest.approx([-0.5, 0.5, 0.0])


def test_shapes_that_differ_are_refused_not_broadcast():
    for kind in (MSE, L1, RowDistance):
        with pytest.raises(ValueError, match=r"\(4, 1\) and target \(4,\) differ"):
            kind(activation="none")(torch.zeros(4, 1), torch.zeros(4))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("bce", {"reduction": "avg"}),
        ("mse", {"activation": "tanh"}),
        ("l1", {"activation": "sigmoid", "low": 1.0}),
        ("soft-ce", {"temperature": 0.0}),
        ("nt-xent", {"temperature": -1.0}),
        ("triplet", {"margin": math.nan}),
        ("contrastive", {"margin": math.inf}),
        ("vae", {"beta": -0.1}),
    ],
)
def test_options_without_sense_are_refused(kind, options):
    with pytest.raises(ValueError, match=r"reduction|activation|low|temperature|margin|beta"):
        LOSSES[kind](**options)


# ---- activation and decodes, as fastai calls them -----------------------------------------------------------------


def test_activations_are_what_the_loss_compares_with_its_target():
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    for kind, right in [
        ("bce", x.sigmoid()),
        ("ce", x.softmax(1)),
        ("soft-ce", x.softmax(1)),
        ("mse", x.softmax(1)),
        ("nt-xent", (x / 0.1).softmax(1)),
        ("triplet", x),
    ]:
        torch.testing.assert_close(LOSSES[kind]().activation(x), right)
    half = L1(activation="sigmoid", low=0.5)
    assert half(torch.full((3,), 40.0), torch.ones(3)).item() == pytest.approx(0)
    torch.testing.assert_close(half.activation(torch.tensor([-40.0, 0.0])), torch.tensor([0.5, 0.75]))
    assert LOSSES["bce"]().decodes(torch.tensor([0.2, 0.7])).tolist() == [False, True]
    assert LOSSES["ce"]().decodes(torch.eye(3)[None]).tolist() == [[0, 1, 2]]


def test_fastai_predicts_probabilities_and_gives_the_loss_of_each_item():
    task = Unmix(UnmixSettings(bs=4, items=4, valid_items=8))
    learner = task.learner(0)
    with learner.no_logging():
        learner.remove_cbs([cb for cb in learner.cbs if cb.name == "progress"])
        raw, y = learner.get_preds(act=lambda t: t)
        probabilities, _, answers, losses = learner.get_preds(with_decoded=True, with_loss=True)
    torch.testing.assert_close(probabilities, raw.sigmoid())
    assert torch.equal(answers, probabilities > 0.5)
    torch.testing.assert_close(
        losses, torch.nn.functional.binary_cross_entropy_with_logits(raw, y, reduction="none").mean(1)
    )
    assert learner.loss_func.reduction == "mean"


# ---- losses over whole batches, and of autoencoders -----------------------------------------------------------------


def projections(seed=0):
    return torch.randn(6, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_simclr_is_its_formula():
    """Chen et al. 2020, equation 1: of 2 B views each looks for its other among all but itself."""
    z = projections()
    flat = z.transpose(0, 1).reshape(12, 5).numpy()
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    s = unit @ unit.T / 0.1
    np.fill_diagonal(s, -np.inf)
    each = [-log_softmax(s[i])[(i + 6) % 12] for i in range(12)]
    assert LOSSES["simclr"]()(z).item() == pytest.approx(np.mean(each), rel=1e-6)


def test_vicreg_is_its_formula():
    """Bardes et al. 2022, equation 6, with lightly's 1e-4 under the root and half of each view's variance term."""
    a, b = projections().unbind(1)
    a, b = a.numpy(), b.numpy()
    invariance = ((a - b) ** 2).mean()
    variance = sum(np.maximum(0, 1 - np.sqrt(v.var(0, ddof=1) + 1e-4)).mean() for v in (a, b)) / 2
    covariance = 0.0
    for v in (a, b):
        c = np.cov(v.T)
        covariance += (c**2).sum() / 5 - (np.diag(c) ** 2).sum() / 5
    expected = 25 * invariance + 25 * variance + covariance
    assert LOSSES["vicreg"]()(projections()).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["simclr", "vicreg"])
def test_losses_over_whole_batches_keep_their_precision(kind):
    z = projections().float().requires_grad_()
    loss = LOSSES[kind]()
    right = loss(z, torch.zeros(6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss(z)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, right)
    assert loss(z.half()).dtype == torch.float32
    right.backward()
    assert torch.isfinite(z.grad).all()
    torch.testing.assert_close(LOSSES[kind]("sum")(z), 6 * loss(z))
    same = torch.ones(6, 2, 5, requires_grad=True)
    loss(same).backward()
    assert torch.isfinite(same.grad).all()
    for wrong in (lambda: LOSSES[kind]("none")(z), lambda: loss(z[:, :1]), lambda: loss(z[:, 0])):
        with pytest.raises(ValueError, match=r"needs projections \(B, 2, D\)"):
            wrong()


@pytest.mark.parametrize("beta", [1.0, 0.0, 4.0])
def test_the_variational_loss_is_its_formula(beta):
    rng = np.random.default_rng(0)
    images, target = rng.standard_normal((2, 3, 3, 4, 4))
    mean, log_variance = rng.standard_normal((2, 3, 7))
    divergence = -0.5 * (1 + log_variance - mean**2 - np.exp(log_variance)).sum(1)
    rows = (((images - target) ** 2).sum((1, 2, 3)) / 2 + beta * divergence) / 48
    given = tuple(map(torch.from_numpy, (images, mean, log_variance)))
    for reduction, right in {"none": rows, "sum": rows.sum(), "mean": rows.mean()}.items():
        got = LOSSES["vae"](reduction, beta=beta)(given, torch.from_numpy(target))
        np.testing.assert_allclose(got.numpy(), right, rtol=1e-9)
    assert LOSSES["vae"]().activation(given) is given[0]
    perfect = (given[0], torch.zeros(3, 7), torch.zeros(3, 7))
    assert LOSSES["vae"]()(perfect, given[0]).item() == 0


def test_every_loss_has_its_reference_here():
    assert set(LOSSES) == {*REFERENCES, "vae", "simclr", "vicreg"}
    with pytest.raises(DiagnoseError, match="does not fit unmix"):
        Unmix(UnmixSettings(loss={"kind": "triplet"}))
