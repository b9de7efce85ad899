import pytest
import torch
from torch.nn import functional as F

from diagnose.examination import examine
from diagnose.subject import from_task
from sslwang.tasks.autoencode import Autoencode, explained

SMALL = {"bs": 16, "items": 32, "valid_items": 16, "size": 16}


def test_the_picture_is_its_own_target():
    picture, target = Autoencode().under(**SMALL).loaders(0).train.one_batch()
    assert torch.equal(picture, target)
    assert picture.data_ptr() != target.data_ptr()
    assert picture.flatten(2).std(2, correction=0).mean() == pytest.approx(1, abs=0.02)


def test_a_picture_of_little_detail_is_told_by_few_numbers():
    pictures = torch.cat([b[0] for b in Autoencode().under(detail=4, **{**SMALL, "items": 256}).loaders(0).train])
    channel = pictures[:, 0].flatten(1)
    share = torch.linalg.svdvals(channel - channel.mean(0)).square()
    assert share[16:].sum() < 1e-6 * share.sum()  # 16 patches, 16 numbers
    assert F.adaptive_avg_pool2d(pictures, 4).std() > 0.5


def test_explained_is_one_for_the_truth_and_zero_for_the_mean():
    target = Autoencode().under(**SMALL).loaders(0).train.one_batch()[1]
    assert explained(target, target) == 1
    assert explained(target.mean((0, 2, 3), keepdim=True).expand_as(target), target) == pytest.approx(0, abs=1e-5)
    assert explained((target, None, None), target) == 1


@pytest.mark.parametrize("kind", ["plain", "variational"])
def test_either_kind_trains_and_shows_its_pictures(kind):
    task = Autoencode().under(kind=kind, code=8, **SMALL)
    learner = task.learner(0)
    with learner.no_bar(), learner.no_logging():
        learner.fit(3)
    first, last = learner.recorder.values[0], learner.recorder.values[-1]
    assert last[0] < first[0]
    assert last[-1] > first[-1]  # R2 of the validation pictures, as the metric has it
    batch = learner.dls.valid.one_batch()
    with torch.no_grad():
        outputs = learner.model.eval()(batch[0])
    rows = learner.dls.valid.dataset.shown(batch, outputs)
    assert [len(r.images) for r in rows] == [2] * 16
    assert rows[0].captions[1].startswith("given back: R2")
    assert all(r.right[1] in (True, False) for r in rows)


def test_the_variational_constant_is_half_the_variance():
    task = Autoencode().under(kind="variational", **SMALL)
    target = task.loaders(0).train.one_batch()[1]
    code = torch.zeros(16, 8)
    assert task.loss()((torch.zeros_like(target), code, code), target).item() == pytest.approx(
        task.best_constant(), 0.02
    )
    assert Autoencode().under(hardened=False).best_constant() is None
    assert Autoencode().under(loss={"kind": "l1"}).best_constant() is None


@pytest.mark.slow
def test_its_easier_versions_are_scored_although_the_network_has_three_outputs():
    settings = {"kind": "variational", "bs": "16", "items": "64", "valid_items": "32", "size": "16"}
    found = examine(from_task("autoencode", settings, device="cpu"), 0, 120, ["easier-versions"])
    check = next(c for c in found.checks if c.id == "easier-versions")
    assert [e.where for e in check.evidence if e.name == "R2"] == ["detail=4", "detail=16"]
