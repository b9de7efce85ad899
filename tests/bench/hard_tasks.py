"""What tasks that a small encoder does not learn in minutes reach after long training, and what they reach at once.

    sslwang learn --task quadrant --steps 5000 --out FOLDER/quadrant.md   for each of the tasks, as long as it takes
    python -m tests.bench.hard_tasks measure FOLDER [TASK ...]            easiest version, fixed batch: TASK.json
    python -m tests.bench.hard_tasks try FOLDER [TASK ...]                single changes: TASK.tried.json
    python -m tests.bench.hard_tasks page FOLDER --out reports/hard-tasks.md

`page` says of each task what there is in FOLDER. What is not there is kept as the page has it, with the day and the
commit of its training, and what neither has was not measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from fastai.callback.schedule import Learner  # noqa: F401  patches fit_one_cycle in

from diagnose.registry import entries, load
from diagnose.task import Task
from sslwang.data import splits
from sslwang.data.boxes import Cutter
from sslwang.data.photos import SEEN, photos
from sslwang.learn import StepCounter, held_out_splits, train
from sslwang.pretext import Pretext
from tests.sslwang.tasks.test_easiest_versions import STEPS

ROWS, BATCHES = 16, 200  # of the fixed batch, and how often it is shown
MISSING = "not measured"
SURE = 3.0  # standard errors above chance that count as more than chance
STILL = 1e-3  # of the best constant's loss: so near, a loss is said to be that
LEARNED, EASIEST, FIXED = slice(4, 8), slice(8, 11), slice(11, 12)  # cells of a row, by what they were measured with
HEADER = (
    "| task | metric | chance | loss of a constant | region | photo | after 5,000 steps | trained "
    "| easiest version | region | photo | fixed batch |"
)
STUCK = ("quadrant", "odd-position", "odd-rotation", "split-direction", "transform-applied")
TRIED = 400  # steps of each change
TITLE = "## What was tried"


class Change(NamedTuple):
    """One thing that is done otherwise.

    Args:
        settings: of the task.
        flat: the rate stays what it is, instead of the one-cycle schedule.
        whole: `data.crops` is `whole` and not `parts`.
        easy: training goes on from the weights that the easiest version ends with.
    """

    settings: dict[str, Any] = {}
    flat: bool = False
    whole: bool = False
    easy: bool = False


CHANGES = {
    "as it is": Change(),
    "rate x 0.3": Change({"lr": 6e-4}),
    "rate x 0.1": Change({"lr": 2e-4}),
    "no one-cycle schedule": Change(flat=True),
    "SGD, rate 0.1": Change({"opt": "sgd", "lr": 0.1}),
    "batch norm": Change({"encoder": {"norm": "batch"}}),
    "head fastai": Change({"head": {"kind": "fastai"}}),
    "from the easiest version's weights": Change(easy=True),
    "raw": Change({"hardened": False}),
    "raw, rate x 0.1": Change({"hardened": False, "lr": 2e-4}),
    "strength 2": Change({"strength": 2.0}),
    "strength 4": Change({"strength": 4.0}),
    "strength 4, rate x 0.1": Change({"strength": 4.0, "lr": 2e-4}),
    "whole images": Change(whole=True),
    "whole images, rate x 0.3": Change({"lr": 6e-4}, whole=True),
    "whole images, rate x 0.1": Change({"lr": 2e-4}, whole=True),
}
PLACED = ("quadrant", "same-position", "odd-position")  # of which `most` tells what can be known


@dataclass(frozen=True)
class Learned:
    """One split of what `sslwang learn --out` wrote.

    Args:
        split: held out. loss, score: on it; the score is that of the task's own metric.
        seconds: of the training. command, circumstances: as they were written.
    """

    split: str
    loss: float
    score: float
    seconds: float
    command: str
    circumstances: str


def read(text: str) -> list[Learned]:
    """The last training in a file of `sslwang learn --out`, of one seed; [] if there is none.

    Raises:
        ValueError: a table that is not as that command writes it.
    """
    lines = text.splitlines()
    commands = [i for i, line in enumerate(lines) if line.startswith("    sslwang learn")]
    if not commands:
        return []
    part = lines[commands[-1] :]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part if line.startswith("|")]
    if not rows or rows[0][:3] != ["seed", "held out", "loss"] or rows[0][-1] != "seconds":
        raise ValueError(f"no table of `sslwang learn` after {part[0].strip()!r}")
    said = next((line.rsplit(". ", 1)[-1] for line in part if line.startswith("best constant")), "")
    return [
        Learned(row[1], float(row[2]), float(row[3]), float(row[-1]), part[0].strip(), said)
        for row in rows[2:]
        if row[0] == rows[2][0]
    ]


def task_of(name: str, **settings: Any) -> Pretext:
    """A task of the catalogue."""
    entry = next(e for e in entries("sslwang.tasks") if e.id == name)
    return load(entry, Task)().under(**settings)


def easiest(name: str) -> dict[str, Any]:
    """The easiest version of a task, trained for as many steps as its test does: CPU seconds, and score by split."""
    task = task_of(name, valid_items=480)
    version, easy = next(iter(task.easier().items()))
    began = time.process_time()
    result = train(easy, STEPS[name], seed=0)
    seconds = time.process_time() - began
    model = result.learner.model.eval()
    scores = {}
    for split, held_out in held_out_splits(easy).items():
        with torch.no_grad():
            reached = [held_out.score(model(x), y) for x, y in held_out.loaders(0).valid]
        scores[split] = sum(reached) / len(reached)
    return {"version": version, "steps": STEPS[name], "seconds": seconds, "chance": easy.chance, "scores": scores}


def fixed_batch(name: str) -> dict[str, Any]:
    """Loss of a task on one batch that it is shown again and again, at its own rate, and that of the best constant."""
    task = task_of(name, bs=ROWS, items=ROWS)
    learner = task.learner(0)
    batch = learner.dls.train.one_batch()
    inputs = learner.dls.train.dataset.inputs
    learner.create_opt()
    learner.model.train()
    for _ in range(BATCHES):
        loss = learner.loss_func(learner.model(*batch[:inputs]), *batch[inputs:])
        loss.backward()
        learner.opt.step()
        learner.opt.zero_grad()
    return {"rows": ROWS, "steps": BATCHES, "loss": loss.item(), "constant": task.best_constant()}


def measure(folder: Path, names: list[str], parts: list[str]) -> None:
    """Measure what is not there yet, and write it as it comes."""
    for name in names:
        path = folder / f"{name}.json"
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for part, run in (("batch", fixed_batch), ("easiest", easiest)):
            if part in parts and part not in found:
                found[part] = run(name)
                path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def verdict(task: Pretext, learned: list[Learned], rows: int) -> str:
    """What was reached, in words: of shares the standard error over `rows` is told from chance, of R2 only the sign."""
    constant = task.best_constant()
    if constant is not None and all(abs(x.loss - constant) < STILL * constant for x in learned):
        return "answers a constant"
    error = 0.0 if task.metric == "R2" else math.sqrt(task.chance * (1 - task.chance) / rows)
    above = [x.split for x in learned if x.score > task.chance + SURE * error]
    return f"more than chance on {' and '.join(above)}" if above else "chance"


class Cached(list):
    """Batches that were drawn once, pictures kept in half precision."""

    def __init__(self, batches: Any):
        super().__init__(tuple(t.half() if t.ndim == 4 else t for t in batch) for batch in batches)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        for batch in super().__iter__():
            yield tuple(t.float() if t.dtype == torch.float16 else t for t in batch)


def drawn(task: Pretext, steps: int) -> tuple[Cached, dict[str, Cached]]:
    """Batches to train on, and to judge by: of both held-out splits, and new rows of what it is trained on."""
    task = task.under(items=steps * task.settings.bs)
    judged = {name: Cached(other.loaders(0).valid) for name, other in held_out_splits(task).items()}
    rows = task.under(items=task.settings.valid_items).items(1, "train")
    bs = task.settings.bs
    again = [[rows.item(0, i) for i in range(k, k + bs)] for k in range(0, len(rows) - bs + 1, bs)]
    return Cached(task.loaders(0).train), {**judged, "train": Cached(map(rows.collate, again))}


def trained(
    task: Pretext, batches: Cached, judged: dict[str, Cached], flat: bool, weights: dict[str, torch.Tensor] | None
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Loss of the last tenth of the steps and score by split of a training, and the weights that it ends with."""
    learner = task.learner(0)
    learner.remove_cbs([cb for cb in learner.cbs if cb.name == "progress"])
    if weights is not None:
        learner.model.load_state_dict(weights)
    learner.dls.loaders = [batches, []]
    losses: list[float] = []
    with learner.no_logging(), learner.added_cbs(StepCounter(lambda step, loss: losses.append(loss))):
        (learner.fit if flat else learner.fit_one_cycle)(1)
    model = learner.model.eval()
    last = losses[-max(1, len(losses) // 10) :]
    found: dict[str, Any] = {"steps": len(losses), "loss": sum(last) / len(last)}
    for name, rows in judged.items():
        with torch.no_grad():
            reached = [task.score(model(x), y) for x, y in rows]
        found[name] = sum(reached) / len(reached)
    return found, model.state_dict()


def fitting(name: str) -> dict[str, Change]:
    """The changes that this task knows."""
    known = set(task_of(name).settings.model_dump())
    return {
        title: change
        for title, change in CHANGES.items()
        if set(change.settings) <= known and (name in PLACED or not change.whole)
    }


def try_changes(folder: Path, name: str, steps: int = TRIED) -> None:
    """Train a task under every change on the same draws, and write what is reached as it comes."""
    path = folder / f"{name}.tried.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    cached: dict[str, tuple[Cached, dict[str, Cached]]] = {}
    for title, change in fitting(name).items():
        if title in found:
            continue
        task = task_of(name, **change.settings, data={"crops": "whole" if change.whole else "parts"})
        key = json.dumps([change.whole, {k: v for k, v in change.settings.items() if k in ("hardened", "strength")}])
        if key not in cached:
            cached.clear()
            cached[key] = drawn(task, steps)
        weights = None
        if change.easy:
            easy = next(iter(task.easier().values()))
            batches, judged = drawn(easy, min(steps, STEPS[name]))
            weights = trained(easy, batches, judged, False, None)[1]
        found[title], _ = trained(task, *cached[key], change.flat, weights)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def most(rows: int = 4000, whole: bool = False, sides: bool = True) -> dict[str, float]:
    """The accuracy of an observer who sees of every box which photograph it is of, where in it and how large.

    What it cannot see is where the crop was that the box was cut from. Its prior is the truth: sides and corners of
    crops are drawn evenly.

    Args:
        rows: that are drawn of each task.
        whole: `data.crops` is `whole`.
        sides: it sees whether the crop was mirrored; else left and right stay unknown.
    """
    side, rng, cutter = splits.Side(photos(SEEN), splits.TRAIN_PART, whole), np.random.default_rng(0), Cutter(64, 2)
    offsets = np.arange(cutter.cell - cutter.side + 1)

    def along(place: int, low: int, high: int, crop: int) -> np.ndarray:
        "Of a box cut from one of two places along an axis: how likely it is of either."
        start, scale = rng.integers(low, high - crop + 1), crop / 64
        at = start + (place * cutter.cell + rng.choice(offsets)) * scale
        starts = at - (np.arange(2)[:, None] * cutter.cell + offsets) * scale
        fit = ((starts > low - 0.5) & (starts < high - crop + 0.5)).sum(1)
        return fit / fit.sum()

    def box(place: int, image: int) -> np.ndarray:
        "How likely a box is of each of four places."
        left, top, right, bottom = side.area(image)
        least, largest = side.lengths(min(right - left, bottom - top))
        crop = int(rng.integers(least, largest + 1))
        down, across = along(place // 2, top, bottom, crop), along(place % 2, left, right, crop)
        return np.outer(down, across if sides else [0.5, 0.5]).flatten()

    right: dict[str, list[float]] = {name: [] for name in PLACED}
    for _ in range(rows):
        images = rng.choice(len(SEEN), 4, replace=False)
        place, other = rng.choice(4, 2, replace=False)
        right["quadrant"].append(box(place, images[0]).max())
        together = np.prod([box(place, image) for image in images], 0)
        right["same-position"].append(together.max() / together.sum())
        each = [box(other if k == 0 else place, image) for k, image in enumerate(images)]
        odd = [
            sum(
                each[k][b] * math.prod(each[j][a] for j in range(4) if j != k)
                for a, b in itertools.permutations(range(4), 2)
            )
            for k in range(4)
        ]
        right["odd-position"].append(max(odd) / sum(odd))
    return {name: float(np.mean(shares)) for name, shares in right.items()}


def kept(page: str) -> tuple[dict[str, list[str]], dict[str, str], list[str], list[str]]:
    """Of a page: the cells of each task's row, each task's command, what it says of the machine, and all that follows.

    Raises:
        ValueError: a page of another shape.
    """
    lines = page.splitlines()
    if HEADER not in lines:
        raise ValueError(f"not a page of this program: it has no line {HEADER!r}")
    body = itertools.takewhile(lambda x: x.startswith("| "), lines[lines.index(HEADER) + 2 :])
    rows = {cells[0]: cells for cells in ([c.strip() for c in x.strip("|").split("|")] for x in body)}
    commands = {m[1]: x for x in lines if (m := re.match(r"    sslwang learn .*--task[ =](\S+)", x))}
    tried = lines[lines.index(TITLE) :] if TITLE in lines else []
    return rows, commands, [x for x in lines if x.startswith("torch ")], tried


def line(name: str, folder: Path, before: list[str] | None = None) -> str:
    """A task's row of the page; what is not in the folder is as it was before."""
    task = task_of(name)
    text, extra = folder / f"{name}.md", folder / f"{name}.json"
    learned = read(text.read_text(encoding="utf-8")) if text.exists() else []
    found = json.loads(extra.read_text(encoding="utf-8")) if extra.exists() else {}
    constant = task.best_constant()
    cells = [name, task.metric, f"{task.chance:.3f}", "-" if constant is None else f"{constant:.3f}"]
    cells += before[4:] if before else [MISSING] * 8
    if learned:
        scores = {x.split: x for x in learned}
        cells[LEARNED] = [f"{scores[s].score:.3f}" if s in scores else MISSING for s in ("region", "photo")] + [
            verdict(task, learned, task.settings.valid_items),
            ", ".join(learned[0].circumstances.split(", ")[:2]),
        ]
    easy, batch = found.get("easiest"), found.get("batch")
    if easy:
        reached = [f"{easy['scores'].get(s, math.nan):.3f}" for s in ("region", "photo")]
        cells[EASIEST] = [f"{easy['version']}, {easy['steps']} steps, {easy['seconds']:.0f} s", *reached]
    if batch:
        cells[FIXED] = [f"{batch['loss']:.0e} ({batch['constant']:.3f})"]
    return f"| {' | '.join(cells)} |"


def tried(folder: Path) -> list[str]:
    """The part of the page that says what single changes do; [] where none was tried."""
    found = {name: json.loads(path.read_text(encoding="utf-8")) for name in STUCK if
             (path := folder / f"{name}.tried.json").exists()}  # fmt: skip
    if not found:
        return []
    names = list(found)
    lines = [
        TITLE,
        "",
        f"Each change by itself, {TRIED} steps on the same draws, one seed: loss of the last tenth of the steps, then",
        "accuracy on new rows of the parts that it is trained on, on `region` and on `photo`, 960 rows each. Crops",
        "are small (`data.crops=parts`) but where whole images are named, which are the default of quadrant.",
        "",
        f"| change | {' | '.join(names)} |",
        "|--|" + "--|" * len(names),
        "| chance | "
        + " | ".join(f"{(t := task_of(n)).best_constant():.3f}: {t.chance:.3f}" for n in names)
        + " |",
    ]  # fmt: skip
    for title in CHANGES:
        row = [found[n].get(title) for n in names]
        if any(row):
            told = [f"{x['loss']:.3f}: {x['train']:.3f}, {x['region']:.3f}, {x['photo']:.3f}" if x else "" for x in row]
            lines.append(f"| {title} | {' | '.join(told)} |")
    lines += [
        "",
        "More than chance on `photo`; of a raw task that may be a shortcut, which the page of the task names:",
        "",
    ]
    for name in names:
        task = task_of(name)
        error = math.sqrt(task.chance * (1 - task.chance) / task.settings.valid_items)
        better = [t for t in CHANGES if t in found[name] and found[name][t]["photo"] > task.chance + SURE * error]
        lines.append(f"* {name}: {'; '.join(better) or 'none'} (of {len(found[name])} tried)")
    bounds = {
        f"{crops}{told}": most(whole=whole, sides=sides)
        for crops, whole in (("crops of 64 to 220 px", False), ("whole images", True))
        for told, sides in (("", True), (", left and right unknown", False))
    }
    lines += [
        "",
        "The most that can be known: accuracy of an observer who recognises of every box the photograph, the place in",
        "it and the size, 4,000 rows. A box of a small crop from anywhere tells next to nothing of the crop.",
        "",
        f"| | {' | '.join(PLACED)} |",
        "|--|" + "--|" * len(PLACED),
        *(f"| {title} | {' | '.join(f'{b[n]:.3f}' for n in PLACED)} |" for title, b in bounds.items()),
    ]
    return lines


def page(folder: Path, before: str = "") -> str:
    """The page, as Markdown; what is not in the folder is as it was before."""
    names = sorted(STEPS)
    rows, commands, machines, others = kept(before) if before else ({}, {}, [], [])
    runs = {name: read((folder / f"{name}.md").read_text(encoding="utf-8")) for name in names if
            (folder / f"{name}.md").exists()}  # fmt: skip
    commands |= {
        name: "    " + re.sub(r"--out[ =]\S*/", "--out FOLDER/", run[0].command) for name, run in runs.items() if run
    }
    said = sorted(
        {"torch " + x.circumstances.partition("torch ")[2] for run in runs.values() for x in run}.union(machines)
    )
    lines = [
        "# Tasks of one picture that a small encoder does not learn in minutes, trained for 5,000 steps",
        "",
        "`python -m tests.bench.hard_tasks`; each score is that of the task's own metric on 960 rows, of one seed.",
        "`region`: the right quarter of the photographs whose left 70 % trains; `photo`: photographs that nothing is",
        f"trained on. More than chance: {SURE:.0f} standard errors of a share of 960 rows. Answers a constant: its",
        f"loss is within {STILL:.1%} of the best constant's. Trained: day, and commit of the code. Easiest version:",
        f"score on 480 rows after what its test takes, and its CPU seconds. Fixed batch: loss on {ROWS} rows after",
        f"{BATCHES} steps on them alone, and that of the best constant.",
        "",
        *said,
        "",
        HEADER,
        "|" + "--|" * 12,
        *(line(name, folder, rows.get(name)) for name in names),
        "",
        "## Commands",
        "",
        *(commands[name] for name in names if name in commands),
    ]  # fmt: skip
    last = tried(folder) or others
    return "\n".join([*lines, "", *last] if last else lines) + "\n"


def main() -> None:
    """Measure, or print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "try", "page"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="all of them if none is named")
    parser.add_argument("--only", choices=("batch", "easiest"), help="measure this alone")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if unknown := set(given.tasks) - set(STEPS):
        parser.error(f"no such task: {', '.join(sorted(unknown))}; known: {', '.join(sorted(STEPS))}")
    if given.what == "measure":
        measure(given.folder, given.tasks or sorted(STEPS), [given.only] if given.only else ["batch", "easiest"])
    elif given.what == "try":
        for name in given.tasks or STUCK:
            try_changes(given.folder, name)
    elif given.out:
        before = given.out.read_text(encoding="utf-8") if given.out.exists() else ""
        given.out.write_text(page(given.folder, before), encoding="utf-8")
    else:
        print(page(given.folder), end="")


if __name__ == "__main__":
    main()
