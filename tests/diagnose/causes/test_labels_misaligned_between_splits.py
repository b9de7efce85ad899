"""One class name with two indices: named and proven; missing and unknown classes are left alone."""

import pytest
from data_subjects import Folders, colour_net, over, write_pictures
from learners import digits
from naming import examined, findings_of, is_named, stands_any_evidence, with_fault

ID = "labels-misaligned-between-splits"


def pictures(folder, train, valid, **kwargs):
    write_pictures(folder / "train", train, each=16)
    write_pictures(folder / "valid", valid, each=16, start=1)
    data = Folders(folder / "train"), Folders(folder / "valid", **kwargs)
    return over(*data, model=colour_net(len(train)), bs=8)


@pytest.mark.parametrize("seed", [0, 1])
def test_validation_that_numbers_its_own_classes_is_named(seed):
    assert "class 1" in is_named(with_fault("validation-renumbered", digits, seed), ID).summary


def test_folders_that_number_themselves_are_named(tmp_path):
    diagnosis = examined(pictures(tmp_path, ["ape", "bee", "cat", "dog"], ["bee", "dog"]))
    assert "bee: 1 in training, 0 in validation" in is_named(diagnosis, ID).summary


def test_validation_without_some_classes_is_left_alone(tmp_path):
    names = ["ape", "bee", "cat", "dog"]
    learn = pictures(tmp_path, names, ["bee", "dog"], class_to_idx={n: i for i, n in enumerate(names)})
    diagnosis = examined(learn)
    assert diagnosis.verdict != "fail", diagnosis.summary
    assert ID not in [c.id for c in diagnosis.causes]


def test_validation_on_classes_never_seen_is_left_alone(tmp_path):
    diagnosis = examined(pictures(tmp_path, ["ape", "bee"], ["cow", "elk"]))
    assert diagnosis.verdict != "fail", diagnosis.summary
    assert ID not in [c.id for c in diagnosis.causes]


def test_names_alone():
    stands_any_evidence(ID, findings_of(with_fault("validation-renumbered", digits)), numbers=False)
