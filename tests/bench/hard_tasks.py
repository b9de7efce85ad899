"""What tasks that a small encoder does not learn in minutes reach after long training, and what they reach at once.

    sslwang learn --task quadrant --steps 5000 --out FOLDER/quadrant.md   for each of the tasks, as long as it takes
    python -m tests.bench.hard_tasks measure FOLDER [TASK ...]            easiest version, fixed batch: TASK.json
    python -m tests.bench.hard_tasks page FOLDER --out reports/hard-tasks.md

`page` says of each task what there is in FOLDER, and of the rest that it was not measured.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diagnose.registry import entries, load
from diagnose.task import Task
from sslwang.learn import held_out_splits, train
from sslwang.pretext import Pretext
from tests.sslwang.tasks.test_easiest_versions import STEPS

ROWS, BATCHES = 16, 200  # of the fixed batch, and how often it is shown
MISSING = "not measured"
SURE = 3.0  # standard errors above chance that count as more than chance
STILL = 1e-3  # of the best constant's loss: so near, a loss is said to be that


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


def line(name: str, folder: Path) -> str:
    """A task's row of the page."""
    task = task_of(name)
    text, extra = folder / f"{name}.md", folder / f"{name}.json"
    learned = read(text.read_text(encoding="utf-8")) if text.exists() else []
    found = json.loads(extra.read_text(encoding="utf-8")) if extra.exists() else {}
    constant = task.best_constant()
    cells = [name, task.metric, f"{task.chance:.3f}", "-" if constant is None else f"{constant:.3f}"]
    scores = {x.split: x for x in learned}
    cells += [f"{scores[s].score:.3f}" if s in scores else MISSING for s in ("region", "photo")]
    cells += [verdict(task, learned, task.settings.valid_items) if learned else MISSING]
    easy, batch = found.get("easiest"), found.get("batch")
    cells += (
        [f"{easy['version']}, {easy['steps']} steps, {easy['seconds']:.0f} s"]
        + [f"{easy['scores'].get(s, math.nan):.3f}" for s in ("region", "photo")]
        if easy
        else [MISSING] * 3
    )
    cells += [f"{batch['loss']:.0e} ({batch['constant']:.3f})" if batch else MISSING]
    return f"| {' | '.join(cells)} |"


def page(folder: Path) -> str:
    """The page, as Markdown."""
    names = sorted(STEPS)
    runs = {name: read((folder / f"{name}.md").read_text(encoding="utf-8")) for name in names if
            (folder / f"{name}.md").exists()}  # fmt: skip
    said = sorted({x.circumstances for rows in runs.values() for x in rows})
    lines = [
        "# Tasks of one picture that a small encoder does not learn in minutes, trained for 5,000 steps",
        "",
        "`python -m tests.bench.hard_tasks`; each score is that of the task's own metric on 960 rows, of one seed.",
        "`region`: the right quarter of the photographs whose left 70 % trains; `photo`: photographs that nothing is",
        f"trained on. More than chance: {SURE:.0f} standard errors of a share of 960 rows. Answers a constant: its",
        f"loss is within {STILL:.1%} of the best constant's. Easiest version: score on 480 rows after what its test",
        f"takes, and its CPU seconds. Fixed batch: loss on {ROWS} rows after {BATCHES} steps on them alone,",
        "and that of the best constant.",
        "",
        *said,
        "",
        "| task | metric | chance | loss of a constant | region | photo | after 5,000 steps "
        "| easiest version | region | photo | fixed batch |",
        "|" + "--|" * 11,
        *(line(name, folder) for name in names),
        "",
        "## Commands",
        "",
        *("    " + re.sub(r"--out[ =]\S*/", "--out FOLDER/", rows[0].command) for rows in runs.values() if rows),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, or print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "page"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="all of them if none is named")
    parser.add_argument("--only", choices=("batch", "easiest"), help="measure this alone")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if unknown := set(given.tasks) - set(STEPS):
        parser.error(f"no such task: {', '.join(sorted(unknown))}; known: {', '.join(sorted(STEPS))}")
    if given.what == "measure":
        measure(given.folder, given.tasks or sorted(STEPS), [given.only] if given.only else ["batch", "easiest"])
    elif given.out:
        given.out.write_text(page(given.folder), encoding="utf-8")
    else:
        print(page(given.folder), end="")


if __name__ == "__main__":
    main()
