"""Transfer: what a pretrained encoder is worth on labelled images, beside the same training from random weights.

    transfer("pretrained/unmix", "imagewang", sizes=(128,), epochs=(5, 20), seeds=(0, 1, 2))

Only the encoder is taken over; its tensors are counted, and none may be missing or left over (the notes trained for
weeks on an encoder of which 0 of 12 tensors had been loaded). Every training is a cell: a start, a size, a number of
epochs and a seed. A finished cell is a file, so that a second call goes on where the first was stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from fastai.learner import Learner
from safetensors import SafetensorError, safe_open

from diagnose.diagnosis import folder_name
from diagnose.errors import DiagnoseError
from diagnose.examination import Progress
from diagnose.gate import GateRefused, find
from diagnose.loads import recording
from diagnose.report import runs
from diagnose.subject import Subject, pick_device
from sslwang import circumstances
from sslwang.checkpoint import put, put_json
from sslwang.data.labelled import Labelled, files_for, labelled, stratified
from sslwang.finetune import BS, LR, WD, Inputs, Unfreeze, finetune, finetune_learner
from sslwang.gated import Gate, noted
from sslwang.models.encoder import ImageEncoder, random_encoder
from sslwang.runs import MODEL, PretrainRun, open_run, writable
from sslwang.scores import Interval, confusion, elsewhere, interval, paired, recalls, summary
from sslwang.telling import counted, escaped, markdown_table, points

SCHEMA = 1
FACTS = ("date", "commit", "code", "versions", "device", "machine")
CELLS, RESULT, PAGE = "cells", "result.json", "result.md"
SAMPLED = 32  # images of each side whose pixels go into the identity of the data
UNEVEN = 2.0  # the largest class over the smallest, from which on a result says how the classes were sampled

Which = Literal["last", "best"]
Asked = Literal["verify", "examine", "skip"]
StartName = Literal["pretrained", "random", "scratch"]
WORDS: dict[StartName, str] = {
    "pretrained": "pretrained",
    "random": "random weights, the same training",
    "scratch": "random weights, trained whole",
}

PROTOCOLS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {"imagewang": ((128, 192, 256), (5, 20, 80, 200))}
"""Sizes in px and epochs of a leaderboard by name; see `seeds_of`."""


def seeds_of(epochs: int) -> tuple[int, ...]:
    """Seeds that Image-wang's leaderboard asks for: five runs of 5 epochs, three of more."""
    return tuple(range(5 if epochs <= 5 else 3))


@dataclass(frozen=True)
class Settings:
    """How encoders are fine-tuned, all alike.

    Args:
        which: encoder after the last or after the best epoch of pretraining.
        fraction: of the labels of each class, drawn anew for every seed.
        unfreeze: see `sslwang.finetune`. To hold parts of random weights frozen only hinders them, so unless this is
            `all` they are also trained whole from the first step, at one rate: that is `scratch`.
        balanced: every class is shown equally often.
        inputs: how images are scaled; as the pretext task scaled them if None.
        bs, lr, wd: see `finetune_learner`.
    """

    which: Which = "last"
    fraction: float = 1.0
    unfreeze: Unfreeze = "gradual"
    balanced: bool = True
    inputs: Inputs | None = None
    bs: int = BS
    lr: float = LR
    wd: float = WD

    @property
    def starts(self) -> tuple[StartName, ...]:
        """What is trained; see `unfreeze`."""
        return ("pretrained", "random") if self.unfreeze == "all" else ("pretrained", "random", "scratch")

    def of(self, start: StartName) -> Settings:
        """For one start; see `unfreeze`."""
        return replace(self, unfreeze="all") if start == "scratch" else self


@dataclass(frozen=True)
class Loaded:
    """What was taken over from a run.

    Args:
        tensors: loaded into the encoder, of as many as it has. left: tensors of the head that were not; None if the
            run did not keep its whole network.
    """

    tensors: int
    of: int
    left: int | None

    def __str__(self) -> str:
        left = "the run keeps no head" if self.left is None else f"head left behind: {self.left}"
        return f"{self.tensors} of {self.of} tensors of the encoder loaded; {left}"


@dataclass(frozen=True)
class Cell:
    """One training."""

    start: StartName
    size: int
    epochs: int
    seed: int

    def __str__(self) -> str:
        return f"{self.start} {self.size} px, {counted(self.epochs, 'epoch')}, seed {self.seed}"


@dataclass(frozen=True)
class Row:
    """One start at one size and number of epochs, over the seeds.

    Args:
        scores: by name, see `sslwang.scores.summary`.
        above: of the pretrained start: its difference to each other start under equal seeds, by name of the score.
        elsewhere: predictions by title of the class, on classes that validation does not have; mean over the seeds.
    """

    start: StartName
    size: int
    epochs: int
    seeds: tuple[int, ...]
    scores: dict[str, Interval]
    above: dict[StartName, dict[str, Interval]]
    elsewhere: dict[str, float]
    seconds: float


@dataclass
class Result:
    """What came of a transfer; `result.json` holds it, `result.md` shows it."""

    folder: Path
    run: dict[str, Any]
    data: dict[str, Any]
    settings: dict[str, Any]
    loaded: Loaded
    rows: list[Row]
    notes: list[str]
    gate: list[dict[str, Any]]
    cells: list[str]
    trained: int = 0
    kept: int = 0
    record: dict[str, Any] = field(default_factory=dict)


# ---- the Learner -----------------------------------------------------------------------------------------------------


def finished_run(place: PretrainRun | Path | str) -> PretrainRun:
    """A run that came to its end.

    Raises:
        DiagnoseError: there is none, or it did not.
    """
    run = place if isinstance(place, PretrainRun) else open_run(place)
    if not run.finished:
        raise DiagnoseError(f"{run.path}: this run did not come to its end; go on with {run.resuming}")
    return run


def inputs_of(run: PretrainRun) -> Inputs:
    """How the pretext task scaled its images: each by itself where it was hardened."""
    return "standardised" if run.settings.get("hardened", True) else "normalised"


def loaded_from(run: PretrainRun, encoder: ImageEncoder) -> Loaded:
    """Count what `run.encoder()` loaded, and what of the run's network stayed behind."""
    total, left = len(encoder.state_dict()), None
    with suppress(OSError, SafetensorError), safe_open(run.path / MODEL, "pt") as file:
        names = list(file.keys())
        left = sum(not name.startswith("encoder.") for name in names)
    return Loaded(encoder.loaded, total, left)


def transfer_learner(
    run: PretrainRun | Path | str,
    data: Labelled | str,
    which: Which = "last",
    seed: int = 0,
    size: int | None = None,
    fraction: float = 1.0,
    unfreeze: Unfreeze = "gradual",
    balanced: bool = True,
    device: str | torch.device = "cpu",
    **settings: Any,
) -> Learner:
    """The Learner that fine-tunes the encoder of a run, for `diagnose` or for a training of one's own.

        def build():                                    # diagnose run --learner mine.py:build
            return transfer_learner("pretrained/unmix", "imagewang", size=128)

    Args:
        run: the run or its folder. data: labelled images or their source.
        settings: others of `finetune_learner`. The rest as in `Settings`.

    Raises:
        DiagnoseError: no finished run, weights that do not fit its encoder, or labelled images that cannot be had.
    """
    run = finished_run(run)
    data = labelled(data, size=size) if isinstance(data, str) else data
    indices = stratified(data.train.labels, fraction, seed)
    settings.setdefault("inputs", inputs_of(run))
    return finetune_learner(
        run.encoder(which), data, indices, seed, size, None, unfreeze, balanced, device=device, **settings
    )


# ---- the gate --------------------------------------------------------------------------------------------------------


def granted(
    build: Callable[[], Learner],
    name: str,
    reports: Path = Path("reports"),
    examined: bool = False,
    budget: float | None = 180.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The pass that a Learner has for what it is now, as `{"pass": folder, "issued": date, "verdict": verdict}`.

    Args:
        build: makes the Learner; what is loaded meanwhile is seen by the check `weights-loaded`.
        name: of the subject, fit for a folder name.
        reports: folder of examined runs.
        examined: examine where no pass holds.
        budget: seconds of that examination.

    Raises:
        GateRefused: there is no pass, or the examination gave none; exit code 130 if it was interrupted.
        SubjectError: the Learner's own code raised while it was examined.
    """
    with recording() as record:
        learn = build()
    subject = Subject(name, "sslwang transfer", learn, loads=record.loads(learn.model))
    now = subject.identity()
    try:
        return noted(*find(runs.finished(reports / folder_name(name)), now))
    except GateRefused as e:
        if not examined:
            raise GateRefused(
                f"no fine-tuning without a pass: {e}; add --examine to examine first (--no-gate does without, and the "
                "result says so)"
            ) from e
    return Gate(reports, budget=budget).grant(subject, now, seed, progress)


# ---- cells -----------------------------------------------------------------------------------------------------------


def plan(
    sizes: Sequence[int], epochs: Sequence[int], seeds: Sequence[int] | None, starts: Sequence[StartName]
) -> list[Cell]:
    """All trainings, in the order that they are done; without seeds as many as `seeds_of` says."""
    return [
        Cell(start, size, count, seed)
        for size in sizes
        for count in epochs
        for seed in (seeds_of(count) if seeds is None else seeds)
        for start in starts
    ]


def weights_digest(encoder: ImageEncoder) -> str:
    """SHA-256 of all tensors of an encoder, names included."""
    h = hashlib.sha256()
    for name, t in encoder.state_dict().items():
        h.update(f"{name} {tuple(t.shape)} {t.dtype}".encode())
        h.update(t.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return h.hexdigest()


def data_digest(data: Labelled) -> str:
    """SHA-256 of classes, names and labels of both sides, and of the pixels of 32 images of each, spread over it."""
    h = hashlib.sha256(repr((data.classes, data.valid_classes)).encode())
    for side in (data.train, data.valid):
        h.update(repr(list(side.names)).encode() + np.ascontiguousarray(side.labels).tobytes())
        for i in np.linspace(0, len(side) - 1, min(SAMPLED, len(side))).astype(int):
            h.update(np.asarray(side.images[int(i)]).tobytes())
    return h.hexdigest()


class Cells:
    """The finished trainings in a folder, each under a name that holds a hash of all that its scores depend on.

    Args:
        folder: `OUT/cells`.
        common: what is the same for all trainings of a call, by name.
        data: digest of the labelled images of each size.
        changed_code: take those of other code too.
    """

    def __init__(self, folder: Path, common: dict[str, Any], data: dict[int, str], changed_code: bool = False):
        self.folder, self.common, self.data, self.changed_code = folder, common, data, changed_code

    def key(self, cell: Cell, settings: Settings, weights: str) -> dict[str, Any]:
        """All that the scores of a cell depend on, as far as it is no code; that is told in the cell."""
        start = {"weights": weights, "which": settings.which} if cell.start == "pretrained" else {}
        plain = {k: v for k, v in asdict(settings.of(cell.start)).items() if k != "which"}
        where = {**asdict(cell), "start": "pretrained" if start else "random"}  # `scratch` differs in its settings
        return {**self.common, "data": self.data[cell.size], **where, **plain, **start}

    def path(self, key: dict[str, Any]) -> Path:
        """File of a cell."""
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
        source = folder_name(Path(key["source"]).name)
        return (
            self.folder / f"{key['start']}-{source}-{key['size']}px-{key['epochs']}ep-seed{key['seed']}-{digest}.json"
        )

    def read(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """A finished cell; None if it is not there, is not of this key or of this code, or cannot be read."""
        try:
            found = json.loads(self.path(key).read_bytes())
            same = (found["schema"], found["key"]) == (SCHEMA, key)
            known = self.changed_code or found["code"] == circumstances.fingerprint()
            return found if same and known else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, key: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
        """Keep a finished cell.

        Raises:
            DiagnoseError: it cannot be written; those before are kept.
        """
        path = self.path(key)
        content = {"schema": SCHEMA, "key": key, **content}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            put_json(path, content)
        except OSError as e:
            raise DiagnoseError(
                f"{path}: cannot be written ({e.strerror or e}); finished trainings are kept: mend it and call again"
            ) from e
        return content


def _trained(
    cell: Cell,
    run: PretrainRun,
    data: Labelled,
    settings: Settings,
    inputs: Inputs,
    device: torch.device,
    on_step: Callable[[int, int], None],
) -> dict[str, Any]:
    "Train one cell and score it."
    mine = settings.of(cell.start)
    encoder = run.encoder(mine.which) if cell.start == "pretrained" else random_encoder(run.arch, run.norm, cell.seed)
    indices = stratified(data.train.labels, mine.fraction, cell.seed)
    began = time.perf_counter()
    said = finetune(
        encoder,
        data,
        indices,
        epochs=cell.epochs,
        seed=cell.seed,
        size=cell.size,
        unfreeze=mine.unfreeze,
        balanced=mine.balanced,
        device=device,
        on_step=on_step,
        inputs=inputs,
        **{name: getattr(mine, name) for name in ("bs", "lr", "wd")},
    )
    seconds = time.perf_counter() - began
    p, y, places = said.probabilities, said.labels, data.valid_places()
    return {
        "scores": summary(p, y, places),
        "recalls": {c: None if math.isnan(r) else r for c, r in zip(data.classes, recalls(p, y).tolist())},
        "elsewhere": {c: n for c, n in zip(data.classes, elsewhere(p, places).tolist()) if n},
        "confusion": confusion(p, y).tolist(),
        "labels": len(indices),
        "seconds": round(seconds, 2),
    }


# ---- the whole -------------------------------------------------------------------------------------------------------


def transfer(
    run: PretrainRun | Path | str,
    data: Labelled | str,
    out: Path | str = "transferred",
    *,
    sizes: Sequence[int] = (),
    epochs: Sequence[int] = (5,),
    seeds: Sequence[int] | None = (0, 1, 2),
    settings: Settings | None = None,
    device: str = "auto",
    gate: Asked = "verify",
    reports: Path | str = "reports",
    budget: float | None = 180.0,
    progress: Progress | None = None,
    on_step: Callable[[str, float, float], None] = lambda text, done, total: None,
    command: str = "",
    changed_code: bool = False,
) -> Result:
    """Fine-tune the encoder of a run and random weights in every cell, or take the cell from `out`, and compare.

    Args:
        run: a run, its folder, or a folder of runs, whose newest finished one is taken.
        data: labelled images or their source.
        out: `out/cells` keeps the trainings, `out/<task>-<run>-<data>` the result.
        sizes: px, that of the data if none is given. epochs, seeds: one training for each; seeds None as many as
            Image-wang's leaderboard asks for.
        gate: before any training the gate is asked for each size (`verify`), a pass is made if there is none
            (`examine`), or not (`skip`, which the result says).
        reports: folder of examined runs. budget: seconds of an examination. progress: told of it.
        on_step: told what is trained, and how much of the work is done, of how much.
        command: as it was typed, for the record.
        changed_code: take finished trainings of other code from `out` too, and say so.

    Raises:
        DiagnoseError: no finished run, weights that do not fit, data that cannot be had, `out` cannot be written, or
            nothing to train.
        GateRefused: the gate is shut.
    """
    settings, out, reports = settings or Settings(), Path(out), Path(reports)
    run = finished_run(run)
    writable(out)
    by_size = _by_size(data, sizes)
    data = next(iter(by_size.values()))
    encoder = run.encoder(settings.which)
    loaded = loaded_from(run, encoder)
    wanted = plan(tuple(by_size), epochs, seeds, settings.starts)
    if not wanted or min(c.epochs for c in wanted) < 1:
        raise DiagnoseError("nothing to train: give at least one size, one number of epochs above 0 and one seed")
    inputs, where = settings.inputs or inputs_of(run), pick_device(device)
    settings = replace(settings, inputs=inputs)
    common = {
        "arch": run.arch,
        "norm": run.norm,
        "source": data.source,
        "device": where.type,
    }
    cells = Cells(out / CELLS, common, _digests(by_size), changed_code)
    weights = weights_digest(encoder)
    keys = {cell: cells.key(cell, settings, weights) for cell in wanted}
    found = {cell: cells.read(key) for cell, key in keys.items()}
    kept = sum(content is not None for content in found.values())
    missing = [cell for cell in wanted if found[cell] is None]
    facts = circumstances.circumstances(where)
    passes = {
        size: _asked(gate, run, by_size[size], settings, size, where, reports, budget, progress)
        for size in dict.fromkeys(cell.size for cell in missing)
    }
    work = [cell.epochs * cell.size**2 for cell in missing]
    done = 0.0
    for cell, share in zip(missing, work):

        def step(k: int, steps: int, cell: Cell = cell, before: float = done, share: float = share) -> None:
            on_step(str(cell), before + share * k / steps, sum(work))

        on_step(str(cell), done, sum(work))
        content = _trained(cell, run, by_size[cell.size], settings, inputs, where, step)
        found[cell] = cells.write(keys[cell], {**content, "gate": passes[cell.size], **facts})
        done += share
    folder = out / folder_name(f"{run.task}-{run.path.name}-{Path(data.source).name}")
    result = Result(
        folder=folder,
        run={"path": str(run.path), "task": run.task, "arch": run.arch, "norm": run.norm, "source": run.source,
             "seed": run.seed, "steps": run.steps, "size": run.size, "gate": run.record.get("gate"),
             "with_val": run.record.get("with_val"), "weights": weights},
        data=_described(data),
        settings=asdict(settings),
        loaded=loaded,
        rows=list(_rows(wanted, found, data)),
        notes=[],
        gate=_distinct(found[cell]["gate"] for cell in wanted),
        cells=[str(cells.path(keys[cell]).relative_to(out)) for cell in wanted],
        trained=len(missing),
        kept=kept,
    )  # fmt: skip
    made = _distinct({k: found[cell][k] for k in facts if k != "date"} for cell in wanted)
    result.notes = _notes(result, data, made, _enlarged(by_size))
    seconds = sum(found[cell]["seconds"] for cell in wanted)
    result.record = _record(result, command, facts, made, seconds)
    _write(result)
    return result


def _by_size(data: Labelled | str, sizes: Sequence[int]) -> dict[int, Labelled]:
    "Labelled images for every size; a source is read once for all sizes that it has the same files for."
    if isinstance(data, Labelled):
        return dict.fromkeys(sizes or (data.size,), data)
    if not sizes:
        read = labelled(data)
        return {read.size: read}
    groups: dict[str, list[int]] = {}
    for size in sizes:
        groups.setdefault(files_for(data, size), []).append(size)
    found = {name: labelled(data, size=max(group)) for name, group in groups.items()}
    return {size: found[files_for(data, size)] for size in sizes}


def _digests(by_size: dict[int, Labelled]) -> dict[int, str]:
    known = {id(data): data_digest(data) for data in {id(d): d for d in by_size.values()}.values()}
    return {size: known[id(data)] for size, data in by_size.items()}


def _enlarged(by_size: dict[int, Labelled]) -> list[str]:
    "Sizes at which images were enlarged, with the median of their shorter sides."
    told = []
    for size, data in sorted(by_size.items()):
        places = np.linspace(0, len(data.train) - 1, min(SAMPLED, len(data.train))).astype(int)
        middle = np.median([min(data.train.images[int(i)].size) for i in places])
        if size > middle:
            told.append(f"At {size} px the images were enlarged: the median of their shorter sides is {middle:.0f} px.")
    return told


def _asked(
    gate: Asked,
    run: PretrainRun,
    data: Labelled,
    settings: Settings,
    size: int,
    device: torch.device,
    reports: Path,
    budget: float | None,
    progress: Progress | None,
) -> dict[str, Any]:
    "The gate, for one size. The Learner is that of seed 0, so that a pass holds for trainings under any seed."
    if gate == "skip":
        return {"skipped": "--no-gate"}

    def build() -> Learner:
        return transfer_learner(run, data, size=size, device=device, **asdict(settings))

    return granted(build, f"transfer-{run.task}", reports, gate == "examine", budget, progress=progress)


def _distinct(things: Iterator[dict[str, Any]] | Any) -> list[dict[str, Any]]:
    return list({json.dumps(t, sort_keys=True): t for t in things}.values())


def _described(data: Labelled) -> dict[str, Any]:
    counts = np.bincount(data.train.labels, minlength=len(data.classes))
    return {
        "source": data.source,
        "classes": len(data.classes),
        "valid classes": len(data.valid_classes),
        "train": len(data.train),
        "valid": len(data.valid),
        "train by class": {data.title(i): int(n) for i, n in enumerate(counts)},
    }


def _rows(wanted: Sequence[Cell], found: dict[Cell, dict[str, Any]], data: Labelled) -> Iterator[Row]:
    for size, epochs in dict.fromkeys((c.size, c.epochs) for c in wanted):
        mine = [c for c in wanted if (c.size, c.epochs) == (size, epochs)]
        done = {start: [found[c] for c in mine if c.start == start] for start in dict.fromkeys(c.start for c in mine)}
        values = {start: _by_name([c["scores"] for c in cells]) for start, cells in done.items()}
        for start, cells in done.items():
            places: dict[str, float] = {}
            for content in cells:
                for name, count in content["elsewhere"].items():
                    title = data.titles.get(name, name)
                    places[title] = places.get(title, 0.0) + count / len(cells)
            others = [other for other in done if start == "pretrained" != other]
            yield Row(
                start=start,
                size=size,
                epochs=epochs,
                seeds=tuple(c.seed for c in mine if c.start == start),
                scores={name: interval(x) for name, x in values[start].items()},
                above={
                    other: {name: paired(x, values[other][name]) for name, x in values[start].items()}
                    for other in others
                },
                elsewhere=dict(sorted(places.items(), key=lambda item: -item[1])),
                seconds=sum(content["seconds"] for content in cells),
            )


def _by_name(scores: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [s[name] for s in scores] for name in scores[0]}


# ---- what is told ----------------------------------------------------------------------------------------------------


def table(result: Result) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: percent of each start and of the difference, with deviation and 95 % interval."""
    shown, body = columns(result), []
    for size, epochs in dict.fromkeys((row.size, row.epochs) for row in result.rows):
        mine = [row for row in result.rows if (row.size, row.epochs) == (size, epochs)]
        head = [str(size), str(epochs), str(len(mine[0].seeds))]
        body += [
            [*head, WORDS[row.start], *(points(row.scores[name], deviation=True) for name in shown)] for row in mine
        ]
        for other, above in mine[0].above.items():
            body.append(
                [*head, f"pretrained above {WORDS[other]}", *(points(above[name], True, True) for name in shown)]
            )
    return ["px", "epochs", "runs", "start", *shown.values()], body


def columns(result: Result) -> dict[str, str]:
    """The scores that a table shows, and what they are."""
    total, valid = result.data["classes"], result.data["valid classes"]
    shown = {"accuracy": f"accuracy over all {total} outputs"}
    if valid < total:
        shown["accuracy masked"] = f"accuracy, outputs masked to the {valid} classes of validation"
    return shown | {"balanced accuracy": "balanced accuracy", "calibration error": "calibration error"}


def _notes(result: Result, data: Labelled, made: Sequence[dict[str, Any]], enlarged: Sequence[str] = ()) -> list[str]:
    "What a reader must know of the numbers, a sentence each."
    s = result.settings
    told = [f"{result.loaded}."]
    told += [_verdict(row, len(data.valid_classes) < len(data.classes)) for row in result.rows if row.above]
    counts = np.bincount(data.train.labels, minlength=len(data.classes))
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    if counts[largest] >= UNEVEN * counts[smallest]:
        uneven = (
            f"{data.title(largest)} has {counts[largest]} labelled images, {data.title(smallest)} {counts[smallest]}"
        )
        told.append(f"Classes are uneven ({uneven}); " + (
            "every class is shown equally often." if s["balanced"] else "they are shown as they are (--as-is)."
        ))  # fmt: skip
    if len(data.valid_classes) < len(data.classes):
        told += [_elsewhere(row, len(data.valid)) for row in result.rows]
    if s["fraction"] < 1:
        told.append(f"{100 * s['fraction']:g} % of the labels of each class were used, drawn anew for every seed.")
    told += enlarged
    if result.run["with_val"]:
        told.append("The images of validation were among the unlabelled ones of pretraining (data.with_val=true).")
    if any("skipped" in g for g in result.gate):
        told.append("Some or all of it was trained without asking the gate (--no-gate).")
    if len(made) > 1:
        codes = ", ".join(sorted({m.get("commit", m["code"]) for m in made}))
        told.append(f"The trainings were made under {len(made)} codes, versions or devices ({codes}).")
    return told


def _verdict(row: Row, masked: bool) -> str:
    name = "accuracy masked" if masked else "accuracy"
    where = f"At {row.size} px and {counted(row.epochs, 'epoch')}, points of {name} from pretraining"
    if len(row.seeds) < 2:
        gains = ", ".join(f"{points(above[name], sign=True)} to {WORDS[other]}" for other, above in row.above.items())
        return f"{where}: {gains}; of one seed nothing follows."
    told = []
    for other, above in row.above.items():
        gain = above[name]
        if gain.alike:
            how = "the same under every seed, which has no interval, to"
        elif gain.excludes(0):
            how = "above" if gain.mean > 0 else "below"
        else:
            how = "not told apart from"
        told.append(f"{points(gain, True, True)}, {how} {WORDS[other]}")
    return f"{where}, paired over {len(row.seeds)} seeds: {'; '.join(told)}."


def _elsewhere(row: Row, total: int) -> str:
    where = f"{WORDS[row.start].capitalize()} ({row.size} px, {counted(row.epochs, 'epoch')})"
    count = sum(row.elsewhere.values())
    if not count:
        return f"{where}: no prediction falls on a class that validation does not have."
    worst, most = next(iter(row.elsewhere.items()))
    return (
        f"{where}: {count:.0f} of {total} predictions ({100 * count / total:.1f} %) fall on classes that validation "
        f"does not have, the largest share ({most:.0f}) on {worst} (means over {counted(len(row.seeds), 'run')})."
    )


def _record(
    result: Result, command: str, facts: dict[str, Any], made: Sequence[dict[str, Any]], seconds: float
) -> dict[str, Any]:
    rows = [
        {
            **{name: getattr(row, name) for name in ("start", "size", "epochs", "seeds", "elsewhere", "seconds")},
            "scores": {name: _plain(x) for name, x in row.scores.items()},
            "above": {other: {name: _plain(x) for name, x in above.items()} for other, above in row.above.items()},
        }
        for row in result.rows
    ]
    return {
        "schema": SCHEMA,
        "command": command,
        **facts,
        "made": list(made),
        "seconds": round(seconds, 1),
        "run": result.run,
        "data": result.data,
        "settings": result.settings,
        "loaded": asdict(result.loaded),
        "gate": result.gate,
        "rows": rows,
        "notes": result.notes,
        "cells": result.cells,
    }


def _plain(x: Interval) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(x).items()}


def markdown(result: Result) -> str:
    """The result as a page."""
    r, head, body = result.record, *table(result)
    run = result.run
    lines = [
        f"# Transfer of {run['task']} to {result.data['source']}",
        "",
        *([f"    {r['command']}", ""] if r["command"] else []),
        f"Pretrained: {run['path']}, {run['arch']} ({run['norm']} norm), {run['steps']} steps on {run['source']}. "
        f"Labelled: {result.data['train']} images of {result.data['classes']} classes for training, "
        f"{result.data['valid']} of {result.data['valid classes']} for validation.",
        "",
        *markdown_table(head, body),
        "",
        "Percent: mean ± standard deviation of the runs (95 % t-interval of the mean); differences are paired by seed.",
        "",
        *(f"* {escaped(note)}" for note in result.notes),
        "",
        f"{circumstances.told({n: r[n] for n in FACTS if n in r})} {r['seconds']:.0f} s of training in "
        f"{counted(len(result.cells), 'run')}.",
        "",
    ]
    return "\n".join(lines)


def _write(result: Result) -> None:
    try:
        result.folder.mkdir(parents=True, exist_ok=True)
        put_json(result.folder / RESULT, result.record)
        put(result.folder / PAGE, markdown(result).encode())
    except OSError as e:
        raise DiagnoseError(
            f"{result.folder}: cannot be written ({e.strerror or e}); finished trainings are kept: call again"
        ) from e
