"""Starts: the encoders that an evaluation compares, every one for several seeds, and where their weights come from.

Beside the runs that are asked about stand random weights, an autoencoder and a contrastive baseline, pretrained with
the same steps, batch size, data, size and architecture. Under one seed all of them start from one and the same random
encoder, for a task draws the encoder first; so a difference between two starts of one seed is a paired one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from diagnose.errors import DiagnoseError
from diagnose.task import flat_settings
from sslwang.evaluation.store import key_of
from sslwang.models.encoder import ImageEncoder, random_encoder
from sslwang.pretext import DataSettings, Pretext
from sslwang.pretrain import Asked, Interrupted, code_since, pretrain, resume, task_of
from sslwang.runs import PretrainRun, open_run, unfinished
from sslwang.transfer import Which, weights_digest

RANDOM, AUTOENCODER, CONTRASTIVE = "random", "autoencode", "simclr"
LENGTHS = ("items", "valid_items", "data.workers", "data.pin")  # settings of how much is drawn and how, not of what
SHARED = (
    *("size", "bs", "encoder.arch", "encoder.norm"),
    *(name for name in (f"data.{n}" for n in DataSettings.model_fields) if name not in LENGTHS),
)  # settings that a baseline takes over
NO_METRICS = ("epoch", "steps", "train_loss", "valid_loss")  # of a row of a run's history
OPTIONS = ("schedule", "accumulate", "precision")  # of a pretraining, that a baseline takes over


@dataclass(frozen=True)
class Budget:
    """What all starts of one evaluation have in common."""

    steps: int
    settings: dict[str, Any]  # `SHARED` ones
    options: dict[str, Any] = field(default_factory=dict)  # `OPTIONS` of `sslwang.pretrain.Options`

    @classmethod
    def of(cls, run: PretrainRun) -> Budget:
        """The budget of one run."""
        told = run.record.get("options") or {}
        return cls(run.steps, shared(run.settings), {n: told[n] for n in OPTIONS if n in told})

    @property
    def size(self) -> int:
        """px."""
        return int(self.settings["size"])

    def __str__(self) -> str:
        s = self.settings
        return (
            f"{self.steps} steps of {s['bs']} rows, {s['size']} px, encoder {s['encoder.arch']} "
            f"({s['encoder.norm']} norm), images of {s['data.source']}"
        )


def shared(settings: dict[str, Any]) -> dict[str, Any]:
    """Of flat settings those that every start of an evaluation has to have alike."""
    return {n: settings[n] for n in SHARED if n in settings}


@dataclass(frozen=True)
class Member:
    """One encoder of a start.

    Args:
        seed: of its weights, and of its pretraining.
        run: the folder it comes from; None for random weights.
        key: hash of its tensors.
        seconds: of its pretraining.
        score: of its pretext task on held-out rows, under the task's metric; None where there is none.
        gate: whether a pass was asked for before it was pretrained, in words.
    """

    seed: int
    run: Path | None
    key: str
    seconds: float = 0.0
    score: float | None = None
    gate: str = ""


@dataclass(frozen=True)
class Start:
    """A way to come by an encoder.

    Args:
        name: for tables and files.
        kind: `random`, `baseline` or `pretext`.
        budget: of its members.
        members: one a pretraining seed, in the order of the seeds.
        task, settings: that it was pretrained with; settings are flat.
        metric, chance: of its pretext task.
        which: the last weights of a run or the best.
    """

    name: str
    kind: Literal["random", "baseline", "pretext"]
    budget: Budget
    members: tuple[Member, ...]
    task: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    metric: str = ""
    chance: float | None = None
    which: Which = "last"

    def member(self, seed: int) -> Member:
        """The encoder that is judged under a seed: of the same seed where there is one, else the seeds in turn."""
        same = [m for m in self.members if m.seed == seed]
        return same[0] if same else self.members[seed % len(self.members)]

    def encoder(self, member: Member) -> ImageEncoder:
        """A new copy of a member's encoder.

        Raises:
            DiagnoseError: its run is gone, or holds other weights than when the evaluation began.
        """
        s = self.budget.settings
        if member.run is None:
            return random_encoder(s["encoder.arch"], s["encoder.norm"], member.seed)
        encoder = open_run(member.run).encoder(self.which)
        if weights_digest(encoder) != member.key:
            raise DiagnoseError(f"{member.run}: its encoder has changed since the evaluation began; start it again")
        return encoder


def named(task: Pretext) -> str:
    """A task with those of its settings that are not the default and not shared: `unmix target=regression`."""
    usual = flat_settings(type(task).Settings())
    own = {
        n: v for n, v in flat_settings(task.settings).items() if v != usual[n] and n not in SHARED and n not in LENGTHS
    }
    return " ".join([task.id, *(f"{n}={_short(v)}" for n, v in own.items())])


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def random_start(budget: Budget, seeds: Iterable[int]) -> Start:
    """Random weights, one draw a seed."""
    arch, norm = budget.settings["encoder.arch"], budget.settings["encoder.norm"]
    members = tuple(Member(seed, None, weights_digest(random_encoder(arch, norm, seed))) for seed in sorted(set(seeds)))
    return Start(RANDOM, "random", budget, members)


def start_of(runs: Sequence[PretrainRun], which: Which = "last") -> Start:
    """One start of runs of one task, settings and budget that differ in their seed.

    Raises:
        DiagnoseError: a run is not finished, or two have the same seed.
    """
    first = runs[0]
    seeds = [run.seed for run in runs]
    for run in runs:
        if not run.finished:
            raise DiagnoseError(f"{run.path}: not finished; go on with it by {run.resuming}")
        if seeds.count(run.seed) > 1:
            raise DiagnoseError(f"{run.path}: another run of {run.task} with these settings has seed {run.seed} too")
    task = task_of(first.task, first.settings)
    members = tuple(_member(run, which) for run in sorted(runs, key=lambda run: run.seed))
    kind = "baseline" if named(task) in (AUTOENCODER, CONTRASTIVE) else "pretext"
    return Start(
        named(task), kind, Budget.of(first), members, task.id, dict(first.settings), task.metric, task.chance, which
    )


def starts_of(runs: Iterable[PretrainRun], which: Which = "last") -> list[Start]:
    """Runs in groups of one task and settings each, in the order in which they are given.

    Raises:
        DiagnoseError: runs of different budgets, which no table can compare.
    """
    groups: dict[str, list[PretrainRun]] = {}
    budget: Budget | None = None
    for run in runs:
        budget = budget or Budget.of(run)
        other = Budget.of(run)
        if other != budget:
            names = [n for n, v in other.settings.items() if budget.settings.get(n) != v]
            names += [n for n, v in other.options.items() if budget.options.get(n) != v]
            names += ["steps"] * (other.steps != budget.steps)
            raise DiagnoseError(
                f"{run.path}: pretrained with other {', '.join(names)} than the first run; "
                "evaluate them one by one, each beside baselines of its own"
            )
        rest = {n: v for n, v in run.settings.items() if n not in LENGTHS}
        groups.setdefault(json.dumps([run.task, rest], sort_keys=True, default=str), []).append(run)
    made = [start_of(group, which) for group in groups.values()]
    for start in made:
        if sum(s.name == start.name for s in made) > 1:
            raise DiagnoseError(f"two of the runs given would both be called {start.name}; evaluate them one by one")
    return made


def _member(run: PretrainRun, which: Which) -> Member:
    gate = run.record.get("gate") or {}
    told = f"no gate ({gate['skipped']})" if "skipped" in gate else "behind the gate"
    seconds = float(run.record.get("seconds") or 0.0)
    return Member(run.seed, run.path, weights_digest(run.encoder(which)), seconds, pretext_score(run, which), told)


def pretext_score(run: PretrainRun, which: Which) -> float | None:
    """The first metric of the task on held-out rows, as the run recorded it for the weights in question."""
    history = run.record.get("history") or []
    if which == "best" and run.record.get("best"):
        history = [row for row in history if row["epoch"] == run.record["best"]["epoch"]]
    metrics = [n for n in history[-1] if n not in NO_METRICS] if history else []
    value = history[-1][metrics[0]] if metrics else None
    return None if value is None else float(value)


def pretrained(
    task: Pretext,
    steps: int,
    seed: int,
    out: Path,
    gate: Asked = "skip",
    device: str = "cpu",
    changed_code: bool = False,
    **options: Any,
) -> PretrainRun:
    """The run of a task under its settings, steps and seed: the one below `out`, if need be gone on with, or a new one.

    Args:
        gate, options: as `pretrain` takes them. Whether a pass was asked for is in the run's record.
        changed_code: take a run of other code as it is, or go on with it; else it is left and a new one made.

    Raises:
        DiagnoseError: it cannot be trained or written.
        Interrupted: by a signal, after a checkpoint.
    """
    settings = {n: v for n, v in flat_settings(task.settings).items() if n != "data.workers"}
    folder = out / f"{task.id}-{key_of(task.id, settings, steps, seed, options)}"
    try:
        run = open_run(folder)
        if changed_code or not code_since(run, task):
            return run
    except DiagnoseError:
        pass  # none that is finished
    for run in unfinished(folder):
        try:
            return resume(run.path, changed_code=changed_code)
        except Interrupted:
            raise
        except DiagnoseError:
            continue  # its code has changed, or it cannot be read
    return pretrain(task, folder, steps=steps, seed=seed, device=device, gate=gate, watch=False, **options)


def baseline_tasks(budget: Budget) -> list[Pretext]:
    """Autoencoder and contrastive baseline under a budget; everything else is their default."""
    return [task_of(name, budget.settings) for name in (AUTOENCODER, CONTRASTIVE)]
