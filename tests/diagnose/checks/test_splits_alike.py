"""splits-alike: one split normalised and the other not, or bytes against [0, 1]; augmentation and drift are healthy."""

import pytest
import torch
from data_subjects import Folders, colour_net, digit, over, write_pictures
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import Normalize, RandomSplitter, ToTensor, get_image_files, parent_label
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.vision.augment import aug_transforms
from fastai.vision.core import PILImage, imagenet_stats
from fastai.vision.data import ImageBlock
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY
from torch import nn

from diagnose.checks import Evidence, EvidenceList
from diagnose.errors import NotApplicable

ID = "splits-alike"
CHECK = check_of(ID)
NAMES = [
    *("channels or columns", "that differ", "places", "factor between standard deviations", "means apart"),
    *("mean in training", "mean in validation"),
]


def made(change, start=0):
    return lambda i: (change(digit(start + i)[0]), digit(start + i)[1])


def normalised(x):
    return (x - 0.45) / 0.225


def same(x):
    return x


@pytest.mark.parametrize("name", ["digits", "diabetes", "stop_gradient"])
def test_healthy(name):
    assert judged(ID, HEALTHY[name]()).status == "pass"


def test_random_augmentation_passes():
    def augmented(x):
        return x * (0.8 + 0.4 * torch.rand(1)) + 0.1 * torch.randn(x.shape)

    assert judged(ID, over(made(augmented), made(same, 1000))).status == "pass"


def test_one_column_that_drifts_is_said():
    def row(year):
        def read(i):
            g = torch.Generator().manual_seed(year * 1000 + i)
            return torch.cat([torch.randn(4, generator=g), torch.tensor([year + 0.1 * (i % 3)])]), torch.randn(
                1, generator=g
            )

        return read

    status, summary = judged(ID, over(row(1), row(9), nn.Linear(5, 1), nn.MSELoss()))
    assert status == "pass"
    assert "channel or column 4" in summary


def test_validation_sorted_by_class_passes():
    blobs = torch.tensor([[0.0, 0.0], [9.0, 9.0]])

    def read(i):
        y = i // 64
        return blobs[y] + 0.1 * torch.randn(2, generator=torch.Generator().manual_seed(i)), torch.tensor(y)

    assert judged(ID, over(read, read, nn.Linear(2, 2))).status == "pass"


@pytest.mark.parametrize("torchs", [False, True])
@pytest.mark.parametrize(("change", "number"), [(normalised, "4.4"), (lambda x: x * 255, "255")])
def test_f29_f25_one_split_prepared_otherwise(torchs, change, number):
    status, summary = judged(ID, over(made(change), made(same, 1000), torchs=torchs))
    assert status == "fail"
    assert "1 of 1 channels" in summary
    assert f"factor of {number}" in summary or "factor of 2" in summary or "factor of 4" in summary
    assert judged(ID, over(made(change), made(change, 1000), torchs=torchs)).status == "pass"


def heavy_tailed(factor=1.0, seed=0):
    def row(i):
        x = torch.randn(6, generator=torch.Generator().manual_seed(seed + i))
        return factor * x.sign() * x.abs() ** 3, torch.tensor(i % 2)

    return row


def test_heavy_tails_hide_no_factor():
    learn = over(heavy_tailed(), heavy_tailed(255, 5000), nn.Linear(6, 2))
    status, summary = judged(ID, learn)
    assert status == "fail", summary
    assert judged(ID, over(heavy_tailed(), heavy_tailed(seed=5000), nn.Linear(6, 2))).status == "pass"


def test_one_row_far_out_is_no_other_scale():
    plain = heavy_tailed()
    learn = over(plain, lambda i: plain(5000 + i) if i else (1e4 * plain(0)[0], plain(0)[1]), nn.Linear(6, 2))
    assert judged(ID, learn).status == "pass"


def test_fastai_normalises_both(tmp_path):
    write_pictures(tmp_path, ["cat", "dog"], each=24)
    block = DataBlock(
        blocks=(ImageBlock(PILImage), CategoryBlock),
        get_items=get_image_files,
        get_y=parent_label,
        splitter=RandomSplitter(seed=0),
        item_tfms=ToTensor(),
        batch_tfms=[*aug_transforms(size=16), Normalize.from_stats(*imagenet_stats, cuda=False)],
    )
    dls = block.dataloaders(tmp_path, bs=8, num_workers=0, device=torch.device("cpu"))
    learn = Learner(dls, colour_net(2), loss_func=CrossEntropyLossFlat())
    status, summary = judged(ID, learn)
    assert status == "pass", summary
    assert not isinstance(dls.train_ds, Folders)


def test_no_validation():
    learn = over(digit)
    learn.dls.loaders.pop()
    with pytest.raises(NotApplicable, match="no validation loader"):
        judged(ID, learn)


def test_numbers_alone():
    found = [("channels or columns", 3), ("that differ", float("nan"))]
    assert CHECK.judge(EvidenceList([Evidence(name=n, value=v) for n, v in found])).status == "skip"


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(CHECK.judge(evidence))
