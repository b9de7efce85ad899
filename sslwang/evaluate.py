"""Judge pretrained encoders by what they are worth with few labels, always beside random weights and two baselines.

    evaluate([open_run("pretrained/unmix")], "photos", Path("evaluated"), Plan())

An evaluation is made of cells (`sslwang.evaluation.cells`), each a file of its own, so that it goes on where it was
interrupted. A study pretrains the tasks itself before it evaluates them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from diagnose.errors import DiagnoseError
from diagnose.task import flat_settings
from sslwang.circumstances import told
from sslwang.evaluation import browser, pages, plots
from sslwang.evaluation.cells import (
    METHODS,
    Cell,
    Method,
    Protocol,
    Tuning,
    data_of,
    read_cell,
    run_unit,
)
from sslwang.evaluation.comparison import METHOD_NAMES, Evaluation, Facts, share
from sslwang.evaluation.starts import (
    AUTOENCODER,
    CONTRASTIVE,
    Budget,
    Start,
    baseline_tasks,
    named,
    pretrained,
    random_start,
    shared,
    start_of,
    starts_of,
)
from sslwang.evaluation.store import file_name, key_of, read, write, write_json
from sslwang.evaluation.work import Unit, work
from sslwang.finetune import Inputs
from sslwang.pretext import Pretext
from sslwang.pretrain import Asked, code_since, task_of
from sslwang.runs import PretrainRun, open_run
from sslwang.transfer import Which, data_digest

PRETRAINED, CELLS = "pretrained", "cells"
ASK: tuple[Method, ...] = ("finetune", "probe", "knn")  # by which predictions are shown, the first that was used

Progress = Callable[[str, int, int], None]  # what is done now, how much of it is finished, of how much


def quiet(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be found out, and with what.

    Args:
        methods, fractions, seeds: every one of them with every other is a cell of every start; each once, in order.
        size: px that labelled images are fed at; that of the pretraining if not given.
        inputs: their scale; as the pretraining had them if not given.
        tuning: how encoders are fine-tuned.
        draws: see `Protocol`.
        device: that nets are on.
        jobs: processes of one thread each; 1 stays in this process and leaves its threads alone.
        changed_code: take cells and baselines of other code as they are, and say so, in place of computing them anew.

    Raises:
        DiagnoseError: nothing to be found out, a fraction out of range, or a seed below 0.
    """

    methods: tuple[Method, ...] = METHODS
    fractions: tuple[float, ...] = (0.01, 0.1, 1.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    size: int | None = None
    inputs: Inputs | None = None
    tuning: Tuning = dataclasses.field(default_factory=Tuning)
    draws: int = 5
    device: str = "cpu"
    jobs: int = 1
    changed_code: bool = False

    def __post_init__(self) -> None:
        wrong = [f for f in self.fractions if not 0 < f <= 1]
        if wrong:
            raise DiagnoseError(f"a fraction of {wrong[0]:g} of the labels: it must be above 0 and at most 1")
        if not (self.methods and self.fractions and self.seeds and self.draws >= 1):
            raise DiagnoseError("nothing to evaluate: at least one method, fraction, seed and draw are needed")
        if min(self.seeds) < 0:
            raise DiagnoseError(f"seed {min(self.seeds)}: seeds are 0 or above")
        object.__setattr__(self, "methods", tuple(m for m in METHODS if m in self.methods))
        for name in ("fractions", "seeds"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))


# ---- pretraining -----------------------------------------------------------------------------------------------------


def pretrain_all(
    tasks: Sequence[Pretext],
    seeds: Sequence[int],
    steps: int,
    out: Path,
    plan: Plan,
    gate: Asked = "skip",
    options: dict[str, Any] | None = None,
    on_progress: Progress = quiet,
) -> tuple[list[list[PretrainRun]], list[str], list[str]]:
    """Every task under every seed, pretrained or found below `out`.

    Args:
        plan: its device, jobs and changed_code. gate, options: as `pretrain` takes them.

    Returns:
        Runs of each task, a line for each that could not be trained, and one for each that other code has trained.
    """
    wanted = [(task, seed) for task in tasks for seed in seeds]
    done = 0

    def count(name: str, result: Any) -> None:
        nonlocal done
        done += 1
        on_progress(f"pretrained {name}", done, len(wanted))

    on_progress("pretraining", 0, len(wanted))
    units: list[Unit] = [
        (
            f"{named(task)}, seed {seed}",
            _pretrained,
            (
                *(task.id, flat_settings(task.settings), steps, seed, out, gate),
                *(plan.device, plan.changed_code, options or {}),
            ),
        )
        for task, seed in wanted
    ]
    made, failed = work(units, plan.jobs, count)
    runs = [None if one is None else open_run(one[0]) for one in made]
    groups = [runs[i * len(seeds) : (i + 1) * len(seeds)] for i in range(len(tasks))]
    other = [f"{name} ({', '.join(one[1][:2])})" for (name, *_), one in zip(units, made) if one and one[1]]
    return [[run for run in group if run is not None] for group in groups], failed, other


def _pretrained(
    name: str,
    settings: dict[str, Any],
    steps: int,
    seed: int,
    out: Path,
    gate: Asked,
    device: str,
    changed_code: bool,
    options: dict[str, Any],
) -> tuple[Path, list[str]]:
    task = task_of(name, settings)
    run = pretrained(task, steps, seed, out, gate, device, changed_code, **options)
    return run.path, code_since(run, task) if changed_code else []


# ---- evaluating ------------------------------------------------------------------------------------------------------


def evaluate(
    runs: Sequence[PretrainRun],
    data: str,
    out: Path,
    plan: Plan,
    which: Which = "last",
    baselines: bool = True,
    on_progress: Progress = quiet,
) -> Evaluation:
    """Judge runs beside random weights, an autoencoder and a contrastive baseline of the same budget.

    Runs of one task and settings that differ in their seed are one start; what is missing of the baselines is
    pretrained below `out`, once for each seed that the runs have.

    Args:
        runs: finished ones of one budget: steps, batch size, size, architecture and images.
        data: see `labelled`.
        out: everything is written below it, and what is there already is not computed again.
        plan: what cells there are. Of fewer than 3 seeds nothing is concluded.
        which: the last weights of a run or the best.
        baselines: False leaves out the baselines that are pretrained; random weights always stand beside the runs.

    Raises:
        DiagnoseError: runs that are not comparable, data that cannot be read, or files that cannot be written.
    """
    asked = starts_of(runs, which)
    budget = asked[0].budget
    data_of(data, plan.size or budget.size)  # what is wrong with it is told before anything is trained
    failed: list[str] = []
    other: list[str] = []
    if baselines:
        tasks = [task for task in baseline_tasks(budget) if all(start.name != named(task) for start in asked)]
        own = sorted({run.seed for run in runs})
        groups, failed, other = pretrain_all(
            tasks, own, budget.steps, out / PRETRAINED, plan, "skip", budget.options, on_progress
        )
        asked = [start_of(group, which) for group in groups if group] + asked
    else:
        baselines = all(any(s.name == name for s in asked) for name in (AUTOENCODER, CONTRASTIVE))
    starts = [random_start(budget, plan.seeds), *asked]
    found = evaluate_starts(starts, data, out, plan, on_progress)
    return dataclasses.replace(found, missing=(*failed, *found.missing), baselines=baselines, other_code=tuple(other))


def evaluate_starts(
    starts: Sequence[Start],
    data: str,
    out: Path,
    plan: Plan,
    on_progress: Progress = quiet,
) -> Evaluation:
    """Judge starts of one budget. Args and errors as in `evaluate`; baselines come first whatever the order given."""
    order = {"random": 0, "baseline": 1, "pretext": 2}
    starts = sorted(starts, key=lambda start: order[start.kind])
    size, inputs = plan.size or starts[0].budget.size, plan.inputs or inputs_of(starts)
    known = data_of(data, size)
    protocol = Protocol(data, data_digest(known), size, inputs, plan.tuning, plan.draws)
    folder = out / data_name(data) / CELLS
    cells = [Cell(s, m, f, seed) for s in starts for m in plan.methods for f in plan.fractions for seed in plan.seeds]
    shown = [cell for cell in cells if cell.fraction == plan.fractions[0] and cell.seed == plan.seeds[0]]
    open_ = [cell for cell in cells if not _finished(cell, protocol, folder, cell in shown, plan.changed_code)]
    units, sizes = [], {}
    for name, group in _grouped(open_):
        units.append((name, run_unit, (group, protocol, folder, plan.device, [c for c in group if c in shown])))
        sizes[name] = len(group)
    done = len(cells) - len(open_)
    on_progress(f"evaluating on {data}", done, len(cells))

    def count(name: str, result: Any) -> None:
        nonlocal done
        done += sizes[name]
        on_progress(name, done, len(cells))

    _, failed = work(units, plan.jobs, count)
    read_ = [read_cell(cell.path(folder, protocol)) for cell in cells]
    return Evaluation(
        Facts.of(known),
        protocol,
        tuple(starts),
        plan.methods,
        plan.fractions,
        plan.seeds,
        tuple(cell for cell in read_ if cell is not None),
        tuple(failed),
    )


def inputs_of(starts: Sequence[Start]) -> Inputs:
    """How the starts' pretext tasks brought images to the encoder.

    Raises:
        DiagnoseError: some were hardened and some were not.
    """
    hardened = {bool(s.settings.get("hardened", True)) for s in starts if s.kind == "pretext"} or {True}
    if len(hardened) > 1:
        raise DiagnoseError(
            "some runs saw standardised images (hardened=true) and some did not; choose for all by --inputs "
            "standardised or --inputs normalised, or evaluate them apart"
        )
    return "standardised" if hardened.pop() else "normalised"


def data_name(source: str) -> str:
    """A source as the name of a folder: its own, and for a path its last part with a hash of the whole."""
    name = file_name(Path(source).name)
    return name if name == source else f"{name}-{key_of(str(Path(source).expanduser().resolve()))[:6]}"


def _finished(cell: Cell, protocol: Protocol, folder: Path, shown: bool, changed_code: bool) -> bool:
    if read_cell(cell.path(folder, protocol), changed_code) is None:
        return False
    return not shown or read(cell.rows_path(folder, protocol)) is not None


def _grouped(cells: Sequence[Cell]) -> Iterator[tuple[str, list[Cell]]]:
    "Frozen cells of one encoder together, for its features are computed once; every fine-tuning by itself."
    frozen: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        if cell.method != "finetune":
            frozen.setdefault((cell.start.name, cell.member.seed), []).append(cell)
    for (name, seed), group in frozen.items():
        yield f"{name}: frozen features of seed {seed}", group
    for cell in cells:
        if cell.method == "finetune":
            yield f"{cell.start.name}: fine-tuning, {share(cell.fraction)} of the labels, seed {cell.seed}", [cell]


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_evaluation(found: Evaluation, out: Path, commands: Sequence[str], about: dict[str, Any]) -> Path:
    """Write result.json, transfer.md, plots and the browser of predictions below `out`; their folder.

    Args:
        commands: that made it. about: what `circumstances` says.

    Raises:
        DiagnoseError: something cannot be written.
    """
    folder = out / data_name(found.facts.source)
    write_json(folder / "result.json", pages.result(found, commands, about))
    pictures = {}
    for name, title, figure in _figures(found):
        write(folder / "plots" / f"{name}.png", plots.png(figure))
        pictures[title] = f"plots/{name}.png"
    write(folder / "transfer.md", pages.markdown(found, commands, told(about), pictures))
    _write_browser(found, folder)
    return folder


def _figures(found: Evaluation) -> Iterator[tuple[str, str, Figure]]:
    yield "by-labels", "accuracy by labelled images", plots.by_labels(found)
    method = next((m for m in ASK if m in found.methods), None)
    if method and any(c["method"] == method and c["fraction"] == found.few for c in found.cells):
        after = f"{METHOD_NAMES[method]} with {share(found.few)} of the labels"
        yield "confusion", f"confusion after {after}", plots.confusions(found, method, found.few)
        yield "reliability", f"reliability after {after}", plots.reliabilities(found, method, found.few)


def _write_browser(found: Evaluation, folder: Path) -> None:
    seed, names = min(found.seeds), {}
    for start in found.starts:
        rows = {}
        for method in found.methods:
            cell = Cell(start, method, found.few, seed)
            kept = read(cell.rows_path(folder / CELLS, found.protocol))
            if kept is not None:
                rows[method] = kept
        if rows:
            names[start.name] = browser.page_name(start)
            write(folder / "predictions" / names[start.name], browser.page(found, start, found.few, seed, rows))
    write(folder / "predictions" / "index.html", browser.index(found, found.few, names))


# ---- a study ---------------------------------------------------------------------------------------------------------


def study(
    source: str,
    tasks: Sequence[Pretext],
    steps: int,
    out: Path,
    plan: Plan,
    to: Sequence[str] = (),
    gate: Asked = "skip",
    on_progress: Progress = quiet,
) -> list[Evaluation]:
    """Pretrain tasks on one source under every seed, with both baselines, and evaluate them all.

    Args:
        source: of the images of the pretraining. tasks: under their settings, which agree in what a budget holds.
        to: sources of labelled images; the source itself if not given.
        gate: as `pretrain` takes it. The other arguments and errors are those of `evaluate`.
    """
    targets = list(to) or [source]
    for target in targets:
        data_of(target, plan.size or tasks[0].settings.size)
    shared_ = shared(flat_settings(tasks[0].settings))
    besides = [t for t in baseline_tasks(Budget(steps, shared_)) if all(named(t) != named(task) for task in tasks)]
    groups, failed, other = pretrain_all(
        [*besides, *tasks], plan.seeds, steps, out / PRETRAINED, plan, gate, None, on_progress
    )
    runs = [run for group in groups for run in group]
    if not runs:
        raise DiagnoseError(f"nothing could be pretrained: {failed[0]}")
    asked = starts_of(runs)
    starts = [random_start(asked[0].budget, plan.seeds), *asked]
    made = []
    for target in targets:
        found = evaluate_starts(starts, target, out, plan, on_progress)
        made.append(dataclasses.replace(found, missing=(*failed, *found.missing), other_code=tuple(other)))
    return made


def write_study(
    found: Sequence[Evaluation], source: str, report: Path, commands: Sequence[str], about: dict[str, Any]
) -> Path:
    """Write the results page of a study, with a figure a target beside it in `img/`; the page.

    Raises:
        DiagnoseError: it cannot be written.
    """
    lines = [f"# What pretext tasks on {source} are worth", "", *(f"    {c}" for c in commands), ""]
    for one in found:
        picture = f"img/{report.stem}-{data_name(one.facts.source)}.png"
        write(report.parent / picture, plots.png(plots.by_labels(one)))
        lines += [f"## {one.facts.source}, with few labels", ""]
        lines += [*pages.section(one), "", f"![accuracy by labelled images of {one.facts.source}]({picture})", ""]
    return write(report, "\n".join([*lines, told(about), ""]))
