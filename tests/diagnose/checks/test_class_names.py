"""class-names: F10, class_to_idx that differs between splits, declared before or after the labels were made."""

import pytest
from data_subjects import Folders, colour_net, over, write_pictures
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import GrandparentSplitter, ToTensor, get_image_files, parent_label
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.vision.core import PILImage
from fastai.vision.data import ImageBlock
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY

from diagnose.errors import NotApplicable

ID = "class-names"
CHECK = check_of(ID)
NAMES = [
    *("classes by name", "class folders", "declared otherwise than labelled", "other index in validation"),
    *("unknown to training", "names unknown to training"),
]
ALL, HALF = ["ant", "bee", "cat", "dog"], ["bee", "dog"]


@pytest.fixture
def root(tmp_path):
    write_pictures(tmp_path / "train", ALL)
    write_pictures(tmp_path / "valid", HALF, start=1)
    return tmp_path


def pictures(root, mapping=None, after=None, **kwargs):
    train, valid = Folders(root / "train"), Folders(root / "valid", mapping)
    if after:
        valid.class_to_idx = after
    return over(train, valid, colour_net(4), bs=4, **kwargs)


@pytest.mark.parametrize("torchs", [False, True])
def test_f10_validation_numbers_its_own_folders(root, torchs):
    status, summary = judged(ID, pictures(root, torchs=torchs))
    assert status == "fail"
    assert "2 class names" in summary
    assert "bee: 1 in training, 0 in validation" in summary
    mapping = Folders(root / "train").class_to_idx
    status, summary = judged(ID, pictures(root, mapping, torchs=torchs))
    assert status == "pass"
    assert "4 class names of training and 4 of validation agree" in summary


def test_f10_mapping_set_after_the_labels_were_made(root):
    status, summary = judged(ID, pictures(root, after=Folders(root / "train").class_to_idx))
    assert status == "fail"
    assert "bee: 1 declared, 0 in its files" in summary


def test_name_unknown_to_training(root):
    write_pictures(root / "valid2", ["bee", "eel"], start=2)
    learn = over(Folders(root / "train"), Folders(root / "valid2", {"bee": 1, "eel": 3}), colour_net(4), bs=4)
    status, summary = judged(ID, learn)
    assert status == "fail"
    assert "1 of 2 classes of validation are unknown to training: eel" in summary


def test_all_names_unknown_as_in_metric_learning_warns(root):
    write_pictures(root / "valid3", ["eel", "fox"], start=2)
    learn = over(Folders(root / "train"), Folders(root / "valid3"), colour_net(4), bs=4)
    assert judged(ID, learn).status == "warn"


def test_fastai_numbers_both_splits_at_once(root):
    block = DataBlock(
        blocks=(ImageBlock(PILImage), CategoryBlock),
        get_items=get_image_files,
        get_y=parent_label,
        splitter=GrandparentSplitter(),
        item_tfms=ToTensor(),
    )
    dls = block.dataloaders(root, bs=4, num_workers=0)
    learn = Learner(dls, colour_net(4), loss_func=CrossEntropyLossFlat())
    status, summary = judged(ID, learn)
    assert status == "pass"
    assert "4 class names" in summary
    for id in ("items-finite", "items-vary", "items-repeatable", "label-histogram", "duplicates", "splits-alike"):
        assert judged(id, learn).status == "pass", id


def test_folder_that_is_no_class(root):
    for part in ("train", "valid"):
        for folder in list((root / part).iterdir()):
            for file in folder.iterdir():
                file.rename(root / part / file.name)
            folder.rmdir()

    class Flat(Folders):
        def __init__(self, root):
            self.samples = [(str(p), k % 4) for k, p in enumerate(sorted(root.iterdir()))]

    with pytest.raises(NotApplicable, match="no class names"):
        judged(ID, over(Flat(root / "train"), Flat(root / "valid"), colour_net(4), bs=4))


def test_no_names():
    with pytest.raises(NotApplicable, match="no class names"):
        judged(ID, HEALTHY["digits"]())


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(CHECK.judge(evidence))
