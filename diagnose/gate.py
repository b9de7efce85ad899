"""The gate: a signed pass for exactly the code, data and settings that were examined. No pass, no pretraining.

A pass (`pass.json` in the run folder) holds the identity of what was examined (`diagnose.identity`), the hash of the
report and the verdict, signed with HMAC-SHA256 under a key of the user's: `DIAGNOSE_KEY` in the environment (CI), else
a file of mode 0600 that is made at first use. It is refused if a byte of it was edited, if it was copied to other code,
if the report beside it is another, if it is too old, and if anything that the verdict depends on is another now.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from diagnose.diagnosis import Diagnosis
from diagnose.errors import DiagnoseError
from diagnose.identity import Identity, differences

PASS = "pass.json"
SCHEMA = 1
SHORTEST_KEY = 16  # characters of DIAGNOSE_KEY
FUTURE = 300  # seconds that a pass may be ahead of this clock
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class GateRefused(DiagnoseError):
    """The gate is shut. The message is one line that says why and what opens it.

    Attributes:
        apart: in how many places what was examined differs from what is there now; infinite where no pass can be read.
    """

    exit_code = 4

    def __init__(self, message: str, apart: float = math.inf):
        super().__init__(message)
        self.apart = apart


@dataclass(frozen=True)
class Pass:
    """What was examined, when, and how it ended.

    Args:
        subject, source: name and origin of the subject, as in the report.
        verdict: "pass", or "warn" where warnings are allowed.
        issued: seconds since 1970, UTC.
        report: SHA-256 of report.json.
        identity: of what was examined.
        key: first characters of the hash of the key it is signed with.
    """

    subject: str
    source: str
    verdict: str
    issued: float
    report: str
    identity: Identity
    key: str
    schema: int = SCHEMA

    @property
    def age(self) -> float:
        """Seconds since it was issued."""
        return time.time() - self.issued

    @property
    def date(self) -> str:
        """When it was issued, UTC."""
        return datetime.fromtimestamp(self.issued, UTC).strftime("%Y-%m-%d %H:%M UTC")


# ---- the key ---------------------------------------------------------------------------------------------------------


def key_file() -> Path:
    """Where the user's key stands unless `DIAGNOSE_KEY` is set."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.environ.get("APPDATA") or Path.home() / ".config"
    return Path(base) / "diagnose" / "key"


def signing_key(make: bool = True) -> bytes:
    """The key that signs: `DIAGNOSE_KEY`, else the user's file, which is made if it is not there.

    Raises:
        DiagnoseError: the key is too short, others may read its file, or it cannot be read or made.
    """
    given = os.environ.get("DIAGNOSE_KEY")
    if given is not None:
        if len(given) < SHORTEST_KEY:
            raise DiagnoseError(f"DIAGNOSE_KEY has {len(given)} characters; a key needs at least {SHORTEST_KEY}")
        return given.encode()
    path = key_file()
    try:
        if not path.exists():
            if not make:
                raise GateRefused(f"no signing key at {path}: nothing was examined by this user; run `diagnose run`")
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise DiagnoseError(f"{path}: others may read this signing key; run: chmod 600 {path}")
        key = path.read_text().strip()
    except OSError as e:
        raise DiagnoseError(f"{path}: the signing key cannot be read or made ({e.strerror or e})") from e
    if len(key) < SHORTEST_KEY:
        raise DiagnoseError(f"{path}: not a signing key (too short); remove it, and a new one is made")
    return key.encode()


def _key_name(key: bytes) -> str:
    return hashlib.sha256(b"name of the key " + key).hexdigest()[:12]


# ---- issue and verify ------------------------------------------------------------------------------------------------


def issue(diagnosis: Diagnosis, identity: Identity, complete: bool = True) -> bytes | None:
    """The signed pass of a diagnosis as the content of `pass.json`; None where it earns none.

    Args:
        identity: of the subject as it was examined.
        complete: the whole examination ran: nothing was left out by `--only` or `--skip`.
    """
    if diagnosis.partial or not complete or diagnosis.verdict == "fail":
        return None
    key = signing_key()
    held = Pass(
        subject=diagnosis.subject.name,
        source=diagnosis.subject.source,
        verdict=diagnosis.verdict,
        issued=round(time.time(), 3),
        report=hashlib.sha256(diagnosis.to_json().encode()).hexdigest(),
        identity=identity,
        key=_key_name(key),
    )
    content = asdict(held)
    return json.dumps({**content, "signature": _signature(content, key)}, indent=1, ensure_ascii=False).encode()


def read(folder: Path) -> Pass:
    """The pass of a run folder, its signature and report verified.

    Raises:
        GateRefused: there is none, it was edited, or it belongs to another report or another key.
    """
    path = folder / PASS
    try:
        content = json.loads(path.read_bytes())
        signature = content.pop("signature")
        held = Pass(**content)
    except FileNotFoundError:
        raise GateRefused(f"{folder}: {_why_none(folder)}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
        raise GateRefused(f"{path}: not a pass ({type(e).__name__}); examine again") from e
    if held.schema != SCHEMA:
        raise GateRefused(f"{path}: a pass of schema {held.schema}, this version reads {SCHEMA}; examine again")
    key = signing_key(make=False)
    if held.key != _key_name(key):
        raise GateRefused(
            f"{path}: signed with another key; examine here, or set DIAGNOSE_KEY to the key it was signed with"
        )
    if not isinstance(signature, str) or not hmac.compare_digest(signature, _signature(content, key)):
        raise GateRefused(f"{path}: the signature does not fit: it was edited after it was issued; examine again")
    try:
        report = (folder / "report.json").read_bytes()
    except OSError as e:
        raise GateRefused(f"{folder}: the report of this pass cannot be read ({e.strerror}); examine again") from e
    if hashlib.sha256(report).hexdigest() != held.report:
        raise GateRefused(f"{folder}: report.json is not the report of this pass; examine again")
    return held


def verify(
    folder: Path,
    identity: Identity,
    max_age: float | None = None,
    allow_warn: bool = False,
    beside: Identity | None = None,
) -> Pass:
    """The pass of a run folder, if it holds for what is there now.

    Args:
        identity: of the code, data and settings of now.
        max_age: seconds that it may be old; None for no bound.
        allow_warn: accept a verdict of "warn".
        beside: parts of the program around, which count where the examination counted them: the builder's module does
            there, and a training script need not define a part of the Learner.

    Raises:
        GateRefused: with the one line that says why.
    """
    held = read(folder)
    around = {name: value for name, value in (beside or {}).items() if name in held.identity}
    changed = differences(held.identity, {**around, **identity})
    if held.verdict != "pass" and not (allow_warn and held.verdict == "warn"):
        why = f"the verdict was {held.verdict}; mend what it names, or allow warnings"
    elif held.age < -FUTURE:
        why = f"issued in the future ({held.date}); set the clock right, or examine again"
    elif max_age is not None and held.age > max_age:
        why = f"issued {held.date}, which is older than {spelled(max_age)}; examine again"
    elif changed:
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        why = f"changed since the examination: {changed[0]}{more}; examine again"
    else:
        return held
    raise GateRefused(f"{folder}: {why}", len(changed))


def find(
    folders: Iterable[Path],
    identity: Identity,
    max_age: float | None = None,
    allow_warn: bool = False,
    beside: Identity | None = None,
) -> tuple[Path, Pass]:
    """The first of the run folders whose pass holds; see `verify`.

    Raises:
        GateRefused: none does; the reason is that of the pass that is nearest to what is there now, the first of those.
    """
    nearest = GateRefused("nothing was examined yet")
    for number, folder in enumerate(folders):
        try:
            return folder, verify(folder, identity, max_age, allow_warn, beside)
        except GateRefused as e:
            if not number or e.apart < nearest.apart:
                nearest = e
    raise nearest


def age(text: str) -> float:
    """Seconds of "7d", "12h", "30m".

    Raises:
        DiagnoseError: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if not match:
        raise DiagnoseError(f"--max-age {text}: write a number with s, m, h, d or w, for instance 7d")
    return float(match[1]) * UNITS[match[2]]


def spelled(seconds: float) -> str:
    """A duration in the largest unit up to days that divides it."""
    unit = next((u for u in "dhms" if seconds >= UNITS[u] and seconds % UNITS[u] == 0), "s")
    return f"{seconds / UNITS[unit]:g}{unit}"


def _signature(content: dict[str, Any], key: bytes) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hmac.new(key, canonical.encode(), hashlib.sha256).hexdigest()


def _why_none(folder: Path) -> str:
    try:
        diagnosis = Diagnosis.load(folder)
    except (OSError, ValueError):
        return "no run was examined there; run `diagnose run`"
    if diagnosis.partial:
        return "the examination was interrupted, which gives no pass; examine again"
    if diagnosis.verdict == "fail":
        return f"the verdict was fail: {diagnosis.summary}"
    return "the examination was not whole (--only or --skip), or left no pass; examine again"
