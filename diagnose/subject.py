"""Subject: what is examined. A function that builds a Learner, a registered task, or a live Learner."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from fastai.learner import Learner
from torch import nn

from diagnose import registry
from diagnose.changes import rate_text
from diagnose.diagnosis import Diagnosis, SubjectInfo
from diagnose.errors import DiagnoseError, SubjectError
from diagnose.identity import Identity, code_of, identity, packages, settings_of, versions
from diagnose.isolate import optimizer_name, seed_everything
from diagnose.loads import Load, Recording, compared, recording
from diagnose.stats import tensors
from diagnose.task import Task, flat_settings, settings_from


@dataclass
class Subject:
    """A built Learner with what is known of it.

    Attributes:
        name: short, fit for a folder name.
        source: where it comes from: "task unmix", "train.py:build", "a live Learner".
        task: knowledge of a registered task, None for a Learner of the user's own.
        modules: those of the builder, whose code counts beside that of the Learner's parts.
        loads: what became of the weights that were loaded while it was built; None if nobody saw it being built.
    """

    name: str
    source: str
    learner: Learner
    task: Task | None = None
    modules: list[ModuleType] = field(default_factory=list)
    loads: list[Load] | None = None

    def __post_init__(self):
        learn = self.learner
        if not isinstance(learn, Learner):
            raise DiagnoseError(
                f"{self.source} gave a {type(learn).__name__}, not a fastai Learner: return the Learner"
            )
        if not isinstance(learn.model, nn.Module):
            raise DiagnoseError(f"{self.source}: learn.model is a {type(learn.model).__name__}, not an nn.Module")
        if not any(p.requires_grad for p in learn.model.parameters()):
            count = sum(1 for _ in learn.model.parameters())
            raise DiagnoseError(
                f"{self.source}: no trainable parameter: all {count} tensors of {type(learn.model).__name__} have "
                "requires_grad=False; unfreeze some (learn.unfreeze(), or learn.model.requires_grad_(True))"
                if count
                else f"{self.source}: {type(learn.model).__name__} has no parameters, there is nothing to train"
            )

    def should_hold(self, weights: str | Path) -> None:
        """Compare a checkpoint that the Learner is meant to have loaded with the weights that it has.

        Raises:
            DiagnoseError: no such file, or no state dict in it.
        """
        self.loads = [*(self.loads or []), *compared(weights, self.learner.model)]

    @property
    def settings(self) -> dict[str, Any]:
        """The task's settings by dotted name."""
        return flat_settings(self.task.settings) if self.task else {}

    def describe(self, batch: Any = None) -> SubjectInfo:
        """What was examined, in words; `batch` is a batch of the training loader."""
        model = self.learner.model
        total = sum(p.numel() for p in model.parameters())
        free = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return SubjectInfo(
            name=self.name,
            source=self.source,
            fingerprint=self.fingerprint(),
            task=self.task.id if self.task else None,
            settings=self.settings,
            batch=", ".join(f"{'×'.join(map(str, t.shape))} {str(t.dtype)[6:]}" for t in tensors(batch)),
            model=f"{type(model).__name__}, {total:,} parameters, {free:,} of them trainable",
            loss=_named(self.learner.loss_func),
            optimizer=f"{optimizer_name(self.learner)}, learning rate {rate_text(self.learner.lr)}",
        )

    def identity(self) -> Identity:
        """What the verdict depends on: code, settings, model, data, versions, device."""
        return identity(self.learner, self.task, self.modules)

    def fingerprint(self) -> str:
        """SHA-256 over code, settings, model structure and versions: all of its identity that needs no data read."""
        learn = self.learner
        parts = {**code_of(learn, self.task, self.modules), **settings_of(learn, self.task), **versions()}
        return hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()


def _named(func: Any) -> str:
    if isinstance(func, nn.Module) or not hasattr(func, "__name__"):
        text = repr(func)
        return text if len(text) <= 120 and " at 0x" not in text else type(func).__name__
    return f"{func.__module__}.{func.__qualname__}"


def device_name(device: torch.device) -> str:
    """A GPU by its own name, anything else with the kind of machine."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"


def environment(device: torch.device) -> dict[str, Any]:
    """Device, memory, versions and git commit, as a report shows them."""
    import psutil

    memory = psutil.virtual_memory()
    facts: dict[str, Any] = {
        "device": device_name(device),
        "cpu threads": torch.get_num_threads(),
        "memory": f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB free",
        "python": platform.python_version(),
        **packages(),
        "torchvision": version("torchvision"),
        "numpy": version("numpy"),
        "platform": platform.platform(terse=True),
        "git commit": _git_commit(),
    }
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        facts["device memory"] = f"{total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB free"
    return facts


def _git_commit() -> str:
    try:
        run = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(run, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "not in a git checkout"


# ---- where subjects come from ------------------------------------------------------------------------------------


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA if there is one, else the CPU.

    Raises:
        DiagnoseError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as e:
        raise DiagnoseError(f"--device {name}: not available here ({str(e).splitlines()[0]}); try --device cpu") from e
    return device


def from_task(name: str, pairs: dict[str, str] | None = None, seed: int = 0, device: str = "auto") -> Subject:
    """A registered task under settings given as text.

    Raises:
        DiagnoseError: no such task, no such setting, or a value or data source that does not fit.
        SubjectError: the task's own code raised.
    """
    entries = {e.id: e for e in registry.task_entries()}
    if name not in entries:
        near = difflib.get_close_matches(name, entries, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise DiagnoseError(f"--task {name}: no such task; {hint}known: {', '.join(entries) or 'none registered'}")
    cls = registry.load(entries[name], Task)
    cls.id, cls.doc = entries[name].id, entries[name].doc
    task = cls(settings_from(cls.Settings, pairs or {}))
    with recording() as record:
        learn = _run("building the Learner", lambda: task.learner(seed, pick_device(device)))
    return _seen(Subject(name, f"task {name}", learn, task, [sys.modules[cls.__module__]]), record)


def from_spec(spec: str, seed: int = 0, device: str = "auto") -> Subject:
    """A function that returns a Learner, as `path/file.py:function` or `package.module:function`.

    The random streams are seeded before it is called, and fastai's default device is set to `device`.

    Raises:
        DiagnoseError: malformed spec, no such file, module or function, or no Learner returned.
        SubjectError: importing the file or calling the function raised.
    """
    place, _, function = spec.rpartition(":")
    if not place or not function:
        raise DiagnoseError(f"--learner {spec}: write it as path/file.py:function or package.module:function")
    chosen = pick_device(device)
    with recording() as record:
        return _seen(_built(spec, place, function, seed, chosen), record)


def _seen(subject: Subject, record: Recording) -> Subject:
    subject.loads = record.loads(subject.learner.model)
    return subject


def _built(spec: str, place: str, function: str, seed: int, device: torch.device) -> Subject:
    module = _import_file(Path(place), spec) if place.endswith(".py") else _import_module(place, spec)
    build = getattr(module, function, None)
    if not callable(build):
        functions = [n for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__]
        hint = f"it defines {', '.join(functions)}" if functions else "it defines no function"
        raise DiagnoseError(f"--learner {spec}: {place} has no function {function}; {hint}")
    needed = [
        p.name
        for p in _parameters(build)
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if needed:
        raise DiagnoseError(f"--learner {spec}: {function} needs arguments ({', '.join(needed)}); give them defaults")
    seed_everything(seed)
    learn = _run("building the Learner", lambda: _on_device(build, device))
    name = Path(place).stem if place.endswith(".py") else place.rpartition(".")[2]
    return Subject(f"{name}-{function}", spec, learn, modules=[module])


def of_report(folder: Path, device: str = "auto") -> Subject:
    """The subject of a run folder, built anew from its task and settings, or from its function.

    Raises:
        DiagnoseError: the report cannot be read, or it is of a live Learner, which nobody can build anew.
        SubjectError: its own code raised.
    """
    try:
        report = Diagnosis.load(folder)
    except (OSError, ValueError) as e:
        raise DiagnoseError(f"{folder}: no report that this version reads ({type(e).__name__})") from e
    if report.subject.task:
        pairs = {name: str(value) for name, value in report.subject.settings.items()}
        return from_task(report.subject.task, pairs, report.seed, device)
    if ":" in report.subject.source:
        return from_spec(report.subject.source, report.seed, device)
    raise DiagnoseError(
        f"{folder}: a live Learner was examined; verify it where it lives: cbs=PreflightGate({str(folder)!r})"
    )


def from_learner(learn: Learner, name: str = "learner") -> Subject:
    """A live Learner."""
    return Subject(name, "a live Learner", learn)


def _parameters(f: Callable) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        return []


def _on_device(build: Callable, device: torch.device) -> Any:
    from fastai.torch_core import default_device, defaults

    before = getattr(defaults, "use_cuda", None)
    default_device(device.type == "cuda")
    try:
        return build()
    finally:
        defaults.use_cuda = before


def _run(doing: str, f: Callable[[], Any]) -> Any:
    try:
        return f()
    except DiagnoseError:
        raise
    except Exception as e:
        raise SubjectError(doing, e) from e


def _import_file(path: Path, spec: str) -> Any:
    if not path.is_file():
        raise DiagnoseError(f"--learner {spec}: no file {path} (looked in {Path.cwd()})")
    path = path.resolve()
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(module_spec)
    sys.path.insert(0, str(path.parent))  # as `python path` would: the file's neighbours can be imported
    sys.modules[path.stem] = module  # dataclasses and pickling look a module up by name
    _run(f"importing {path.name}", lambda: module_spec.loader.exec_module(module))
    return module


def _import_module(name: str, spec: str) -> Any:
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise DiagnoseError(f"--learner {spec}: no module {name} (looked in {Path.cwd()} and the environment)")
    return _run(f"importing {name}", lambda: importlib.import_module(name))
