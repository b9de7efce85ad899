"""Heads and the networks around them: rows stay rows, slots are alike, each image is encoded once, formulas hold."""

import copy
import math

import pytest
import torch
from fastai.vision.learner import create_head
from torch import nn

from sslwang.losses import LOSSES
from sslwang.models.autoencoder import Autoencoder, VariationalAutoencoder
from sslwang.models.decoder import Decoder
from sslwang.models.encoder import Encoder, make_encoder
from sslwang.models.layers import ConcatPool
from sslwang.models.pairs import HEADS, METRIC_HEADS, GatheredPairNet, PairNet
from sslwang.models.single import SINGLE_HEADS, CellsHead, SingleNet
from sslwang.models.views import VIEW_HEADS, ViewNet

PAIR_HEADS = {**HEADS, **METRIC_HEADS}
pair_heads = pytest.mark.parametrize("head", PAIR_HEADS)
SINGLES = {
    "pooled": {"shape": (4, 4)},
    "cells": {"shape": (8, 5), "grid": (2, 4)},
    "fastai": {"shape": (3,)},
    "decoder": {"shape": (3, 15, 22)},
}
single_heads = pytest.mark.parametrize("head", SINGLE_HEADS)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair_net(head, seed=0, **options):
    torch.manual_seed(seed)
    return PairNet(Encoder(), head, **options)


def single_net(head, seed=0):
    torch.manual_seed(seed)
    return SingleNet(Encoder(), head, **SINGLES[head])


def leaks(model, inputs, row):
    """The rows of any input, other than `row`, that the outputs of `row` depend on; and whether they depend on it."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    slopes = torch.autograd.grad(model(*inputs)[row].square().sum(), inputs)
    touched = torch.stack([g.flatten(1).abs().amax(1) for g in slopes]).amax(0) > 0
    others = [i for i in touched.nonzero().flatten().tolist() if i != row]
    return others, bool(touched[row])


def mapped(vectors):
    """Vectors (N, C) as maps whose mean and maximum are the vector: (N, C, 2, 2)."""
    return vectors[:, :, None, None].expand(-1, -1, 2, 2)


def logits(head, a, b, **options):
    """Of a head over anchors (B, F) and others (B, n, F), F even, given as maps of F / 2 channels would be pooled."""
    return PAIR_HEADS[head](a.shape[1] // 2, **options).eval()(a[:, None], b)


# ---- several images in --------------------------------------------------------------------------------------------


@pair_heads
@pytest.mark.parametrize("n", [1, 2, 5])
def test_permuted_sources_permute_the_outputs(head, n):
    model = pair_net(head).eval()
    anchor, *others = randn(n + 1, 4, 3, 32, 32)
    order = list(range(n))[::-1] if n < 5 else [2, 0, 4, 1, 3]
    with torch.no_grad():
        straight, permuted = model(anchor, *others), model(anchor, *(others[k] for k in order))
    assert straight.shape == (4, n)
    torch.testing.assert_close(permuted, straight[:, order], rtol=1e-4, atol=1e-5)


@pair_heads
def test_outputs_differ_between_rows_and_between_slots(head):
    """One slot alone too: what is centred over the slots would be zero there, and the output a constant."""
    for n in (1, 3):
        out = pair_net(head)(*randn(n + 1, 16, 3, 32, 32)).detach()
        assert out.std(0).min() > 1e-4
        if n > 1:
            assert out.std(1).min() > 1e-5


@pair_heads
@pytest.mark.parametrize("training", [True, False])
def test_rows_never_mix(head, training):
    if head == "fastai" and training:
        pytest.skip("its batch norm sees all rows in training; see below")
    others, itself = leaks(pair_net(head).train(training), randn(4, 6, 3, 32, 32), row=2)
    assert others == []
    assert itself


def test_the_leak_test_finds_leaks():
    """Of batch norm in training, and of sources that were stacked before rows (the notes' F1)."""
    assert leaks(pair_net("fastai").train(), randn(4, 6, 3, 32, 32), 2)[0] == [0, 1, 3, 4, 5]

    class Mixing(PairNet):
        def encode(self, *images):
            return self.encoder(torch.cat(images)).view(len(images[0]), len(images), -1, 2, 2)

    assert leaks(Mixing(Encoder()).eval(), randn(4, 6, 3, 32, 32), 2)[0] != []


@pair_heads
def test_every_parameter_learns_from_the_anchor_and_from_every_other(head):
    model = pair_net(head)
    inputs = [x.requires_grad_() for x in randn(4, 6, 3, 32, 32)]
    out = model(*inputs)
    out.backward(randn(*out.shape, seed=1))
    assert all(x.grad.abs().max() > 0 for x in inputs)
    still = [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert [n for n in still if not n.endswith("bias")] == []


@pair_heads
def test_equal_images_have_finite_slopes(head):
    image = randn(3, 3, 32, 32)
    model = pair_net(head)
    model(*(image.clone() for _ in range(4))).square().sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


@pair_heads
def test_bfloat16_comes_near_float32(head):
    model = pair_net(head).eval()
    inputs = randn(4, 8, 3, 32, 32)
    with torch.no_grad():
        right = model(*inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = model(*inputs)
    assert torch.isfinite(cast).all()
    assert (cast.float() - right).abs().max() < 0.05 * right.abs().max().clamp_min(1)


def test_every_image_is_encoded_once_in_one_call():
    for net, inputs, rows in [
        (pair_net("set"), randn(4, 2, 3, 32, 32), 8),
        (ViewNet(Encoder()), randn(2, 2, 3, 32, 32), 4),
        (GatheredPairNet(Encoder()), (*randn(2, 5, 3, 32, 32), torch.tensor([[0, 1, 4]] * 5)), 10),
    ]:
        calls = []
        net.encoder.register_forward_hook(lambda m, x, y, calls=calls: calls.append(len(x[0])))
        net(*inputs)
        assert calls == [rows]


@pair_heads
def test_gathered_images_give_the_same_outputs_and_gradients(head):
    plain = pair_net(head).eval()
    gathered = GatheredPairNet(Encoder(), head).eval()
    gathered.load_state_dict(plain.state_dict())
    anchors, images = randn(2, 5, 3, 32, 32)
    index = torch.tensor([[0, 1, 2], [1, 0, 4], [2, 2, 3], [3, 4, 0], [4, 1, 3]])
    one, two = plain(anchors, *(images[index[:, k]] for k in range(3))), gathered(anchors, images, index)
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    for out in (one, two):
        out.square().sum().backward()
    for (name, p), q in zip(plain.named_parameters(), gathered.parameters()):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4 * p.grad.abs().max().item() + 1e-6, msg=name)


def test_permutable_slots_are_not_asked_of_images_that_stand_elsewhere():
    """A row whose index is permuted permutes its outputs, and other rows do not move."""
    model = GatheredPairNet(Encoder(), "set").eval()
    anchors, images = randn(2, 4, 3, 32, 32)
    index = torch.tensor([[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1]])
    other = index.clone()
    other[1] = index[1, [2, 0, 1]]
    with torch.no_grad():
        one, two = model(anchors, images, index), model(anchors, images, other)
    torch.testing.assert_close(two[1], one[1, [2, 0, 1]], rtol=1e-4, atol=1e-5)
    assert torch.equal(two[[0, 2, 3]], one[[0, 2, 3]])


A, B = randn(4, 6, seed=1), randn(4, 3, 6, seed=2)


def test_what_heads_measure():
    torch.testing.assert_close(logits("dot-raw", A, B), torch.einsum("bf,bnf->bn", A, B))
    torch.testing.assert_close(logits("dot", A, B), torch.einsum("bf,bnf->bn", A, B) / math.sqrt(6))
    difference = A[:, None] - B
    torch.testing.assert_close(logits("l1-reduced", A, B), -difference.abs().mean(2))
    torch.testing.assert_close(logits("l2-reduced", A, B), -difference.square().mean(2).sqrt(), rtol=1e-4, atol=1e-4)
    cosine = torch.einsum("bf,bnf->bn", A, B) / (A.norm(dim=1)[:, None] * B.norm(dim=2))
    torch.testing.assert_close(logits("cosine", A, B), 10 * cosine)


@pytest.mark.parametrize("head", ["l1-reduced", "l2-reduced", "cosine"])
def test_scale_and_bias_are_learned_and_shared_by_all_slots(head):
    module = PAIR_HEADS[head](3)
    assert sum(p.numel() for p in module.parameters()) == 2
    before = module(A[:, None], B)
    with torch.no_grad():
        module.scale.mul_(2)
        module.bias.add_(1)
    torch.testing.assert_close(module(A[:, None], B), 2 * before + 1)


@pytest.mark.parametrize(
    ("head", "joined"),
    [
        ("product", lambda a, b: a * b),
        ("l1", lambda a, b: (a - b).abs()),
        ("l2", lambda a, b: (a - b) ** 2),
        ("concat", lambda a, b: torch.cat([a.expand_as(b), b], 2)),
        ("pooled", lambda a, b: torch.cat([(a - b).abs(), a * b], 2)),
    ],
)
def test_vector_heads_join_what_their_name_says(head, joined):
    module = PAIR_HEADS[head](3)
    seen = []
    module.norm.register_forward_pre_hook(lambda m, x: seen.append(x[0]))
    module(A[:, None], B)
    assert torch.equal(seen[0], joined(A[:, None], B))
    assert isinstance(module.pool, ConcatPool)


def test_wider_and_deeper_heads():
    module = PairNet(Encoder(), "product", hidden=32, layers=3).head
    assert [m.out_features for m in module.mlp if isinstance(m, nn.Linear)] == [32, 32, 32, 1]


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
def test_norms_of_vector_heads_treat_all_slots_alike(norm):
    """The notes' BN1d(n) gave each slot a scale of its own, so that permuted sources gave other outputs (F8)."""
    module = PAIR_HEADS["product"](3, norm=norm)
    out = module(A[:, None], B)
    torch.testing.assert_close(module(A[:, None], B[:, [2, 0, 1]]), out[:, [2, 0, 1]], rtol=1e-4, atol=1e-5)
    normed = module.norm(A[:, None] * B)
    if norm == "batch":
        torch.testing.assert_close(normed.mean((0, 1)), torch.zeros(6), atol=1e-5, rtol=0)
        torch.testing.assert_close(normed.var((0, 1), correction=0), torch.ones(6), atol=1e-2, rtol=0)
    elif norm == "layer":
        torch.testing.assert_close(normed.mean(2), torch.zeros(4, 3), atol=1e-5, rtol=0)
    else:
        assert torch.equal(normed, A[:, None] * B)


@pytest.mark.parametrize("head", METRIC_HEADS)
def test_embeddings_have_unit_length_and_scores_their_range(head):
    module = METRIC_HEADS[head](3, dimensions=16)
    a, b = module.embed(A[:, None]), module.embed(B)
    assert b.shape == (4, 3, 16)
    torch.testing.assert_close(b.norm(dim=2), torch.ones(4, 3))
    scores = module(A[:, None], B)
    right = {
        "embed-l2": -(a - b).norm(dim=2),
        "embed-cosine": torch.cosine_similarity(a, b, dim=2),
        "embed-dot": 10 * torch.cosine_similarity(a, b, dim=2),
    }[head]
    torch.testing.assert_close(scores, right, rtol=1e-4, atol=1e-4)
    same = module(A[:, None], A[:, None].expand(4, 3, 6))
    assert (same >= scores.max(1, keepdim=True).values - 1e-4).all(), "nothing is more alike than a copy"


def fixed_pairs(rows=24, n=3):
    """Maps of a row: one of n others is the anchor with a little noise; labels (rows, n)."""
    anchor, others = randn(rows, 1, 8, 4, 4, seed=5), randn(rows, n, 8, 4, 4, seed=6)
    right = torch.arange(rows) % n
    others[torch.arange(rows), right] = anchor[:, 0] + 0.3 * randn(rows, 8, 4, 4, seed=7)
    return anchor, others, nn.functional.one_hot(right, n).float()


@pytest.mark.parametrize(
    ("head", "loss"),
    [
        *((h, "bce") for h in HEADS if h not in ("dot", "dot-raw", "fastai")),
        ("dot", "soft-ce"),
        ("fastai", "bce"),
        ("embed-l2", "contrastive"),
        ("embed-l2", "triplet"),
        ("embed-dot", "n-pair"),
        ("embed-cosine", "nt-xent"),
    ],
)
def test_heads_learn_which_other_is_alike(head, loss):
    torch.manual_seed(0)
    module = PAIR_HEADS[head](8)
    lead = nn.Conv2d(8, 8, 1)  # in place of an encoder, for heads without parameters
    anchor, others, y = fixed_pairs()
    optimizer = torch.optim.Adam([*module.parameters(), *lead.parameters()], lr=0.01)

    def scores():
        maps = [lead(x.flatten(0, 1)) for x in (anchor, others)]
        a, b = (module.pool(m).unflatten(0, x.shape[:2]) for m, x in zip(maps, (anchor, others)))
        return module(a, b)

    for _ in range(200):
        optimizer.zero_grad()
        LOSSES[loss]()(scores(), y).backward()
        optimizer.step()
    module.eval()
    found = (scores().argmax(1) == y.argmax(1)).float().mean()
    assert found >= 0.9


@pytest.mark.slow
def test_a_head_that_sees_the_whole_row_knows_what_single_slots_cannot():
    """Whose first feature is the median of its row, on rows never trained on: no function of one slot says so."""
    b = randn(2048, 3, 6, seed=8)
    a = torch.zeros(2048, 1, 6)
    share = b.abs()[..., 0] / b.abs().sum(2)  # the norm of a head takes the scale away
    y = nn.functional.one_hot(share.argsort(1)[:, 1], 3).float()
    found = {}
    for head in ("set", "l1"):
        torch.manual_seed(0)
        module = PAIR_HEADS[head](3)
        if head == "l1":
            module.centred = False  # which would let it see the row's mean
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
        for step in range(150):
            optimizer.zero_grad()
            rows = slice(256 * (step % 6), 256 * (step % 6 + 1))
            LOSSES["soft-ce"]()(module(a[rows], b[rows]), y[rows]).backward()
            optimizer.step()
        found[head] = (module(a[1536:], b[1536:]).argmax(1) == y[1536:].argmax(1)).float().mean().item()
    assert found["set"] > 0.75
    assert found["l1"] < 0.6


# ---- one image in -------------------------------------------------------------------------------------------------


@single_heads
@pytest.mark.parametrize("size", [(32, 64), (64, 48)])
def test_outputs_have_the_shape_that_was_asked_for(head, size):
    assert single_net(head)(randn(5, 3, *size)).shape == (5, *SINGLES[head]["shape"])


@pytest.mark.parametrize("head", ["pooled", "fastai"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (4, 4)])
def test_any_shape_of_output(head, shape):
    assert SingleNet(Encoder(), head, shape)(randn(5, 3, 32, 32)).shape == (5, *shape)


@single_heads
@pytest.mark.parametrize("training", [True, False])
def test_rows_of_single_images_never_mix(head, training):
    if head == "fastai" and training:
        pytest.skip("its batch norm sees all rows in training")
    others, itself = leaks(single_net(head).train(training), [randn(6, 3, 32, 64)], row=2)
    assert others == []
    assert itself


@single_heads
def test_every_parameter_of_a_single_net_learns(head):
    model = single_net(head)
    out = model(randn(6, 3, 32, 64))
    out.backward(randn(*out.shape, seed=1))
    assert [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []
    still = [n for n, p in model.named_parameters() if p.grad.abs().max() == 0]
    assert [n for n in still if not n.endswith("bias")] == []


@single_heads
def test_single_nets_in_bfloat16_come_near_float32(head):
    model = single_net(head).eval()
    x = randn(8, 3, 32, 64)
    with torch.no_grad():
        right = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = model(x)
    assert (cast.float() - right).abs().max() < 0.05 * right.abs().max().clamp_min(1)


def test_the_head_of_fastai_is_that_of_fastai_and_takes_pooled_maps_too():
    """With its own pool left in, pooled maps raise "non-empty 3D or 4D tensor expected" (the notes' F12)."""
    module = SINGLE_HEADS["fastai"](96, (5,)).eval()
    whole = create_head(96, 5).eval()
    same = [type(m) for m in whole][2:]  # without pool and flatten
    assert [type(m) for m in module.layers] == same
    assert [tuple(p.shape) for p in module.parameters()] == [tuple(p.shape) for p in whole.parameters()]
    maps = randn(4, 96, 3, 3)
    assert torch.equal(module(maps), module(ConcatPool()(maps)))
    with pytest.raises(RuntimeError):
        whole(ConcatPool()(maps))


@pytest.mark.parametrize(("shape", "grid"), [((8, 5), None), ((8, 5), (2, 3)), ((8,), (2, 4)), ((), (2, 4))])
def test_a_grid_that_does_not_fit_its_outputs_is_refused(shape, grid):
    with pytest.raises(ValueError, match="head `cells` needs shape"):
        SingleNet(Encoder(), "cells", shape, grid)


def test_cells_are_in_raster_order_and_alone_without_attention():
    """With no attention a cell's outputs depend on its own part of the maps and on no other."""
    module = CellsHead(6, (8, 3), (2, 4), layers=0)
    maps = randn(2, 6, 4, 8).requires_grad_()
    for cell in range(8):
        (slope,) = torch.autograd.grad(module(maps)[0, cell].square().sum(), maps)
        row, column = divmod(cell, 4)
        touched = slope[0].abs().amax(0) > 0
        inside = torch.zeros(4, 8, dtype=torch.bool)
        inside[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = True
        assert torch.equal(touched, inside), cell


def test_equal_cells_are_told_apart_by_their_place():
    module = CellsHead(6, (8, 3), (2, 4)).eval()
    out = module(torch.ones(1, 6, 4, 8))[0]
    assert torch.cdist(out, out)[~torch.eye(8, dtype=torch.bool)].min() > 1e-4


@pytest.mark.slow
def test_cells_compare_themselves_with_the_others():
    """Is the cell like the first one? Maps carry one of two random vectors; without attention that cannot be known."""
    kinds = torch.randint(0, 2, (256, 8), generator=torch.Generator().manual_seed(3))
    maps = torch.where(kinds[:, None] > 0, 1.0, -1.0).reshape(256, 1, 2, 4) * randn(1, 6, 1, 1)
    y = (kinds == kinds[:, :1]).long()
    found = {}
    for layers in (0, 2):
        torch.manual_seed(0)
        module = CellsHead(6, (8, 2), (2, 4), hidden=32, layers=layers)
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
        for _ in range(120):
            optimizer.zero_grad()
            LOSSES["ce"]()(module(maps), y).backward()
            optimizer.step()
        found[layers] = (module(maps).argmax(-1) == y)[:, 1:].float().mean().item()
    assert found[2] > 0.95
    assert found[0] < 0.65


@pytest.mark.parametrize("size", [(4, 4), (15, 22), (16, 16), (30, 30), (64, 64), (33, 129), (1, 1)])
def test_decoders_draw_images_of_any_size(size):
    decoder = Decoder(10, (3, *size))
    image = decoder(randn(2, 10))
    assert image.shape == (2, 3, *size)
    assert image.flatten(1).std(1).min() > 0


@pytest.mark.slow
def test_a_decoder_learns_pixels():
    torch.manual_seed(0)
    model = SingleNet(Encoder(), "decoder", (3, 16, 16))
    x = randn(4, 3, 32, 32)
    y = nn.functional.avg_pool2d(randn(4, 3, 32, 32, seed=2), 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss = LOSSES["mse"](activation="none")
    for _ in range(150):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
    assert value.item() < 0.2 * y.var().item()


# ---- autoencoders and views ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Autoencoder, VariationalAutoencoder])
@pytest.mark.parametrize("arch", ["small", "notes"])
def test_autoencoders_give_images_back_over_any_encoder(kind, arch):
    model = kind(make_encoder(arch), (3, 48, 64), code=16)
    out = model(randn(2, 3, 48, 64))
    images, *rest = out if isinstance(out, tuple) else (out,)
    assert images.shape == (2, 3, 48, 64)
    assert [r.shape for r in rest] == ([(2, 16), (2, 16)] if kind is VariationalAutoencoder else [])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "loss"), [(Autoencoder, "mse"), (VariationalAutoencoder, "vae")])
def test_autoencoders_learn_a_fixed_batch(kind, loss):
    torch.manual_seed(0)
    x = nn.functional.interpolate(randn(8, 3, 4, 4), size=32, mode="bilinear")
    x = (x - x.mean()) / x.std()
    model = kind(Encoder(), (3, 32, 32), code=32)
    criterion = LOSSES[loss]() if loss == "vae" else LOSSES[loss](activation="none")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        criterion(model(x), x).backward()
        optimizer.step()
    with torch.no_grad():
        error = (criterion.activation(model.eval()(x)) - x).square().mean()
    assert error < 0.3


def test_a_variational_code_is_drawn_in_training_and_its_mean_in_evaluation():
    model = VariationalAutoencoder(Encoder(), (3, 32, 32), code=8)
    x = randn(3, 3, 32, 32)
    assert not torch.equal(model(x)[0], model(x)[0])
    torch.manual_seed(4)
    one = model(x)[0]
    torch.manual_seed(4)
    assert torch.equal(one, model(x)[0])
    model.eval()
    images, mean, _ = model(x)
    assert torch.equal(images, model(x)[0])
    assert torch.equal(images, model.decoder(mean))


def test_an_absurd_variance_stays_finite():
    model = VariationalAutoencoder(Encoder(), (3, 32, 32), code=8)
    with torch.no_grad():
        model.code[1].bias[8:] = 1e6
    x = randn(3, 3, 32, 32)
    loss = LOSSES["vae"]()(model(x), x)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("head", VIEW_HEADS)
def test_views_become_projections_row_by_row(head):
    torch.manual_seed(0)
    model = ViewNet(Encoder(), head, hidden=32, outputs=16)
    views = randn(2, 6, 3, 32, 32)
    out = model(*views)
    assert out.shape == (6, 2, 16)
    model.eval()
    one, two = model(*views), model(views[1], views[0])
    torch.testing.assert_close(two, one.flip(1), rtol=1e-4, atol=1e-5)
    assert leaks(model, views, 2) == ([], True)
    loss = LOSSES[head]()(copy.deepcopy(model).train()(*views))
    assert torch.isfinite(loss)
