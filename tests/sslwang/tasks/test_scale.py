import pytest
import torch
from pydantic import ValidationError

from sslwang.data.pictures import rows_figure, viewable
from sslwang.data.pixels import MEAN, STD
from sslwang.tasks.scale import Scale, weights_explained, weights_of

SMALL = {"bs": 64, "items": 64, "valid_items": 8, "size": 16}


def batch_of(**given):
    return Scale().under(**{**SMALL, **given}).loaders(0).train.one_batch()


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_copies_are_the_image_times_their_weights(n):
    image, *copies, weights = batch_of(target="regression", n=n)
    for k, copy in enumerate(copies):
        wanted = weights[:, k, None, None, None] * (image * STD + MEAN)
        torch.testing.assert_close(copy * STD + MEAN, wanted, atol=1e-5, rtol=0)
    if n == 1:
        assert 0.1 < weights.std() < 0.2
    else:
        torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))
        assert ((weights > 0).sum(1) == 2).all()


def test_labels_say_which_copies_are_not_black():
    *images, labels = batch_of()
    black = torch.stack([(x * STD + MEAN).abs().amax((1, 2, 3)) < 1e-5 for x in images[1:]], 1)
    assert torch.equal(labels > 0.5, ~black)


def test_equal_weights_are_one_half():
    assert set(batch_of(target="regression", ratio="equal")[-1].unique().tolist()) == {0.0, 0.5}


@pytest.mark.parametrize("given", [{"n": 1}, {"n": 2}, {"n": 1, "target": "regression", "ratio": "equal"}])
def test_settings_that_ask_for_nothing_are_refused(given):
    with pytest.raises(ValidationError, match=r"label is 1|asks for nothing"):
        Scale().under(**given)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_ratio_of_brightness_gives_the_weights(n):
    task = Scale().under(target="regression", n=n, size=16)
    assert task.oracle(64) > 0.99
    assert task.easier() == {} if n == 1 else list(task.easier()) == ["ratio=equal"]


def test_one_weight_alone_is_explained_against_its_mean():
    target = torch.tensor([[0.2], [0.4], [0.6]])
    assert weights_explained(target.logit(), target) == pytest.approx(1)
    assert weights_explained(torch.full((3, 1), 0.4).logit(), target) == pytest.approx(0, abs=1e-5)
    assert weights_of(torch.zeros(2, 4)).unique().tolist() == [0.25]


def test_copies_are_drawn_as_bright_as_they_are_beside_each_other():
    loader = Scale().under(**{**SMALL, "bs": 2, "items": 2}).loaders(0).train
    row = loader.dataset.shown(loader.one_batch())[0]
    drawn = [axes.images[0].get_array() for axes in rows_figure([row]).axes]
    bright = [float((x * STD + MEAN).mean()) for x in row.images]
    for picture, mean in zip(drawn, bright):
        assert picture.mean() / drawn[0].mean() == pytest.approx(mean / bright[0], abs=0.05)
    brighter = max(row.images[1:], key=lambda x: float(x.mean()))
    assert viewable(brighter).max() == 1  # alone it would be as bright as the image
