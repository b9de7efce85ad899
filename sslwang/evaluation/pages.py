"""What was found, as tables in a terminal, as a page of Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from sslwang.evaluation.cells import Method
from sslwang.evaluation.comparison import METHOD_NAMES, METRIC, Evaluation, sentences, share, verdicts
from sslwang.evaluation.starts import CONTRASTIVE, RANDOM, Start
from sslwang.scores import Interval, interval
from sslwang.telling import markdown_table, points

SCHEMA = 1  # of result.json
SCORES = {
    "accuracy": "over all {classes} classes",
    "accuracy masked": "outputs masked to the {valid} classes of validation",
    "balanced accuracy": "mean recall over the classes of validation",
    "calibration error": "15 bins (Guo et al. 2017); 0 is best",
}


def score_of(start: Start) -> str:
    """Its pretext score beside the score of chance, over its members: `accuracy 0.98 (chance 0.33)`."""
    scores = [m.score for m in start.members if m.score is not None]
    if not scores:
        return "–"
    chance = "" if start.chance is None else f" (chance {start.chance:.2f})"
    return f"{start.metric} {sum(scores) / len(scores):.3f}{chance}"


def seconds_of(start: Start) -> float:
    """Mean seconds of one of its pretrainings."""
    return sum(m.seconds for m in start.members) / len(start.members)


def rows(found: Evaluation, fraction: float) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the main table: a row a start, accuracy and difference to random weights by every method."""
    heads = ["start", *(h for m in found.methods for h in (METHOD_NAMES[m], "to random"))]
    heads += ["its pretext task", "seconds"]
    body = []
    for start in found.starts:
        row = [start.name]
        for method in found.methods:
            row += [_shown(found.mean(start.name, method, fraction))]
            other = found.difference(start.name, RANDOM, method, fraction) if start.kind != "random" else None
            row += [_shown(other, sign=True)]
        body.append([*row, score_of(start), f"{seconds_of(start):.0f}" if start.kind != "random" else "–"])
    return heads, body


def _shown(x: Interval | None, sign: bool = False) -> str:
    return "–" if x is None else points(x, sign)


def tables(found: Evaluation) -> list[Table]:
    """A table a fraction for the terminal: accuracy, and below it the difference to random weights, bold where 0 is
    outside its interval."""
    made = []
    for fraction in sorted(found.fractions):
        title = f"{found.facts.source}, {_labels(found, fraction)}: accuracy in %, and difference to random weights"
        table = Table("start", *(METHOD_NAMES[m] for m in found.methods), title=escape(title))
        for start in found.starts:
            table.add_row(escape(start.name), *(_cell(found, start, method, fraction) for method in found.methods))
        made.append(table)
    return made


def _cell(found: Evaluation, start: Start, method: Method, fraction: float) -> str:
    mean = escape(_shown(found.mean(start.name, method, fraction)))
    difference = found.difference(start.name, RANDOM, method, fraction)
    if start.kind == "random" or difference is None:
        return mean
    told = escape(points(difference, sign=True))
    return f"{mean}\n[bold]{told}[/]" if difference.excludes(0) else f"{mean}\n{told}"


def markdown(found: Evaluation, commands: Sequence[str], where: str, pictures: Mapping[str, str] | None = None) -> str:
    """The page.

    Args:
        commands: that made it. where: commit, versions and machine, a sentence.
        pictures: addresses of the figures by title.
    """
    lines = [f"# Transfer to {found.facts.source}", "", *(f"    {c}" for c in commands), ""]
    lines += [*section(found), ""]
    for title, address in (pictures or {}).items():
        lines += [f"![{title}]({address})", ""]
    lines += [where, ""]
    return "\n".join(lines)


def section(found: Evaluation) -> list[str]:
    """Lines of what was found, to be part of a page."""
    lines = [f"- {s}" for s in sentences(found)] + [""]
    for fraction in sorted(found.fractions):
        heads, body = rows(found, fraction)
        lines += [
            f"Accuracy in % with {_labels(found, fraction)}, mean and 95 % t-interval over seeds; beside it the paired "
            "difference to random weights.",
            "",
            *markdown_table(heads, body),
            "",
        ]
    lines += [
        f"Other scores with {share(found.few)} of the labels, mean over seeds:",
        "",
        *markdown_table(*_others(found)),
        "",
    ]
    if found.missing:
        lines += ["Not computed:", "", *(f"- {m}" for m in found.missing), ""]
    return lines + _how(found)


def _labels(found: Evaluation, fraction: float) -> str:
    count = found.labels(fraction)
    return f"{share(fraction)} of the labels" + (f" ({count:,} images)" if count else "")


def _others(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    body = []
    for method in found.methods:
        for start in found.starts:
            told = [found.mean(start.name, method, found.few, name) for name in SCORES]
            if any(told):
                cells = [
                    "–" if x is None else f"{x.mean:.3f}" if "error" in name else f"{100 * x.mean:.1f}"
                    for name, x in zip(SCORES, told)
                ]
                body.append([METHOD_NAMES[method], start.name, *cells])
    return ["method", "start", *SCORES], body


def _how(found: Evaluation) -> list[str]:
    p, f, tuning = found.protocol, found.facts, found.protocol.tuning
    told = {n: v.format(classes=len(f.classes), valid=f.valid_classes) for n, v in SCORES.items()}
    seeds = ", ".join(map(str, found.seeds))
    lines = [
        f"How: {f.train:,} images of {len(f.classes)} classes for training, {f.valid:,} of {f.valid_classes} classes "
        f"for validation, at {p.size} px, {_inputs(found)}; the best constant scores {100 * f.majority:.1f} %. "
        f"Seeds {seeds}; a seed draws the labelled images (stratified, at least one a class), the head and the order "
        "of fine-tuning, and takes the encoder pretrained under it. Random weights of a seed are those that every "
        "pretraining under that seed starts from.",
        f"Pretraining: {found.starts[0].budget}, the same for all; only rows are counted, and tasks show 1 to 4 images "
        f"a row. Seconds are of one pretraining by the clock, mean over its seeds. {_gates(found)}",
    ]  # fmt: skip
    if {"knn", "probe"} & set(found.methods):
        lines.append(
            "Frozen features: mean and maximum of the encoder's maps. Nearest neighbours: 20 or as many as there are "
            "labels, weight exp(cosine / 0.07) of centred features (Wu et al. 2018). Linear probe: logistic "
            "regression, C chosen on held-out parts of the training labels alone."
            + (f" Both are averaged over {p.draws} choices of the labelled images a seed." if p.draws > 1 else "")
        )
    if "finetune" in found.methods:
        lines.append(
            f"Fine-tuning: {tuning.steps} steps, unfreeze={tuning.unfreeze}, "
            f"{'classes drawn equally often' if tuning.balanced else 'images drawn as they are'}; from random weights "
            "this is training from scratch."
        )
    lines.append("Scores: " + "; ".join(f"{n}, {v}" for n, v in told.items()) + ".")
    return [line for pair in zip(lines, [""] * len(lines)) for line in pair][:-1]


def _inputs(found: Evaluation) -> str:
    if found.protocol.inputs == "standardised":
        return "each standardised by itself, channel by channel, as hardened pretext tasks show them"
    return "all on one scale, as raw pretext tasks show them"


def _gates(found: Evaluation) -> str:
    told = sorted({m.gate for s in found.starts for m in s.members if m.gate})
    return f"Gate: {', '.join(told)}." if told else ""


def result(found: Evaluation, commands: Sequence[str], circumstances: Mapping[str, Any]) -> dict:
    """The same as JSON holds it: starts, every cell, summaries, comparisons and sentences."""
    summaries = [
        {
            "start": start.name,
            "method": method,
            "fraction": fraction,
            "labels": found.labels(fraction),
            "scores": {name: _interval(found.mean(start.name, method, fraction, name)) for name in SCORES},
            "to_random": _interval(found.difference(start.name, RANDOM, method, fraction)),
            f"to_{CONTRASTIVE}": _interval(found.difference(start.name, CONTRASTIVE, method, fraction)),
        }
        for fraction in sorted(found.fractions)
        for method in found.methods
        for start in found.starts
    ]
    return {
        "schema": SCHEMA,
        "commands": list(commands),
        **circumstances,
        "data": asdict(found.facts),
        "protocol": asdict(found.protocol),
        "baselines": found.baselines,
        "metric": METRIC,
        "seeds": list(found.seeds),
        "starts": [_start(s) for s in found.starts],
        "summaries": summaries,
        "verdicts": [
            {
                "start": v.start, "method": v.method, "fraction": fraction, "beats_random": v.beats,
                "below_random": v.worse, f"within_3_points_of_{CONTRASTIVE}": v.close,
            }
            for fraction in sorted(found.fractions)
            for v in verdicts(found, fraction)
        ],
        "sentences": sentences(found),
        "missing": list(found.missing),
        "other_code": list(found.other_code),
        "cells": list(found.cells),
    }  # fmt: skip


def _start(start: Start) -> dict:
    scores = [m.score for m in start.members if m.score is not None]
    return {
        "name": start.name,
        "kind": start.kind,
        "task": start.task,
        "settings": start.settings,
        "steps": start.budget.steps if start.kind != "random" else 0,
        "metric": start.metric,
        "chance": start.chance,
        "score": _interval(interval(scores)) if scores else None,
        "seconds": seconds_of(start),
        "which": start.which,
        "members": [asdict(m) for m in start.members],
    }


def _interval(x: Interval | None) -> dict | None:
    if x is None:
        return None
    return {"mean": x.mean, "low": x.low, "high": x.high, "sd": x.sd, "n": x.n, "level": x.level}
