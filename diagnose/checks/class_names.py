"""A class has the same index in both splits, by name.

## What it does
Collects names and indices of each split, without reading an input: what the data set declares (`class_to_idx`,
`classes`, the vocabulary of fastai's `Categorize`), and, for files in folders, which label the files of each folder
really have. Folders whose files have several labels are no class folders and are left out.

## Why it matters
Each `ImageFolder` numbers its own folders. If validation has half of the classes, its class 3 is another one than
training's, and a good model scores below chance.

## How it is judged
Fails if a name has two indices, between splits or between what is declared and what the files have; and if some of the
names in validation are unknown to training. Warns if all are unknown: right for metric learning and for unseen classes,
wrong for a classifier. There is no threshold: one name is too many.

## What to do
Number the classes once and hand the mapping to both splits before the labels are made: setting `class_to_idx` after
`super().__init__()` leaves the labels as they were.

## Source
Real failure F10 of the notes: four runs "worse than chance", void for this reason; the first repair failed in the
second way.
"""

from contextlib import suppress
from typing import Any

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._numbers import number, texts
from diagnose.data import Split, as_number, class_index, indices_of, label_of, path_of, splits_of, spread_over
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

FILES = 1000  # of each split, whose folder and label are looked up
SHOWN = 20


class ClassNames(Check):
    """Compares names and indices of classes between splits."""

    stage = "inspection"
    order = 46
    cost = "up to 1000 labels and paths of each split"

    def measure(self, lab: Lab) -> EvidenceList:
        splits = splits_of(lab)
        declared = {s.name: _declared(s.dataset) for s in splits}
        folders = {s.name: _folders(s) for s in splits}
        known = {s.name: declared[s.name] | folders[s.name] for s in splits}
        if not any(known.values()):
            raise NotApplicable("the data sets tell no class names, and their items come from no class folders")
        found = EvidenceList()
        for s in splits:
            differ = _conflicts(declared[s.name], folders[s.name], "declared", "in its files")
            found += [
                Evidence(name="classes by name", value=len(known[s.name]), where=s.name),
                Evidence(name="class folders", value=len(folders[s.name]), where=s.name),
                Evidence(name="declared otherwise than labelled", value=differ, where=s.name, expected="none"),
            ]
        if len(splits) > 1 and all(known.values()):
            train, valid = known["training"], known["validation"]
            unknown = sorted(valid.keys() - train.keys())
            differ = _conflicts(train, valid, "in training", "in validation")
            found += [
                Evidence(name="other index in validation", value=differ, expected="none"),
                Evidence(name="unknown to training", value=unknown[:SHOWN], expected="none"),
                Evidence(name="names unknown to training", value=len(unknown), expected="0"),
            ]
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        counts = {e.where: number(EvidenceList([e]), e.name) for e in evidence.all("classes by name")}
        for where in counts:
            if differ := texts(evidence, "declared otherwise than labelled", where):
                return Judgement(
                    "fail",
                    f"{len(differ)} of {counts[where]:.0f} {where} classes are declared otherwise than labelled: "
                    f"{listed(differ)}",
                )
        if differ := texts(evidence, "other index in validation"):
            return Judgement("fail", f"{len(differ)} class names have another index in validation: {listed(differ)}")
        names, unknown = texts(evidence, "unknown to training"), number(evidence, "names unknown to training")
        valid = counts.get("validation", 0)
        if names:
            status = "warn" if unknown >= valid else "fail"
            return Judgement(
                status, f"{len(names)} of {valid:.0f} classes of validation are unknown to training: {listed(names)}"
            )
        if not any(n > 0 for n in counts.values()):
            return Judgement("skip", "not measured")
        if evidence.get("names unknown to training") is None:
            return Judgement("pass", "class names and labels agree in the one split that tells them")
        return Judgement(
            "pass",
            f"{counts.get('training', 0):.0f} class names of training and {valid:.0f} of validation agree with labels",
        )


def _conflicts(a: dict[str, int], b: dict[str, int], of_a: str, of_b: str) -> list[str]:
    return [f"{n}: {a[n]} {of_a}, {b[n]} {of_b}" for n in sorted(a.keys() & b.keys()) if a[n] != b[n]][:SHOWN]


def _declared(dataset: Any) -> dict[str, int]:
    "Names and indices as a data set declares them."
    while hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    with suppress(Exception):  # whatever a data set has under these names
        lists = getattr(dataset, "tls", None)
        if lists is not None:
            names = list(getattr(lists[-1], "vocab", [])) if len(lists) > getattr(dataset, "n_inp", 1) else []
        elif isinstance(given := getattr(dataset, "class_to_idx", None), dict):
            return {str(k): int(v) for k, v in given.items()}
        else:
            names = list(getattr(dataset, "classes", []))
        if all(isinstance(n, str) for n in names) and len(set(names)) == len(names):
            return {n: i for i, n in enumerate(names)}
    return {}


def _folders(split: Split) -> dict[str, int]:
    "Parent folders of files with the one label that all their files have; empty if any folder has several."
    found: dict[str, set[int]] = {}
    indices = indices_of(split)
    if indices is None or split.by_rows:
        return {}
    read = {i.index: i for i in split.items}
    for k in spread_over(len(indices), FILES):
        index = indices[k]
        path = path_of(split.dataset, index)
        if path is None:
            break
        label = as_number(label_of(split.dataset, index))
        if label is None and index in read:
            labels = [v for t in read[index].targets if (v := class_index(t)) is not None]
            label = labels[0] if len(labels) == 1 else None
        if label is not None and label == int(label):
            found.setdefault(path.parent.name, set()).add(int(label))
    if len(found) < 2 or any(len(labels) > 1 for labels in found.values()):
        return {}
    return {name: labels.pop() for name, labels in found.items()}
