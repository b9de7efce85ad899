"""data: one reading of both splits, for every kind of data set; what all checks of the data promise together."""

import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from data_subjects import Read, digit, over
from fastai.data.core import DataLoaders, Datasets
from fastai.data.transforms import RandomSplitter
from fastai.learner import Learner
from fastai.tabular.core import Categorify, FillMissing, Normalize, TabularPandas
from fastai.tabular.learner import tabular_learner
from fastai.text.data import SortedDL, TensorText, pad_input
from fastai.torch_core import TensorCategory
from judging import check_of
from learners import HEALTHY, small_cnn
from odd_subjects import graph_batches, list_of_batches, segmentation, tied_weights, torch_loaders, two_workers
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import IterableDataset, SubsetRandomSampler

from diagnose import data
from diagnose.checks import Evidence, EvidenceList
from diagnose.data import batches_of, digest, file_of, mixed_batches_of, read_again, splits_of, spread_over
from diagnose.errors import NotApplicable
from diagnose.isolate import seed_everything
from diagnose.lab import Lab
from diagnose.subject import from_learner

INSPECTIONS = [
    *("batches-dropped", "items-finite", "item-memory", "items-repeatable", "items-vary", "label-histogram"),
    *("class-names", "duplicates", "splits-alike", "shuffling", "worker-draws", "positives-equal"),
]
CHECKS = {id: check_of(id) for id in [*INSPECTIONS, "input-scale", "label-range"]}
NUMBERS = {
    "batches-dropped": ["items", "batch size", "items dropped"],
    "items-finite": ["items read", "items with a missing label"],
    "item-memory": ["items with tensors", "items with a stride of 0"],
    "items-repeatable": ["items read twice", "inputs that change"],
    "items-vary": ["items read", "distinct items", "blank items", "variance between items / inside items"],
    "label-histogram": ["labels read", "distinct labels", "items in all", "share of the commonest"],
    "class-names": ["classes by name", "names unknown to training"],
    "duplicates": ["items compared", "share of validation in training", "share possible by chance"],
    "splits-alike": ["channels or columns", "that differ", "factor between standard deviations", "means apart"],
    "shuffling": ["batches of one label", "the same by chance", "neighbours alike"],
    "worker-draws": ["workers", "draws", "the same in both workers"],
    "positives-equal": ["items read", "positives compared", "equal to their clean version"],
    "input-scale": ["largest mean", "largest standard deviation"],
    "label-range": ["outputs", "items read", "least label", "largest label"],
}


def statuses(learn, ids=CHECKS):
    "What each check says; None where it does not apply."
    lab, said = Lab(from_learner(learn), 0), {}
    for id in ids:
        try:
            said[id] = CHECKS[id].judge(CHECKS[id].measure(lab))
        except NotApplicable:
            said[id] = None
    return said


def not_passed(learn, ids=CHECKS):
    return {id: j.summary for id, j in statuses(learn, ids).items() if j is not None and j.status in ("warn", "fail")}


class Stream(IterableDataset):
    def __iter__(self):
        return (digit(i) for i in range(64))


def tables():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a": rng.normal(50, 9, 200), "b": rng.choice(["x", "y", "z"], 200), "y": rng.choice(["no", "yes"], 200)}
    )
    frame.loc[::9, "a"] = np.nan
    to = TabularPandas(
        frame,
        procs=[Categorify, FillMissing(add_col=False), Normalize],
        cat_names=["b"],
        cont_names=["a"],
        y_names="y",
        splits=RandomSplitter(seed=0)(range(200)),
    )
    return tabular_learner(to.dataloaders(bs=16, device="cpu"), layers=[8])


def texts():
    rng = np.random.default_rng(0)
    rows = [(torch.from_numpy(rng.integers(1, 40, rng.integers(5, 30))), int(rng.integers(2))) for _ in range(96)]
    tfms = [lambda i: TensorText(rows[i][0]), lambda i: TensorCategory(rows[i][1])]
    sets = [Datasets(part, tfms) for part in (list(range(24, 96)), list(range(24)))]
    loaders = [SortedDL(s, bs=8, shuffle=not k, before_batch=pad_input, device="cpu") for k, s in enumerate(sets)]

    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.EmbeddingBag(200, 8), nn.Linear(8, 2)

        def forward(self, ids):
            return self.head(self.embedding(ids))

    return Learner(DataLoaders(*loaders), Bag(), loss_func=nn.CrossEntropyLoss())


def torch_over(loader):
    learn = over(digit)
    learn.dls = DataLoaders(loader, loader)
    return learn


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # fastai on the frames of pandas 3
def test_table_of_fastai():
    learn = tables()
    lab = Lab(from_learner(learn), 0)
    first = splits_of(lab)[0].items[0]
    assert [p.shape for p in first.inputs] == [(1,), (1,)]
    assert len(first.targets) == 1
    assert not not_passed(learn)


def test_texts_of_fastai():
    assert not not_passed(texts())


@pytest.mark.parametrize(
    "make", [torch_loaders, list_of_batches, segmentation, tied_weights, two_workers, graph_batches]
)
def test_odd_subjects_are_not_accused(make):
    assert not not_passed(make())


def test_iterable_data_set_is_read_by_batches():
    learn = torch_over(TorchLoader(Stream(), 16))
    lab = Lab(from_learner(learn), 0)
    assert all(s.by_rows and len(s.items) == 64 for s in splits_of(lab))
    assert not not_passed(learn)


def test_only_items_that_the_sampler_may_choose_are_read():
    def read(i):
        if i >= 64:
            raise ValueError("left out on purpose")
        return digit(i)

    learn = torch_over(TorchLoader(Read(128, read), 16, sampler=SubsetRandomSampler(list(range(64)))))
    assert not splits_of(Lab(from_learner(learn), 0))[0].unreadable


def test_keys_in_place_of_indices_are_no_unreadable_items():
    class ByName:
        def __getitem__(self, name):
            return digit(int(name[1:]))

        def __len__(self):
            return 64

    names = [f"n{i}" for i in range(64)]
    learn = torch_over(TorchLoader(ByName(), 16, sampler=names))
    split = splits_of(Lab(from_learner(learn), 0))[0]
    assert split.by_rows
    assert not split.unreadable
    assert not not_passed(learn)


def test_spread_over_reaches_everything_once():
    assert sorted(spread_over(50, 192)) == list(range(50))
    some = spread_over(10_000, 192)
    assert len(set(some)) == 192
    assert np.histogram(some, 8, (0, 10_000))[0].min() >= 20
    assert 60 < sum(i % 2 for i in some) < 130
    assert spread_over(0, 192) == []


@pytest.mark.parametrize("period", [2, 3, 7, 10, 16, 100])
def test_spread_over_meets_no_period(period):
    for count in (1000, 1437, 1440, 5000):
        met = np.bincount(np.array(spread_over(count, 192)) % period, minlength=period)
        assert abs(met[0] - 192 / period) < 5 * (192 / period) ** 0.5


def test_second_reading_of_a_lab_is_the_first():
    lab = Lab(from_learner(HEALTHY["digits"]()), 0)
    assert splits_of(lab) is splits_of(lab)
    assert batches_of(lab, splits_of(lab)[0]) is batches_of(lab, splits_of(lab)[0])


def test_same_seed_same_evidence():
    def evidence():
        lab = Lab(from_learner(over(lambda i: (digit(i)[0] + torch.randn(1, 8, 8), digit(i)[1]))), 3)
        return [CHECKS[id].measure(lab) for id in ("items-finite", "items-vary", "splits-alike", "shuffling")]

    assert evidence() == evidence()


def test_items_drawn_from_global_streams_differ_between_splits():
    def read(i):
        return torch.rand(1, 8, 8), torch.tensor(i % 10)

    assert not not_passed(over(read, read))


@pytest.mark.parametrize("torchs", [False, True])
def test_nothing_is_changed(torchs):
    learn = over(digit, torchs=torchs)
    seed_everything(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), vars(learn.dls.train).copy()  # noqa: NPY002
    rng = learn.dls.train.rng.getstate() if not torchs else None
    lab = Lab(from_learner(learn), 0)
    for split in splits_of(lab):
        batches_of(lab, split)
        mixed_batches_of(lab, split)
        read_again(lab, split)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert vars(learn.dls.train) == before[2]
    assert torchs or learn.dls.train.rng.getstate() == rng


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "text", [math.nan]])
@pytest.mark.parametrize("id", CHECKS)
def test_numbers_that_are_none_never_pass(id, value):
    for where in ("", "training", "numpy"):
        found = EvidenceList([Evidence(name=n, value=value, where=where) for n in NUMBERS[id]])
        status = CHECKS[id].judge(found).status
        assert status != "pass" or value == math.inf


def test_a_model_without_data_of_its_own_kind():
    learn = Learner(DataLoaders([torch.rand(8, 1, 8, 8)] * 3, [torch.rand(8, 1, 8, 8)]), small_cnn(), nn.MSELoss())
    assert not not_passed(learn, INSPECTIONS)


@pytest.mark.parametrize(
    "t",
    [
        *(torch.arange(8).reshape(4, 2)[1, :1], torch.tensor(3.0), torch.rand(2, 3, dtype=torch.complex64)),
        *(torch.rand(3).bfloat16(), torch.eye(3).to_sparse(), torch.zeros(0), torch.ones(3, dtype=torch.bool)),
        torch.ones(1).expand(3),
    ],
)
def test_digest_of_any_tensor(t):
    assert digest(t) == digest(t.clone())
    assert digest(t) != digest(torch.full((7,), 9.0))


def test_slow_items_are_few_and_that_is_told(monkeypatch):
    monkeypatch.setattr(data, "SECONDS", 0.5)

    def slow(i):
        time.sleep(0.3)
        return digit(i)

    lab = Lab(from_learner(over(slow, count=64)), 0)
    assert 2 <= len(splits_of(lab)[0].items) <= 3
    check = CHECKS["items-finite"]
    evidence = check.measure(lab)
    assert [(e.value, e.where) for e in evidence.all("reading broken off after")] == [(0.5, "training")]
    assert "reading was broken off after 0.5 s" in check.judge(evidence).summary


def test_the_number_of_items_read_does_not_depend_on_their_speed():
    "As the same seed gives the same report on a busy machine."

    def slow(i):
        time.sleep(0.005)
        return digit(i)

    for read in (digit, slow):
        lab = Lab(from_learner(over(read, count=256)), 0)
        assert [len(s.items) for s in splits_of(lab)] == [192, 192]
        assert [s.stopped for s in splits_of(lab)] == [None, None]
        assert len(batches_of(lab, splits_of(lab)[0])) == 4
        assert sum(len(x[0]) for x, _ in mixed_batches_of(lab, splits_of(lab)[0])) == 64


def test_mixup_while_collating_is_healthy():
    "As torchvision recommends it: pictures and one-hot labels of a batch are mixed by the collate function."

    def mixed(items):
        x, y = torch.stack([i[0] for i in items]), torch.stack([i[1] for i in items])
        weight, y = float(torch.rand(1)), F.one_hot(y, 10).float()
        return x.lerp(x.roll(1, 0), weight), y.lerp(y.roll(1, 0), weight)

    assert not not_passed(over(digit, torchs=True, loss=nn.CrossEntropyLoss(), collate_fn=mixed))


def test_only_names_of_files_are_files():
    class Held:
        items = ["he said: yes. And went/on", Path("a/b.png"), "c/d.jpeg", 5]

    assert [file_of(Held(), i) for i in range(4)] == ["", "a/b.png", "c/d.jpeg", ""]
