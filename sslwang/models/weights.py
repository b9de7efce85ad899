"""Weights of encoders: written as safetensors, read from a file or run, and loaded whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from diagnose.errors import DiagnoseError

RUN_FILES = ("encoder.safetensors", "model.safetensors", "encoder.pth", "model.pth")  # in this order
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
WRAPPERS = ("encoder", "module", "_orig_mod", "model", "backbone")  # names under which an encoder may stand in a state
CONTAINERS = ("model", "state_dict")  # keys of checkpoints that hold more than one state
NAMED = 3  # tensors that a message names before it counts the others


def save_weights(module: nn.Module, path: Path | str) -> int:
    """Write parameters and buffers as safetensors; how many tensors."""
    state = {n: t.detach().cpu().contiguous().clone() for n, t in module.state_dict().items()}
    save_file(state, path)
    return len(state)


def read_weights(path: Path | str) -> dict[str, torch.Tensor]:
    """The tensors of a file, or of the file of a run that holds weights; nothing but tensors is ever unpickled.

    Raises:
        DiagnoseError: nothing there, no file of weights in the folder, or not readable as weights.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        path = _file_of(path)
    if not path.is_file():
        raise DiagnoseError(f"{path}: no such file or run")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # torch's unpickler stumbles over a broken file with errors of any kind
        reason = str(e).strip().splitlines() or [type(e).__name__]
        raise DiagnoseError(f"{path}: not readable as weights ({reason[0][:120]})") from e
    for key in CONTAINERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise DiagnoseError(f"{path}: holds no weights, which are tensors by name")
    return state


def load_weights(
    encoder: nn.Module, state: dict[str, torch.Tensor], source: str = "weights", cut_off: Iterable[str] = ()
) -> int:
    """Load an encoder's weights, all of them or none; how many tensors.

    The state may be the encoder's own or that of a network that keeps it as `encoder`, whose head is then not meant.

    Args:
        encoder: to load into.
        state: tensors by name.
        source: for messages.
        cut_off: names of children of the state's classifier that the encoder does not have.

    Raises:
        DiagnoseError: tensors that are missing, left over, of another shape or not finite, by name.
    """
    wanted = encoder.state_dict()
    prefix = _prefix(wanted, state)
    offered = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    dropped = tuple(f"{name}." for name in cut_off)
    wrong = {
        "missing": [n for n in wanted if n not in offered],
        "left over": [n for n in offered if n not in wanted and not n.startswith(dropped)],
        "of another shape": [n for n, t in wanted.items() if n in offered and offered[n].shape != t.shape],
        "not finite": [n for n in wanted if n in offered and not torch.isfinite(offered[n]).all()],
    }
    if any(wrong.values()):
        told = "; ".join(f"{len(names)} {what}: {_listed(names)}" for what, names in wrong.items() if names)
        batch = any("running_" in n for n in wrong["left over"] + wrong["missing"])
        hint = "; they were trained under another encoder.norm" if batch else ""
        raise DiagnoseError(
            f"{source} does not fit the encoder, of whose {len(wanted)} tensors none was loaded: {told}{hint}"
        )
    encoder.load_state_dict({n: offered[n] for n in wanted})
    return len(wanted)


def _file_of(folder: Path) -> Path:
    for name in RUN_FILES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in (*folder.glob("*"), *folder.glob("models/*")) if p.suffix in SUFFIXES)
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise DiagnoseError(f"{folder}: which file holds the weights? there is {names}; give the file itself")
    return found[0]


def _prefix(wanted: Iterable[str], state: Iterable[str]) -> str:
    """What the names of the encoder's tensors begin with in a state: the prefix under which most of them stand."""
    wanted, state = list(wanted), set(state)
    ends = {n.removesuffix(w) for w in wanted[:1] for n in state if n.endswith(w)}
    likely = [p for p in ends if not p or (p.endswith(".") and p.split(".")[-2] in WRAPPERS)]
    return max(["", *sorted(likely, key=len)], key=lambda p: (sum(p + w in state for w in wanted), "encoder." in p))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
