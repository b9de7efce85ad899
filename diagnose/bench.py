"""The bench: every fault in every subject, and every healthy subject, each examined in a process of its own.

What it answers: how many faulty runs are detected, how often the cause that was put in stands first, how often a sound
run is failed, and how long a verdict takes. Results are appended one JSON line each as they come, so that a bench that
was interrupted goes on where it stopped. Nothing here imports torch: only the workers do.

How it counts, with the strictest reading first:

- *failed*: the verdict is fail. *Detected*: failed, or warned with the injected cause named first.
- *first right*: the verdict is not pass and the first cause named is the injected id exactly; *within three* likewise.
  A cause that was tried and refuted is not named. "Or the same defect" also counts ids that a fault lists in `also`.
- *proven*: of those with the right cause first, how many have it proven.
- A pair that ends without a verdict (the worker crashed, was stopped at twice the budget, or raised) is a miss if it
  was faulty and a false fail if it was sound. A fault that a subject cannot have is not counted, and listed.
- Intervals are Wilson's at 95 % (Wilson 1927; Brown, Cai and DasGupta 2001). Seeds of one pair resemble each other, so
  they are somewhat too narrow where several were run.
- *held out*: pairs whose fault or subject no threshold may be set by (`registry.held_out`), reported apart.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

from diagnose import registry
from diagnose.errors import DiagnoseError, NotApplicable, SubjectError

HEALTHY = "healthy"  # stands for "no fault" among the ids of faults
CATALOGUE = Path("tests/bench/subjects")
HARD_LIMIT = 2.0  # times the budget, for building and for examining each
START_LIMIT = 300.0  # seconds for Python and torch to start, whatever the budget
Z = 1.959964  # of a two-sided 95 % interval


# ---- what is examined --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One healthy subject: a file of the catalogue, or a user's own function.

    Attributes:
        spec: path/file.py:function or package.module:function.
        odd: why it looks ill and is right; "" for an ordinary subject.
        held_out: no threshold may be set by it.
        smoke: ids of the faults (and "healthy") that the smoke part puts into it.
        seeded: the function takes the seed, as those of the catalogue do.
        digest: SHA-256 of its source, so far as it is known.
    """

    name: str
    spec: str
    doc: str = ""
    odd: str = ""
    held_out: bool = False
    smoke: tuple[str, ...] = ()
    seeded: bool = True
    digest: str = ""


@dataclass(frozen=True)
class Pair:
    """A fault in a subject under a seed; `fault` is "healthy" for the subject as it is."""

    fault: str
    case: Case
    seed: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.fault} in {self.case.name}, seed {self.seed}"


@dataclass
class Row:
    """The result of one pair.

    Attributes:
        fingerprint: of the source of the package, of the subject, the device and the versions of torch and fastai.
        cause: what the diagnosis must name, "" for a healthy subject. also: ids that describe the very same defect.
        outcome: "examined"; "crashed", "timed out" and "error" end without a verdict; "not applicable" (the subject
            cannot have this fault) and "unavailable" (the subject's data are not installed) are not counted.
        reason: of any outcome but "examined".
        verdict: "pass", "warn" or "fail"; "" without one.
        causes: those of the diagnosis in order, as (id, "proven" | "suspected" | "refuted").
        checks: ids of the checks that failed or warned, with their status.
        seconds: of the examination, from the built subject to the verdict.
    """

    fault: str
    subject: str
    seed: int
    budget: float | None
    fingerprint: str
    odd: str = ""
    held_out: bool = False
    cause: str = ""
    also: list[str] = field(default_factory=list)
    outcome: str = "examined"
    reason: str = ""
    verdict: str = ""
    summary: str = ""
    causes: list[list[str]] = field(default_factory=list)
    checks: dict[str, str] = field(default_factory=dict)
    seconds: float = math.nan

    @property
    def key(self) -> tuple:
        """What makes a row the same as another run of it."""
        return self.fault, self.subject, self.seed, self.budget, self.fingerprint

    @property
    def counts(self) -> bool:
        """Whether it belongs into any share."""
        return self.outcome not in ("not applicable", "unavailable")

    @property
    def examined(self) -> bool:
        """Whether there is a verdict."""
        return self.outcome == "examined"

    @property
    def healthy(self) -> bool:
        """Whether no fault was put in."""
        return self.fault == HEALTHY

    @property
    def named(self) -> list[str]:
        """Causes in order without those refuted; none where the verdict is pass."""
        return [id for id, how in self.causes if how != "refuted"] if self.verdict in ("warn", "fail") else []

    @property
    def first_right(self) -> bool:
        """The injected cause is named first, exactly."""
        return self.named[:1] == [self.cause]

    @property
    def first_same(self) -> bool:
        """The injected cause, or an id that the fault declares to be the very same defect, is named first."""
        return bool({self.cause, *self.also} & set(self.named[:1]))

    @property
    def within_three(self) -> bool:
        """The injected cause is among the first three."""
        return self.cause in self.named[:3]

    @property
    def same_within_three(self) -> bool:
        """The injected cause or the very same defect is among the first three."""
        return bool({self.cause, *self.also} & set(self.named[:3]))

    @property
    def failed(self) -> bool:
        """The verdict is fail."""
        return self.verdict == "fail"

    @property
    def detected(self) -> bool:
        """Failed, or warned with the injected cause first."""
        return self.failed or (self.verdict == "warn" and self.first_right)

    @property
    def proven(self) -> bool:
        """The injected cause stands first and is proven."""
        return self.first_right and [self.cause, "proven"] in self.causes

    @property
    def false_fail(self) -> bool:
        """For a healthy subject: failed, or no verdict at all."""
        return self.failed or not self.examined


def catalogue(folder: Path) -> list[Case]:
    """The subjects of a folder, one a file, read without importing any.

    A file defines `build(seed)` which gives a Learner (or a Subject), and has a docstring, `held_out`, `odd` and
    `smoke` as literals. `build` raises NotApplicable where its data are not installed. Files with a leading underscore
    are helpers.

    Raises:
        DiagnoseError: no such folder, no subject in it, or a file without `build`.
    """
    if not folder.is_dir():
        raise DiagnoseError(
            f"--catalogue {folder}: no such folder; run in a checkout of the project, name another, or use --learner"
        )
    shared = "".join(p.read_text(encoding="utf-8") for p in sorted(folder.glob("_*.py")))
    cases = [_case(path, shared) for path in sorted(folder.glob("[!_]*.py"))]
    if not cases:
        raise DiagnoseError(f"--catalogue {folder}: it holds no subject")
    return cases


def _case(path: Path, shared: str) -> Case:
    text = path.read_text(encoding="utf-8")
    try:
        tree = ast.parse(text)
        known = {
            target.id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in ("held_out", "odd", "smoke")
        }
    except (SyntaxError, ValueError) as e:
        raise DiagnoseError(f"{path}: cannot be read as a subject ({e})") from e
    if not any(isinstance(node, ast.FunctionDef) and node.name == "build" for node in tree.body):
        raise DiagnoseError(f"{path}: a subject defines build(seed)")
    doc, digest = ast.get_docstring(tree) or "", hashlib.sha256((text + shared).encode()).hexdigest()
    return Case(path.stem, f"{path.resolve()}:build", doc, **known, digest=digest)


def own_case(spec: str) -> Case:
    """A user's own subject.

    Raises:
        DiagnoseError: malformed, or no such file.
    """
    place, _, function = spec.rpartition(":")
    if not place or not function:
        raise DiagnoseError(f"--learner {spec}: write it as path/file.py:function or package.module:function")
    if not place.endswith(".py"):
        return Case(f"{place.rpartition('.')[2]}-{function}", spec, seeded=False)
    path = Path(place).resolve()
    if not path.is_file():
        raise DiagnoseError(f"--learner {spec}: no file {place} (looked in {Path.cwd()})")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Case(f"{path.stem}-{function}", f"{path}:{function}", seeded=False, digest=digest)


def chosen(wanted: str, known: Iterable[str], option: str) -> list[str]:
    """Ids of a comma-separated list, or all.

    Raises:
        DiagnoseError: an id that is not known.
    """
    known = list(known)
    ids = [id.strip() for id in wanted.split(",") if id.strip()]
    if ids == ["all"]:
        return known
    for id in ids:
        if id not in known:
            import difflib

            near = ", ".join(difflib.get_close_matches(id, known, n=3)) or ", ".join(known[:8]) + ", ..."
            raise DiagnoseError(f"{option} {id}: nothing is called so; there is {near}")
    if not ids:
        raise DiagnoseError(f"{option}: name one at least, or all")
    return ids


def pairs_of(
    cases: Iterable[Case],
    faults: Iterable[str],
    seeds: Iterable[int],
    smoke: bool = False,
    into_odd: bool = False,
) -> list[Pair]:
    """Every pair, in an order that mixes faults and subjects, the same on every machine: what is done by any moment is
    a fair sample, and the time that is left can be told.

    Args:
        smoke: only what the subjects name as the smoke part.
        into_odd: put faults into the odd-but-right subjects too, which else stay as they are.
    """
    pairs = [
        Pair(fault, case, seed)
        for case in cases
        for fault in faults
        for seed in seeds
        if (fault in case.smoke if smoke else fault == HEALTHY or into_odd or not case.odd)
    ]
    return sorted(pairs, key=lambda p: hashlib.sha256(p.name.encode()).digest())


@functools.cache
def snapshot() -> Path:
    """A folder with a copy of this package as it is now, which the workers import: a bench takes hours, and work on the
    source goes on meanwhile. One a process; it is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    package = Path(__file__).parent
    shutil.copytree(package, folder / package.name)
    return folder


def package_digest() -> str:
    """SHA-256 over the source of the snapshot, and the versions that a verdict depends on."""
    h = hashlib.sha256()
    for path in sorted(snapshot().rglob("*.py")):
        h.update(path.relative_to(snapshot()).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for name in ("torch", "fastai"):
        h.update(importlib.metadata.version(name).encode() + b"\0")
    return h.hexdigest()


# ---- running -----------------------------------------------------------------------------------------------------


class Told:
    """What a display may want to hear; silent."""

    def began(self, pair: Pair) -> None:
        """A worker took this pair."""

    def ended(self, row: Row) -> None:
        """A row was written."""


class Bench:
    """Runs pairs over processes and appends a line for each to `rows`.

    Args:
        rows: the file of results; what it holds already is not run again.
        budget: seconds for each examination; None for no bound, and no hard limit then.
        each: of each fault only so many pairs, the first in order to which it applies; healthy ones all stay.
        device: "cpu", "cuda", ...: on the CPU the workers do not see any other device.
        jobs: processes at a time; the threads of each are its share of OMP_NUM_THREADS, or of the cores.
    """

    def __init__(
        self,
        rows: Path,
        budget: float | None = 60.0,
        device: str = "cpu",
        jobs: int = 1,
        each: int | None = None,
    ):
        self.each = each
        self.file, self.budget, self.device, self.jobs = rows, budget, device, jobs
        self.threads = max(1, threads() // jobs)
        self.digest = package_digest()
        self.rows = {row.key: row for row in read_rows(rows)}

    def row(self, pair: Pair, **known: Any) -> Row:
        """An empty row of a pair."""
        own = hashlib.sha256(f"{self.digest} {pair.case.digest} {self.device}".encode()).hexdigest()[:16]
        out = pair.case.held_out or (pair.fault != HEALTHY and registry.held_out(pair.fault))
        return Row(pair.fault, pair.case.name, pair.seed, self.budget, own, pair.case.odd, out, **known)

    def done(self, pairs: Iterable[Pair]) -> list[Row]:
        """Rows that are there already."""
        return [self.rows[key] for pair in pairs if (key := self.row(pair).key) in self.rows]

    def state(self, pairs: Iterable[Pair]) -> tuple[int, int]:
        """How many pairs are done, and of how many in all, so far as it is known which faults apply."""
        pairs = list(pairs)
        rows, by_fault = self.done(pairs), Counter(p.fault for p in pairs)
        if self.each is None:
            return len(rows), len(pairs)
        counted = Counter(r.fault for r in rows if r.counts)
        apart = Counter(r.fault for r in rows if not r.counts)
        totals = {
            fault: n - apart[fault] if fault == HEALTHY else min(self.each, n - apart[fault])
            for fault, n in by_fault.items()
        }
        return sum(min(counted[fault], n) for fault, n in totals.items()), sum(totals.values())

    def run(self, pairs: Iterable[Pair], told: Told | None = None) -> None:
        """Examine every pair that has no row yet.

        Raises:
            KeyboardInterrupt: Ctrl-C; the workers are ended, what was written stays.
            DiagnoseError: the workers cannot be started.
        """
        told, pairs = told or Told(), list(pairs)
        todo = [p for p in pairs if self.row(p).key not in self.rows]
        begun = Counter(row.fault for row in self.done(pairs) if row.counts)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with _environment(self.device, self.threads), tempfile.TemporaryDirectory(prefix="bench-") as logs:
            self._run(todo, begun, told, Path(logs))

    def _run(self, todo: list[Pair], begun: Counter[str], told: Told, logs: Path) -> None:
        live: list[_Worker] = []
        try:
            while True:
                while len(live) < self.jobs and (pair := self._next(todo, begun)):
                    todo.remove(pair)
                    begun[pair.fault] += 1
                    worker = _Worker(self, pair, logs / f"{len(todo)}.log")
                    live.append(worker)  # before it is started, so that an interrupt at any moment ends it
                    worker.start()
                    told.began(pair)
                if not live:
                    break
                until = min(w.deadline for w in live) - time.monotonic()
                heard = [w.process.sentinel for w in live] + [w.pipe for w in live if not w.pipe.closed]
                connection.wait(heard, None if math.isinf(until) else max(until, 0.0))
                for worker in list(live):
                    if row := worker.result():
                        live.remove(worker)
                        begun[row.fault] -= not row.counts
                        self._write(row)
                        told.ended(row)
        finally:
            for worker in live:
                worker.end()

    def _next(self, todo: list[Pair], begun: Counter[str]) -> Pair | None:
        "The next pair whose fault has not been seen often enough, counting those that are being examined."
        return next((p for p in todo if self.each is None or p.fault == HEALTHY or begun[p.fault] < self.each), None)

    def _write(self, row: Row) -> None:
        self.rows[row.key] = row
        with self.file.open("a+b") as f:
            if f.tell():
                f.seek(-1, os.SEEK_END)
                if f.read(1) != b"\n":  # the last line was cut short when an earlier bench was killed
                    f.write(b"\n")
            f.write((json.dumps(_jsonable(asdict(row)), ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_rows(path: Path) -> list[Row]:
    """Rows of a file of results; lines that cannot be read (one that was cut short by a kill) are passed over."""
    rows, names = [], {f.name for f in fields(Row)}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError):
                row = Row(**{k: v for k, v in json.loads(line).items() if k in names})
                row.seconds = math.nan if row.seconds is None else row.seconds
                rows.append(row)
    return rows


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """Threads to share out: OMP_NUM_THREADS if it is set, else one a core."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) else cores()


def _jsonable(row: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}


@contextlib.contextmanager
def _environment(device: str, threads: int) -> Iterator[None]:
    "What workers inherit: variables, and where they import this package from. This process gets its own back."
    new = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    if device == "cpu":
        new["CUDA_VISIBLE_DEVICES"] = ""
    # the server that forks workers reads its path from here alone, and would else look into the current folder first
    new["PYTHONPATH"] = os.pathsep.join(filter(None, [str(snapshot()), os.environ.get("PYTHONPATH")]))
    new["PYTHONSAFEPATH"] = "1"
    before = {name: os.environ.get(name) for name in new}
    os.environ.update(new)
    sys.path.insert(0, str(snapshot()))
    try:
        yield
    finally:
        sys.path.remove(str(snapshot()))
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _context(device: str) -> Any:
    """How workers are started. A server that has imported torch forks each of them, which saves seconds a pair; CUDA
    does not outlive a fork, and fastai asks for it when it is imported, so with CUDA each starts afresh."""
    if device != "cpu" or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    packages = ("diagnose.checks", "diagnose.causes", "diagnose.faults")
    context.set_forkserver_preload(
        ["diagnose.examination", "diagnose.bench", *(e.module for p in packages for e in registry.entries(p))]
    )
    return context


class _Worker:
    "One process with one pair."

    def __init__(self, bench: Bench, pair: Pair, log: Path):
        self.bench, self.pair, self.log, self.doing = bench, pair, log, "starting"
        self.known: dict[str, Any] = {}
        self.limit = math.inf if bench.budget is None else HARD_LIMIT * bench.budget
        self.pipe, self.far = multiprocessing.Pipe(duplex=False)
        arguments = (self.far, pair, bench.budget, bench.device, bench.threads, str(log), str(Path.cwd()))
        self.process = _context(bench.device).Process(target=_work, args=arguments, name=pair.name)
        self.deadline = math.inf

    def start(self) -> None:
        "Start the process."
        self.deadline = time.monotonic() + START_LIMIT
        try:
            with _quiet_start():
                self.process.start()
        except (EOFError, ConnectionError) as e:
            raise DiagnoseError(
                f"workers cannot be started ({type(e).__name__}); `python -c 'import diagnose.examination'` says why"
            ) from e
        self.far.close()

    def result(self) -> Row | None:
        "The row, once there is one."
        row = None
        try:
            while row is None and not self.pipe.closed and self.pipe.poll():
                row = self._heard(*self.pipe.recv())
        except (EOFError, OSError):
            self.pipe.close()
        if row is None and time.monotonic() >= self.deadline:
            self.end()
            limit = START_LIMIT if self.doing == "starting" else self.limit
            return self._row(outcome="timed out", reason=f"no verdict after {limit:.0f} s: {self.doing}")
        if row is None and not self.process.is_alive() and (self.pipe.closed or not self.pipe.poll()):
            self.process.join()
            row = self._row(outcome="crashed", reason=self._crash())
        if row is not None:
            self.process.join(10)
            self.end()
        return row

    def _heard(self, what: str, value: Any) -> Row | None:
        if what == "row":
            return self._row(**value)
        if what == "fault":
            self.known = value
        elif what == "stage":
            self.deadline = time.monotonic() + self.limit
        if what in ("stage", "doing"):
            self.doing = value
        return None

    def _row(self, **values: Any) -> Row:
        return self.bench.row(self.pair, **{**self.known, **values})

    def _crash(self) -> str:
        code = self.process.exitcode
        how = f"exit code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.is_file() else []
        frames = [line.strip() for line in lines if line.startswith("  File ")]  # faulthandler's: the innermost first
        last = (frames[:1] or lines[-1:] or [""])[0][:200]
        return f"{how} while {self.doing}" + (f": {last}" if last else "")

    def end(self) -> None:
        "End the process and what it started."
        if self.process.pid is not None and self.process.is_alive():
            with contextlib.suppress(ProcessLookupError, PermissionError, AttributeError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
            self.process.join(10)
        self.pipe.close()


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    "Torch, imported by the server, warns of what no user can act on."
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


# ---- in the worker -----------------------------------------------------------------------------------------------


def _work(pipe: Any, pair: Pair, budget: float | None, device: str, threads: int, log: str, folder: str) -> None:
    "Examines one pair; tells its row through `pipe`."
    import faulthandler

    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C reaches the bench only, which then ends this process with all that it started
    with open(log, "w", buffering=1) as file:
        os.dup2(file.fileno(), 1)  # by descriptor: C code writes there too
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        faulthandler.enable(file)
        os.chdir(folder)
        warnings.simplefilter("ignore")
        multiprocessing.set_start_method(None, force=True)  # loaders start workers as in a run, not as the bench does
        import torch

        torch.set_num_threads(threads)
        try:
            values = _examined(pipe, pair, budget, device)
        except Exception as e:
            values = {"outcome": "error", "reason": _one_line(e)}
        pipe.send(("row", values))


def _examined(pipe: Any, pair: Pair, budget: float | None, device: str) -> dict[str, Any]:
    from diagnose.examination import Progress, examine
    from diagnose.faults import Fault
    from diagnose.isolate import seed_everything
    from diagnose.loads import recording

    fault = None
    if pair.fault != HEALTHY:
        entry = next(e for e in registry.entries("diagnose.faults") if e.id == pair.fault)
        cls = registry.load(entry, Fault)
        cls.id, cls.doc = entry.id, entry.doc
        fault = cls()
        pipe.send(("fault", {"cause": fault.cause, "also": list(fault.also)}))
    pipe.send(("stage", "building the subject"))
    with recording() as record:
        try:
            subject = _built(pair.case, pair.seed, device)
        except NotApplicable as e:
            return {"outcome": "unavailable", "reason": str(e)}
        if fault:
            seed_everything(pair.seed)
            try:
                fault.inject(subject.learner)
            except NotApplicable as e:
                return {"outcome": "not applicable", "reason": str(e)}
            except Exception as e:
                return {"outcome": "error", "reason": f"injecting the fault: {_one_line(e)}"}
    subject.loads = record.loads(subject.learner.model)
    pipe.send(("stage", "the examination"))
    progress = Progress(doing=lambda text: pipe.send(("doing", text)))
    try:
        diagnosis = examine(subject, pair.seed, budget, progress=progress)
    except SubjectError as e:
        if e.diagnosis is None:
            raise
        diagnosis = e.diagnosis
    how = {(True, False): "proven", (False, True): "refuted"}
    return {
        "verdict": diagnosis.verdict,
        "summary": diagnosis.summary,
        "causes": [[c.id, how.get((c.proven, c.refuted), "suspected")] for c in diagnosis.causes],
        "checks": {c.id: c.status for c in diagnosis.checks if c.status in ("warn", "fail")},
        "seconds": diagnosis.seconds,
    }


def _built(case: Case, seed: int, device: str) -> Any:
    from diagnose.isolate import seed_everything
    from diagnose.subject import Subject, from_spec

    if not case.seeded:
        return from_spec(case.spec, seed, device)
    import importlib.util

    from fastai.torch_core import default_device

    default_device(device != "cpu")
    path = Path(case.spec.rpartition(":")[0])
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # pickling looks a module up by name
    spec.loader.exec_module(module)
    seed_everything(seed)
    made = module.build(seed)
    return made if isinstance(made, Subject) else Subject(case.name, case.spec, made)


def _one_line(error: BaseException) -> str:
    original = error.original if isinstance(error, SubjectError) else error
    text, frames = str(original).strip().splitlines(), traceback.extract_tb(original.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(original).__name__}: {text[0][:200] if text else ''}{where}"


# ---- counting ----------------------------------------------------------------------------------------------------


class Share(NamedTuple):
    """A share with its 95 % interval; NaN where nothing was counted."""

    count: int
    of: int
    share: float
    low: float
    high: float

    def __str__(self) -> str:
        if not self.of:
            return "–"
        return f"{100 * self.share:.1f} % ({self.count} of {self.of}; {100 * self.low:.1f} to {100 * self.high:.1f})"


def share(count: int, of: int) -> Share:
    """A share with Wilson's score interval at 95 % (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    if not of:
        return Share(0, 0, math.nan, math.nan, math.nan)
    p, z2 = count / of, Z * Z
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    half = Z / (1 + z2 / of) * math.sqrt(p * (1 - p) / of + z2 / (4 * of * of))
    low = 0.0 if count == 0 else middle - half
    return Share(count, of, p, low, 1.0 if count == of else middle + half)


def percentile(values: Iterable[float], q: float) -> float:
    """The q-th percentile, linear between neighbours (Hyndman and Fan 1996, type 7); NaN of nothing."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    at = q / 100 * (len(ordered) - 1)
    low = math.floor(at)
    return ordered[low] + (at - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def _of(rows: Iterable[Row], what: Callable[[Row], bool]) -> Share:
    rows = list(rows)
    return share(sum(map(what, rows)), len(rows))


def counted(rows: Iterable[Row]) -> dict[str, Any]:
    """The numbers of a part of the rows: shares, and seconds to a verdict."""
    rows = [r for r in rows if r.counts]
    faulty, sound = [r for r in rows if not r.healthy], [r for r in rows if r.healthy]
    odd, seconds = [r for r in sound if r.odd], [r.seconds for r in rows if r.examined]
    return {
        "faulty pairs detected": _of(faulty, lambda r: r.detected),
        "of them with verdict fail": _of(faulty, lambda r: r.failed),
        "the exact cause first": _of(faulty, lambda r: r.first_right),
        "the exact cause within three": _of(faulty, lambda r: r.within_three),
        "first, or the same defect": _of(faulty, lambda r: r.first_same),
        "within three, or the same defect": _of(faulty, lambda r: r.same_within_three),
        "proven, of those named first": _of((r for r in faulty if r.first_right), lambda r: r.proven),
        "healthy failed": _of(sound, lambda r: r.false_fail),
        "healthy warned": _of(sound, lambda r: r.verdict == "warn"),
        "odd but right, failed": _of(odd, lambda r: r.false_fail),
        "odd but right, warned": _of(odd, lambda r: r.verdict == "warn"),
        "seconds, median": statistics.median(seconds) if seconds else math.nan,
        "seconds, 95th percentile": percentile(seconds, 95),
    }


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """Everything that is reported of a bench."""
    rows = sorted(rows, key=lambda r: (r.subject, r.fault, r.seed))
    parts = {
        "all": rows,
        "open": [r for r in rows if not r.held_out],
        "held out": [r for r in rows if r.held_out],
    }
    faulty = [r for r in rows if r.counts and not r.healthy]
    sound = [r for r in rows if r.counts and r.healthy]
    by_cause, by_subject = defaultdict(list), defaultdict(list)
    for r in faulty:
        by_cause[r.cause or f"(of {r.fault})"].append(r)
    for r in [*faulty, *sound]:
        by_subject[r.subject].append(r)
    wrong = [(r.cause, r.named[0]) for r in [*faulty, *sound] if r.named and not r.first_same]
    misfires = {
        "cause": Counter(named for _, named in wrong),
        "check": Counter(id for r in sound for id in r.checks),
    }
    not_applicable = defaultdict(lambda: defaultdict(set))
    for r in rows:
        if r.outcome == "not applicable":
            not_applicable[r.fault][r.reason].add(r.subject)
    return {
        "parts": {name: counted(part) for name, part in parts.items()},
        "by cause": {cause: counted(part) for cause, part in sorted(by_cause.items())},
        "by subject": {name: counted(part) for name, part in sorted(by_subject.items())},
        "confusion": [
            {"injected": injected or HEALTHY, "named first": named, "times": n}
            for (injected, named), n in sorted(Counter(wrong).items(), key=lambda i: (-i[1], i[0]))
        ],
        "misfires": [
            {"kind": kind, "id": id, "times": n}
            for kind, counts in misfires.items()
            for id, n in sorted(counts.items(), key=lambda i: (-i[1], i[0]))
        ],
        "missed": [_told(r) for r in faulty if r.examined and not r.detected],
        "named wrongly": [_told(r) for r in faulty if r.detected and not r.first_right],
        "false": [_told(r) for r in sound if r.examined and r.verdict != "pass"],
        "without a verdict": [_told(r) for r in [*faulty, *sound] if not r.examined],
        "not applicable": [
            {"fault": fault, "reason": reason, "subjects": sorted(subjects)}
            for fault, reasons in sorted(not_applicable.items())
            for reason, subjects in sorted(reasons.items())
        ],
        "unavailable": {r.subject: r.reason for r in rows if r.outcome == "unavailable"},
        "subjects": len({r.subject for r in [*faulty, *sound]}),
        "causes": len(by_cause),
    }


def _told(r: Row) -> dict[str, Any]:
    told = r.summary if r.examined else f"{r.outcome}: {r.reason}"
    kept = {"fault": r.fault, "subject": r.subject, "seed": r.seed, "injected": r.cause, "verdict": r.verdict}
    return {**kept, "named": r.named[:3], "told": told, "odd": r.odd}


def to_json(summary: dict[str, Any], about: dict[str, str]) -> str:
    """The summary as JSON text; NaN is null."""

    def plain(x: Any) -> Any:
        if isinstance(x, Share):
            return {k: plain(v) for k, v in x._asdict().items()}
        if isinstance(x, dict):
            return {k: plain(v) for k, v in x.items()}
        if isinstance(x, (list, tuple)):
            return [plain(v) for v in x]
        return None if isinstance(x, float) and math.isnan(x) else x

    return json.dumps({"about": about, **plain(summary)}, indent=1, ensure_ascii=False, allow_nan=False)


# ---- showing -----------------------------------------------------------------------------------------------------


class Table(NamedTuple):
    """A table as text, whatever shows it."""

    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]


def tables(summary: dict[str, Any], whole: bool = True) -> list[Table]:
    """The tables of a summary, without empty ones; long lists are cut unless `whole`."""
    found = [
        _numbers(summary),
        _by_cause(summary),
        _by_subject(summary),
        Table(
            "What misfires most",
            "A cause misfires where it is named first and is not the injected one; a check, where it fails or warns of "
            "a healthy subject.",
            ["kind", "id", "times"],
            [[m["kind"], m["id"], str(m["times"])] for m in summary["misfires"]],
        ),
        Table(
            "Injected, and what was named first instead",
            "",
            ["injected", "named first", "times"],
            [[c["injected"], c["named first"], str(c["times"])] for c in summary["confusion"]],
        ),
        _listed("Missed", "Not failed, and the injected cause not named first with a warning.", summary["missed"]),
        _listed("Detected with another cause first", "", summary["named wrongly"]),
        _listed("Healthy subjects that did not pass", "", summary["false"]),
        _listed(
            "Without a verdict",
            "A faulty pair counts as missed, a healthy one as failed.",
            summary["without a verdict"],
        ),
        Table(
            "Faults that do not apply",
            "Not counted.",
            ["fault", "subjects", "why"],
            [
                [n["fault"], str(len(n["subjects"])) if summary["subjects"] > 1 else n["subjects"][0], n["reason"]]
                for n in summary["not applicable"]
            ],
        ),
        Table(
            "Subjects that are not available here",
            "Not counted.",
            ["subject", "why"],
            [[name, reason] for name, reason in summary["unavailable"].items()],
        ),
    ]
    return [t if whole else _cut(t) for t in found if t.rows]


def _numbers(summary: dict[str, Any]) -> Table:
    parts = summary["parts"]
    rows = [
        [name, *(_shown(part[name]) for part in parts.values())]
        for name in parts["all"]
        if _shown(parts["all"][name]) != "–"
    ]
    note = "Share (count; 95 % interval, in %). Held out: fault or subject is one that no threshold is set by."
    return Table("The numbers", note, ["", *parts], rows)


def _shown(value: Share | float) -> str:
    if isinstance(value, Share):
        return str(value)
    return "–" if math.isnan(value) else f"{value:.1f}"


def _by_cause(summary: dict[str, Any]) -> Table:
    instead = defaultdict(list)
    for c in summary["confusion"]:
        instead[c["injected"]].append(f"{c['named first']} ({c['times']})")
    keys = ("faulty pairs detected", "the exact cause first", "the exact cause within three")
    rows = []
    for cause, n in summary["by cause"].items():
        cells = [f"{n[k].count} of {n[k].of}" for k in keys]
        proven = n["proven, of those named first"]
        same = n["first, or the same defect"]
        rows.append([cause, *cells, str(same.count), f"{proven.count} of {proven.of}", ", ".join(instead[cause][:3])])
    columns = ["cause", "detected", "first", "within three", "first or the same", "proven", "named instead"]
    return Table("By cause", "", columns, rows)


def _by_subject(summary: dict[str, Any]) -> Table:
    rows = []
    for name, n in summary["by subject"].items():
        cells = [n[k] for k in ("faulty pairs detected", "the exact cause first", "healthy failed", "healthy warned")]
        shown = [f"{c.count} of {c.of}" if c.of else "–" for c in cells]
        rows.append([name, *shown, _shown(n["seconds, median"])])
    columns = ["subject", "detected", "exact cause first", "healthy failed", "healthy warned", "seconds, median"]
    return Table("By subject", "", columns, rows)


def _listed(title: str, note: str, told: list[dict[str, Any]]) -> Table:
    rows = [
        [f"{t['fault']} in {t['subject']}, seed {t['seed']}", t["verdict"] or "–", ", ".join(t["named"]), t["told"]]
        for t in told
    ]
    return Table(title, note, ["pair", "verdict", "named", "told"], rows)


def _cut(table: Table, most: int = 12) -> Table:
    left = len(table.rows) - most
    if left <= 0 or table.title in ("The numbers", "By cause"):
        return table
    return table._replace(rows=table.rows[:most], note=f"{table.note} {left} more in results.json.".strip())


def about(command: str, bench: Bench) -> dict[str, str]:
    """What a results page must say: command, date, commit, machine and versions."""
    budget = "none" if bench.budget is None else f"{bench.budget:g} s"
    here = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "timeout": 10}
    try:
        run = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], **here)
        commit = run.stdout.strip() if run.returncode == 0 else "not in a git checkout"
    except (OSError, subprocess.SubprocessError):
        commit = "not in a git checkout"
    names = ("learner-diagnose", "torch", "fastai", "numpy", "scikit-learn", "scikit-image")
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "machine": f"{_processor()}, {cores()} cores, {platform.platform(terse=True)}",
        "device": f"{bench.device}, jobs at a time: {bench.jobs}, threads of each: {bench.threads}, budget {budget}",
        "versions": f"Python {platform.python_version()}, "
        + ", ".join(f"{n} {importlib.metadata.version(n)}" for n in names),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        if match := re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text()):
            return match[1].strip()
    return platform.processor() or platform.machine()


def page(summary: dict[str, Any], told: dict[str, str]) -> str:
    """The results as a Markdown page."""
    lines = ["# The bench", "", *(f"- {name}: {_code(name, value)}" for name, value in told.items()), ""]
    for table in tables(summary):
        lines += [f"## {table.title}", ""]
        if table.note:
            lines += [table.note, ""]
        for row in (table.columns, ["---"] * len(table.columns), *table.rows):
            lines.append("| " + " | ".join(_cell(c) for c in row) + " |")
        lines.append("")
    return "\n".join(lines)


def _code(name: str, value: str) -> str:
    return f"`{value}`" if name in ("command", "commit") else value


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def command_line(arguments: list[str]) -> str:
    """How the bench was called."""
    return shlex.join(["diagnose", *arguments])
