"""The numbers that set the thresholds: healthy and faulty subjects, measured side by side.

python tests/bench/thresholds.py --seeds 3 > reports/thresholds.md

Faults and subjects that are held out (`registry.held_out`) are left out: no threshold may be set by them.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import math
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent / "subjects"))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from learners import digits

from diagnose import bench, registry
from diagnose.errors import NotApplicable, SubjectError
from diagnose.examination import examine
from diagnose.faults import Fault
from diagnose.subject import Subject, from_learner, from_task

SUBJECTS = Path(__file__).parent / "subjects"
UNMIX = ("unmix_classification", "unmix_regression")
UNMIX_SEEDS = 10  # of the healthy task: the gate's first customer

COLUMNS = [  # heading, check, evidence
    ("learned", "overfit-one-batch", "learned"),
    ("in eval mode", "overfit-one-batch", "learned, evaluation mode"),
    ("steps", "overfit-one-batch", "steps"),
    ("first loss above const.", "first-loss", "above the best constant"),
    ("lost to confinement", "loss-contract", "lost to the confinement"),
    ("weights moved", "weight-change", "weights moved by"),
    ("output spread", "output-spread", "relative spread"),
    ("from noise", "real-against-random", "learned from noise inputs"),
    ("permuted labels", "real-against-random", "learned from permuted labels"),
    ("easier, worst", "easier-versions", "learned on held-out rows"),
]


def measure(subject, seed: int) -> tuple[list[float | None], str]:
    """One row of the table: the numbers, and verdict with the first cause."""
    try:
        d = examine(subject, seed=seed, budget=None)
    except SubjectError as e:
        d = e.diagnosis
    values = []
    for _, check, name in COLUMNS:
        found = d.check(check)
        numbers = [e.value for e in found.evidence if e.name == name] if found else []
        values.append(min(numbers) if numbers else None)
    named = next((c.id for c in d.causes if not c.refuted), "")
    return values, d.verdict + (f": {named}" if named else "")


def span(values: list[float | None]) -> str:
    """Least and largest of several seeds."""
    known = [v for v in values if v is not None and not math.isnan(v)]
    if not known:
        return "NaN" if any(v is not None for v in values) else "–"
    low, high = min(known), max(known)
    return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} … {high:.3g}"


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("rows", nargs="*", help="subjects, and faults as 'ID in digits'; all if none is named")
    given = parser.parse_args()
    seeds = range(given.seeds)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    started = time.monotonic()
    healthy = {c.name: partial(built, c.name) for c in bench.catalogue(SUBJECTS) if not c.held_out}
    faulty = {}
    for id, fault in registry.load_all("diagnose.faults", Fault).items():
        if not fault.held_out:
            faulty[f"{id} in digits"] = lambda s, f=fault: injected(f, from_learner(digits(s)))
            faulty[f"{id} in unmix"] = lambda s, f=fault: injected(f, from_task("unmix", {}, s, "cpu"))
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    print("# The numbers behind the thresholds\n")
    print(f"`python tests/bench/thresholds.py --seeds {len(seeds)}`, {datetime.date.today()}, commit {commit}.")
    print(f"Least and largest over the seeds ({UNMIX_SEEDS} of healthy unmix), one thread.")
    print(
        "The columns are evidence of checks: `diagnose explain ID` says what each means and where its threshold is.\n"
    )
    for title, subjects in (("Healthy subjects", healthy), ("Faulty subjects", faulty)):
        print(f"## {title}\n")
        print("| subject | " + " | ".join(h for h, *_ in COLUMNS) + " | verdict |")
        print("|---" * (len(COLUMNS) + 2) + "|")
        for name, build in subjects.items():
            if given.rows and name not in given.rows:
                continue
            try:
                rows = [measure(build(s), s) for s in (range(UNMIX_SEEDS) if name in UNMIX else seeds)]
            except NotApplicable:
                continue  # a fault that this subject cannot have, or data that are not installed
            verdicts = ", ".join(dict.fromkeys(v for _, v in rows))
            print(
                f"| {name} | " + " | ".join(span(list(c)) for c in zip(*(r for r, _ in rows))) + f" | {verdicts} |",
                flush=True,
            )
        print()
    print(f"{time.monotonic() - started:.0f} s in all.")


def built(name: str, seed: int) -> Subject:
    """One subject of the catalogue."""
    made = importlib.import_module(name).build(seed)
    return made if isinstance(made, Subject) else from_learner(made)


def injected(fault: Fault, subject):
    """The subject with the fault in it."""
    fault.inject(subject.learner)
    return subject


if __name__ == "__main__":
    main()
