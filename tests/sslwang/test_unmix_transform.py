"""UnmixTransform in anybody's DataBlock: trains, shows itself, draws rows that are true."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import IntToFloatTensor, RandomSplitter, get_image_files, parent_label
from fastai.vision.augment import Resize
from fastai.vision.core import imagenet_stats
from fastai.vision.data import ImageBlock, Normalize
from matplotlib import pyplot
from PIL import Image

import sslwang
from sslwang import UnmixLabels, UnmixRow, UnmixTransform, UnmixWeights, unmix_learner
from sslwang.data.gathered import Gathered
from sslwang.data.photos import photos
from sslwang.solvers import least_squares
from sslwang.tasks.unmix import exact_pair


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 small photographs in two folders, as files."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in "ab":
        (root / name).mkdir()
    for k in range(40):
        picture = photos()[k % 7]
        x, y = rng.integers(0, picture.width - 120), rng.integers(0, picture.height - 120)
        picture.crop((x, y, x + 120, y + 120)).resize((60, 60), Image.Resampling.BOX).save(
            root / "ab"[k % 2] / f"{k}.png"
        )
    return root


def loaders(folder, transform=None, blocks=ImageBlock, extra=(), bs=8, **kwargs):
    block = DataBlock(
        blocks=blocks,
        get_items=get_image_files,
        item_tfms=Resize(40),
        batch_tfms=[*extra, UnmixTransform() if transform is None else transform],
        **kwargs,
    )
    return block.dataloaders(folder, bs=bs, num_workers=0)


@pytest.fixture(autouse=True)
def no_window():
    pyplot.switch_backend("Agg")
    yield
    pyplot.close("all")


@pytest.mark.parametrize("target", ["classification", "regression"])
def test_a_data_block_over_a_folder_of_images_trains(folder, target):
    dls = loaders(folder, UnmixTransform(target=target))
    torch.manual_seed(0)
    learner = unmix_learner(dls)
    encoded, before = [], {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learner.model.encoder.register_forward_hook(lambda m, x, y: encoded.append(len(x[0])))
    with learner.no_logging():
        learner.fit(1)
    assert encoded == [16] * 5, "2 encodings a row, in training and in validation"
    values = dict(zip(learner.recorder.metric_names[1:], learner.recorder.values[-1]))
    assert set(values) >= {"train_loss", "valid_loss", "exact_pair" if target == "classification" else "r2"}
    assert all(np.isfinite(v) for v in values.values())
    still = {name for name, p in learner.model.named_parameters() if torch.equal(p, before[name])}
    last = list(before)[-1]  # the bias of all logits, which a softmax does not see: rounding alone moves it
    assert still <= ({last} if target == "regression" else set())


def test_it_learns(folder):
    """Raw pictures of one fixed batch: far better than the best constant, 0.6365."""
    torch.manual_seed(0)
    dls = loaders(folder, UnmixTransform(hardened=False))
    learner = unmix_learner(dls)
    row, target = dls.train.one_batch()
    learner.create_opt()
    for _ in range(60):
        loss = learner.loss_func(learner.model(row), target.as_subclass(torch.Tensor))
        loss.backward()
        learner.opt.step()
        learner.opt.zero_grad()
    assert loss.item() < 0.1


def test_batches_are_typed_and_have_the_shapes_that_are_stated(folder):
    row, target = loaders(folder).one_batch()
    assert isinstance(row, UnmixRow)
    assert isinstance(target, UnmixLabels)
    assert {x.shape for x in row} == {(8, 3, 32, 32)}
    assert len(row) == 4
    assert all(isinstance(x, Gathered) for x in row[1:])
    assert target.shape == (8, 3)
    assert (target.sum(1) == 2).all()
    row, target = loaders(folder, UnmixTransform(n=2, target="regression", hardened=False)).one_batch()
    assert isinstance(target, UnmixWeights)
    assert {x.shape for x in row} == {(8, 3, 40, 40)}
    torch.testing.assert_close(target.sum(1).as_subclass(torch.Tensor), torch.ones(8))


@pytest.mark.parametrize("normalised", [True, False])
def test_labels_are_right(folder, normalised):
    """Least squares on the pixels of the raw task, whether fastai normalises the images or not."""
    extra = [Normalize.from_stats(*imagenet_stats)] if normalised else []
    dls = loaders(folder, UnmixTransform(hardened=False), extra=extra, bs=32, splitter=RandomSplitter(0.1, seed=0))
    (mixture, *sources), target = dls.train.one_batch()
    assert exact_pair(least_squares(mixture, sources), target.as_subclass(torch.Tensor)) == 1
    dls = loaders(
        folder,
        UnmixTransform(target="regression", hardened=False),
        extra=extra,
        bs=32,
        splitter=RandomSplitter(0.1, seed=0),
    )
    (mixture, *sources), target = dls.train.one_batch()
    torch.testing.assert_close(least_squares(mixture, sources), target.as_subclass(torch.Tensor), atol=1e-3, rtol=0)


def test_hardened_images_are_standardised_and_moved(folder):
    """Sources are windows of images that mixtures hold the middle of: least squares finds little."""
    (mixture, *sources), target = loaders(folder, bs=32, splitter=RandomSplitter(0.1, seed=0)).train.one_batch()
    for x in (mixture, *sources):
        assert x.mean((-2, -1)).abs().max() < 1e-4
        assert ((x.std((-2, -1)) - 1).abs() < 0.02).float().mean() > 0.9, "all but flat ones"
    assert exact_pair(least_squares(mixture, sources), target.as_subclass(torch.Tensor)) < 0.8


def test_training_follows_the_seed_and_validation_never_changes(folder):
    def one(dls, seed):
        torch.manual_seed(seed)
        batch = dls.train.after_batch((images.clone(),))  # fastai divides by 255 in place
        return torch.cat([x.flatten() for x in (*batch[0], batch[1])])

    dls = loaders(folder)
    images = next(iter(dls.train.create_batches(list(range(8)))))[0]
    dls.train.before_iter()
    assert torch.equal(one(dls, 0), one(dls, 0))
    assert not torch.equal(one(dls, 0), one(dls, 1))
    for a, b in zip(dls.valid, dls.valid):
        assert torch.equal(a[1], b[1])
        assert all(map(torch.equal, a[0], b[0]))
    kinds = torch.cat([y for _, y in loaders(folder, bs=4).valid])
    assert len(kinds.unique(dim=0)) > 1, "validation batches do not repeat one drawing"


@pytest.mark.parametrize("count", [1, 2])
def test_a_last_batch_of_too_few_images_has_true_labels(count):
    images = torch.rand(count, 3, 40, 40)
    for seed in range(10):
        torch.manual_seed(seed)
        row, weights = UnmixTransform(target="regression", hardened=False)((images,))
        torch.manual_seed(seed)
        same, labels = UnmixTransform(hardened=False)((images,))
        assert all(map(torch.equal, row, same))
        weights, sources = weights.as_subclass(torch.Tensor), torch.stack(list(row[1:]), 1)
        torch.testing.assert_close(torch.einsum("bn,bnchw->bchw", weights, sources), row[0], atol=1e-5, rtol=0)
        assert ((weights > 0) == (labels.as_subclass(torch.Tensor) == 1)).all()
        alike = (sources[:, :, None] == sources[:, None]).all(-1).all(-1).all(-1)
        assert ((weights[:, :, None] - weights[:, None]).abs()[alike] < 1e-6).all()


def test_labels_of_the_data_set_are_left_out(folder):
    dls = loaders(folder, blocks=(ImageBlock, CategoryBlock), get_y=parent_label)
    row, target = dls.one_batch()
    assert isinstance(row, UnmixRow)
    assert isinstance(target, UnmixLabels)


@pytest.mark.parametrize("target", ["classification", "regression"])
def test_batches_and_results_are_shown(folder, target):
    dls = loaders(folder, UnmixTransform(target=target))
    dls.show_batch(max_n=3)
    captions = [axes.get_title() for axes in pyplot.gcf().axes]
    word = "mixed" if target == "classification" else "weight"
    assert len(captions) == 12
    assert captions[0] == "mixture"
    assert all(c.startswith(f"{word}: ") for c in captions[1:4])
    learner = unmix_learner(dls)
    with learner.no_logging():
        learner.show_results(max_n=2)
    captions = [axes.get_title() for axes in pyplot.gcf().axes]
    assert len(captions) == 8
    assert all("\nsaid " in c and c[0] in "✓✗" for k, c in enumerate(captions) if k % 4)
    said = [float(c.rsplit(" ", 1)[1]) for k, c in enumerate(captions) if k % 4]
    assert all(0 <= v <= 1 for v in said)


def test_a_row_shows_itself_on_one_axis(folder):
    row, _ = loaders(folder).one_batch()
    axes = UnmixRow(*(x[0] for x in row)).show(title="a row")
    assert axes.get_title() == "a row"
    (picture,) = axes.get_images()
    assert picture.get_array().shape == (32, 4 * 32 + 3, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 2}, "n=2: of fewer than 3 sources every label is 1"),
        ({"n": 1, "target": "regression"}, "n=1: of fewer than 3"),
        ({"target": "segmentation"}, "give classification or regression"),
        ({"alpha": 0}, "alpha and beta must be above 0"),
        ({"shift": -1}, "shift not below 0"),
    ],
)
def test_settings_that_make_no_task_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        UnmixTransform(**given)


@pytest.mark.parametrize("what", [torch.rand(8, 10), torch.rand(3, 3, 8, 8), "text"])
def test_what_is_no_batch_of_images_is_refused(what):
    with pytest.raises(ValueError, match=r"UnmixTransform got .* takes batches of images"):
        UnmixTransform()((what,))


def test_it_comes_after_what_fastai_does_to_images():
    assert UnmixTransform.order > max(IntToFloatTensor.order, Normalize.order)


def test_the_package_exports_it_without_importing_torch_at_once():
    assert sorted(sslwang.__all__) == sslwang.__all__
    assert all(getattr(sslwang, name) for name in sslwang.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        sslwang.nonsense  # noqa: B018
    code = "import sys, sslwang; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
