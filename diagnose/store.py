"""What gauges write while a model trains: tables of recorded quantities, bounded in memory and on disk.

A table is a folder of Parquet blocks. Rows wait in memory until a block is full; a block is encoded, written under a
temporary name, fsynced and renamed, so that a reader, or a run that is killed, only ever meets whole blocks. When the
blocks would outgrow their bound, the oldest of one level are thinned to every second recorded step and merged into the
next level: old steps are coarse, recent ones fine, the first and the last recorded step exact.

Arrow and pandas are imported on use: whoever imports this module to ask for help should not wait for them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
import warnings
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diagnose.errors import DiagnoseError

if TYPE_CHECKING:
    import pandas
    import pyarrow

MEMORY = 64_000_000
DISK = 200_000_000
BLOCK_RECORDS = 64
KEEP = frozenset({"alarms", "marks", "unrecorded"})

_MARK = "store-format-1"
_TABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_BLOCK = re.compile(r"(-?\d+)-(-?\d+)\.(\d+)-(\d+)\.(\d+)\.parquet")
_BINS = b"bins"
_JOIN = 8
_COARSEST = 40  # a level at which nothing but first steps is left
_NO_ROOM_LEFT = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


@dataclass
class _Block:
    """A run of recorded steps that is encoded as one Parquet file.

    Attributes:
        name: file name, `<first step>-<last step>.<first part>-<last part>.<level>.parquet`.
        parts: numbers of the first and last block that went into it; a block supersedes those that its range covers.
        level: the records kept are those whose number is a multiple of 2 ** level, and those that it shares with the
            block before or after.
        generation: how often blocks were joined, without loss, to make it.
        first, last: numbers of the records that it spans, counted over the table from 0.
        raw, size: bytes decoded and encoded.
        data: the file itself where there is no disk to put it on.
    """

    name: str
    parts: tuple[int, int]
    level: int
    generation: int
    first: int
    last: int
    raw: int
    size: int
    data: bytes | None = None


@dataclass
class _Texts:
    "Dictionary of a text column over the rows that wait; the last list is kept: layers come in the same order."

    codes: dict[str | None, int] = field(default_factory=lambda: {None: -1})
    words: list[str] = field(default_factory=list)
    last: tuple[list, np.ndarray] | None = None

    def encode(self, values: list, where: str) -> tuple[np.ndarray, int]:
        "Codes of the texts, int32, -1 for None, and the bytes that they newly take."
        if self.last is not None and self.last[0] == values:
            return self.last[1], 0
        try:
            codes = np.fromiter(map(self.codes.__getitem__, values), np.int32, len(values))
        except (KeyError, TypeError):
            for value in values:
                if value is not None and not isinstance(value, str):
                    raise DiagnoseError(f"{where}: texts are expected, not {type(value).__name__}") from None
                if value not in self.codes:
                    # a lone surrogate, as in a file name that is no UTF-8, has no place in a file
                    word = value.encode("utf-8", "replace").decode()
                    if word not in self.codes:
                        self.codes[word] = len(self.words)
                        self.words.append(word)
                    self.codes[value] = self.codes[word]
            codes = np.fromiter(map(self.codes.__getitem__, values), np.int32, len(values))
        self.last = (list(values), codes)
        return codes, codes.nbytes


@dataclass
class _Rows:
    "One column of one append: values, int32 codes for texts, [rows, bins] for histograms; mask is True at nulls."

    values: np.ndarray
    mask: np.ndarray | None = None


@dataclass
class _Table:
    kinds: dict[str, str] = field(default_factory=dict)  # in the order of the columns
    blocks: list[_Block] = field(default_factory=list)
    waiting: list[dict[str, _Rows]] = field(default_factory=list)
    texts: dict[str, _Texts] = field(default_factory=lambda: defaultdict(_Texts))
    step: int | None = None  # the newest
    counted: int | None = None  # step of record number `record`
    record: int = -1
    opened: int = 0  # number of the first record that waits
    written: int = 0  # rows that wait and are in a block already: a flush was interrupted


class Store:
    """Recorded quantities by table ("gradients", "steps", "alarms", ...), bounded whatever the number of steps.

    The bounds hold at every moment and count this store's own data: rows that wait, blocks held in memory, and the room
    to encode and merge blocks; on disk every file, with those that a merge is about to replace. A bound that is too
    small for what cannot be thinned (kept tables, first and last steps) is held all the same: later rows are dropped,
    with one warning.

    Which steps are left: records, the distinct steps of a table, are numbered. A block of level k holds those whose
    number is a multiple of 2 ** k. When room is needed, the two oldest blocks of the (table, level) that takes most
    room become one of the next level. So levels get equal room, tables that take little room stay whole, and tables
    recorded at the same steps are thinned to grids that nest in each other.

    A full disk never raises into training: after one warning the store goes on in memory within its bound. A store is
    written by one process and one thread. A pickled or deep copy is closed and can be read.

    Args:
        folder: where the blocks go, one sub-folder a table. None: blocks stay in memory, encoded all the same.
        memory: bytes. An eighth is for rows that wait, half for blocks that cannot be on disk, the rest for work.
        disk: bytes.
        block_records: recorded steps of a table that wait before a block is written; a run that is killed loses them.
        keep: tables that are never thinned.

    Raises:
        DiagnoseError: the folder holds a record already, or cannot be made.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        memory: int = MEMORY,
        disk: int = DISK,
        block_records: int = BLOCK_RECORDS,
        keep: Collection[str] = KEEP,
    ):
        if min(memory, disk, block_records) < 1:
            raise DiagnoseError("memory, disk and block_records of a store must be at least 1")
        self._start(None if folder is None else Path(folder).absolute())
        self.memory, self.disk, self.block_records, self.keep = memory, disk, block_records, frozenset(keep)
        self._block_bytes = min(memory // 32, memory if folder is None else disk // 16)
        self._waiting_bytes = memory // 8  # writes of 2 MB took twice the time a row that writes of 8 MB took
        self._writes = True
        if self.folder is not None:
            self._claim()

    def _start(self, folder: Path | None) -> None:
        self.folder = folder
        self._tables: dict[str, _Table] = {}
        self._waiting = 0
        self._used = {"disk": 0, "memory": 0}
        self._writes = self._reader = self._disk_failed = self._told = False

    def _claim(self) -> None:
        "Mark the folder as ours. Two runs that start at once cannot both succeed."
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / _MARK).open("x").close()
        except OSError as error:
            if isinstance(error, FileExistsError) and self.folder.is_dir():
                raise DiagnoseError(
                    f"{self.folder} holds the record of another run: give a new folder, or read it with Store.read"
                ) from None
            if error.errno in _NO_ROOM_LEFT:
                self._leave_disk(error)
                self.folder = None
            else:
                raise DiagnoseError(
                    f"{self.folder}: cannot record there ({error}): give a folder to write to"
                ) from None

    @classmethod
    def read(cls, folder: Path | str) -> Store:
        """The record in a folder, read only, also while its run goes on or after it was killed: every block written.

        Raises:
            DiagnoseError: the folder holds no record.
        """
        self = cls.__new__(cls)
        self._start(Path(folder).absolute())
        self._reader = True
        if not (self.folder / _MARK).exists():
            raise DiagnoseError(f"{folder} holds no record: give the folder that a Store was made with")
        return self

    # writing

    def append(self, table: str, columns: Mapping[str, Any]) -> None:
        """Add rows to a table; they are copied.

        Args:
            table: its name: letters, digits, "_", "-", ".". The first append makes it.
            columns: by name, of equal length; a scalar stands for all rows. Integers "step" must be among them and
                never fall within a table; several rows, and several appends, may share a step. Numbers keep their
                dtype (float16 becomes float32); lists of str are texts; [rows, bins] uint8 or uint16 are histograms,
                kept as uint16. None in a list, and the mask of a masked array, is null. A column that the table has
                and this append lacks is null in its rows; one that is new is added, null in the rows before.

        Raises:
            DiagnoseError: the store is closed or read only, or the columns are not as described. Nothing is added then.
        """
        if not self._writes:
            raise DiagnoseError(
                "this record is read only" if self._reader else "this record is closed: nothing can be added"
            )
        known = self._tables.get(table)
        if known is None and not _TABLE.fullmatch(table):
            raise DiagnoseError(f"{table!r}: the name of a table is made of letters, digits, '_', '-' and '.'")
        into = known or _Table()
        rows = next((len(v) for v in columns.values() if _is_long(v)), 1)
        if rows == 0:
            return
        kinds, chunk, size = {}, {}, 0
        for name, value in columns.items():
            column, kind, new = _column(value, rows, into.texts, name, f"{table}.{name}")
            if kind is None:  # nothing but nulls, and nobody said yet of what
                continue
            if into.kinds.get(name, kind) != kind:
                raise DiagnoseError(f"{table}.{name}: the table has {into.kinds[name]} there, this append has {kind}")
            kinds[name], chunk[name] = kind, column
            size += new
        steps = _steps(chunk.get("step"), into.step, table)
        self._tables[table] = into
        into.kinds.update(kinds)
        first = into.record + (int(steps[0]) != into.counted)
        if not into.waiting:
            into.opened = first
        into.record = first + int(np.count_nonzero(np.diff(steps)))
        into.step = into.counted = int(steps[-1])
        into.waiting.append(chunk)
        self._waiting += size
        if into.record - into.opened + 1 >= self.block_records or self._waiting >= self._waiting_bytes:
            self.flush()

    def flush(self) -> None:
        "Write what waits. A small block now and then costs little: small neighbours are joined later."
        for name, table in self._tables.items():
            if table.waiting:
                self._flush(name, table)
        self._waiting = 0

    def close(self) -> None:
        "Flush; nothing can be added afterwards. Reading goes on."
        if self._writes:
            self.flush()
            self._writes = False

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _flush(self, name: str, table: _Table) -> None:
        whole = _arrow(table).slice(table.written)
        steps = whole["step"].to_numpy()
        starts = np.append(np.flatnonzero(np.diff(steps, prepend=steps[0] - 1)), len(steps))  # first row of each record
        share = -(-(len(starts) - 1) // -(-whole.nbytes // self._block_bytes))  # records a block, if equal ones fit
        for at in range(0, len(starts) - 1, share):
            to = min(at + share, len(starts) - 1)
            number = table.blocks[-1].parts[1] + 1 if table.blocks else 0
            rows = whole.slice(starts[at], starts[to] - starts[at])
            block, data = _encode(rows, (number, number), 0, 0, table.opened, table.opened + to - at - 1)
            on_disk = self._shelf == "disk"
            put = self._room(block.size) and self._put(name, block, data)
            if not put and on_disk and self._disk_failed:
                put = self._room(block.size) and self._put(name, block, data)
            if not put:
                self._drop(name, table)
                break
            table.blocks.append(block)
            table.written += starts[to] - starts[at]
            table.opened = block.last + 1
            self._join(name, table)
        table.waiting.clear()
        table.texts.clear()
        table.written = 0

    def _drop(self, name: str, table: _Table) -> None:
        "Rows that found no room are gone, and are not counted: the blocks that there are stay a whole grid."
        table.record, table.counted = (table.blocks[-1].last if table.blocks else -1), None
        if not self._told:
            self._told = True
            warnings.warn(
                f"the record is full and nothing in it may be thinned any more: rows of {name!r} are dropped; "
                f"allow more than {self._limit} bytes",
                stacklevel=2,
            )

    # room

    @property
    def _shelf(self) -> str:
        return "memory" if self.folder is None or self._disk_failed else "disk"

    @property
    def _limit(self) -> int:
        return self.disk if self._shelf == "disk" else self.memory // 2

    def _leave_disk(self, error: Exception) -> None:
        if not self._disk_failed:
            self._disk_failed = True
            warnings.warn(f"{self.folder}: recording goes on in memory, the disk failed: {error}", stacklevel=2)

    def _put(self, name: str, block: _Block, data: pyarrow.Buffer) -> bool:
        "Put a block on the shelf; False if the bound is too small, or the disk failed."
        shelf = self._shelf
        if self._used[shelf] + block.size > self._limit:
            return False
        if shelf == "disk":
            try:
                _write(self.folder / name / block.name, data)
            except OSError as error:
                self._leave_disk(error)
                return False
        else:
            block.data = data.to_pybytes()
        self._used[shelf] += block.size
        return True

    def _replace(self, name: str, table: _Table, old: list[_Block], new: list[_Block]) -> None:
        "Put the new block in the place of the old ones, then delete those."
        at = table.blocks.index(old[0])
        table.blocks[at : at + len(old)] = new
        for block in old:
            if block.data is None:
                _delete(self.folder / name / block.name)
            self._used["disk" if block.data is None else "memory"] -= block.size

    def _room(self, size: int) -> bool:
        "Thin until a block of this size fits and leaves an eighth of the bound for merging; whether it fits."
        while True:
            shelf, limit = self._shelf, self._limit
            if self._used[shelf] + size <= limit - limit // 8:
                return True
            if not self._thin() and shelf == self._shelf:
                return self._used[shelf] + size <= limit

    def _thin(self) -> bool:
        "Thin the oldest blocks of the level that takes most room; False if nothing can be thinned."
        levels: dict[tuple[str, int], list[_Block]] = defaultdict(list)
        for name, table in self._tables.items():
            if name in self.keep:
                continue
            for block in table.blocks[:-1]:  # the newest has, or had when it was written, the last recorded step
                if (block.data is None) == (self._shelf == "disk") and block.level < _COARSEST:
                    levels[name, block.level].append(block)
        if not levels:
            return False
        name, level = max(levels, key=lambda k: (sum(b.size for b in levels[k]), -k[1]))
        oldest, raw = [], 0
        for block in levels[name, level]:
            raw += block.raw
            if oldest and raw > 2 * self._block_bytes:
                break
            oldest.append(block)
        # one alone takes less room than it had; two may not fit beside their parts under a very small bound
        return self._merge(name, oldest, level + 1, 0) or self._merge(name, oldest[:1], level + 1, 0)

    def _join(self, name: str, table: _Table) -> None:
        "Join the newest blocks, without loss, while they are small: as many files as digits, like counting in eights."
        while len(newest := table.blocks[-_JOIN:]) == _JOIN:
            kinds = {(b.level, b.generation, b.data is None) for b in newest}
            whole = sum(b.raw for b in newest) <= self._block_bytes
            here = (newest[0].data is None) == (self._shelf == "disk")
            if len(kinds) > 1 or newest[0].level or not whole or not here:
                return
            if not self._merge(name, newest, 0, newest[0].generation + 1):
                return

    def _merge(self, name: str, blocks: list[_Block], level: int, generation: int) -> bool:
        "Make one block of neighbours, at the same or the next level; False if there is no room for it."
        table = self._tables[name]
        try:
            ends = _ends(table.blocks, blocks)
            rows = _concat([_thinned(self._decode(name, b), b, level, _ends(table.blocks, [b]), ends) for b in blocks])
            if not rows.num_rows:
                self._replace(name, table, blocks, [])
                return True
            block, data = _encode(
                rows, (blocks[0].parts[0], blocks[-1].parts[1]), level, generation, blocks[0].first, blocks[-1].last
            )
            del rows
        except (OSError, DiagnoseError) as error:  # a file was deleted or damaged under our hands
            self._leave_disk(error)
            return False
        if not self._put(name, block, data):
            return False
        self._replace(name, table, blocks, [block])
        return True

    # reading

    @property
    def tables(self) -> list[str]:
        "Names of the tables that have rows."
        names = {name for name, table in self._tables.items() if table.blocks or table.waiting}
        if self._reader and self.folder is not None:
            names |= {d.name for d in self._folder().iterdir() if d.is_dir() and self._listed(d.name)}
        return sorted(names)

    @property
    def bytes_on_disk(self) -> int:
        "Bytes of the blocks on disk."
        if not self._reader:
            return self._used["disk"]
        if self.folder is None:
            return 0
        return sum(f.stat().st_size for f in self._folder().glob("*/*.parquet") if f.exists())

    @property
    def bytes_in_memory(self) -> int:
        "Bytes of the rows that wait and of the blocks that are held in memory."
        return self._waiting + sum(b.size for t in self._tables.values() for b in t.blocks if b.data is not None)

    @property
    def unrecorded(self) -> dict[str, str]:
        'What `Watch` could not record: the reason, and the way out, by layer or parameter; "" is the whole model.'
        if "unrecorded" not in self.tables:
            return {}
        rows = self.frame("unrecorded", ["where", "reason"])
        return dict(zip(rows["where"].astype(str), rows["reason"].astype(str)))

    def frame(self, table: str, columns: Collection[str] | None = None) -> pandas.DataFrame:
        """The rows of a table, those that wait included, by step.

        Texts are categories in order of first appearance (layers: in the order of the model); integers and truth
        values with nulls are pandas' nullable types; null floats are NaN (`arrow` tells them from NaN that was
        recorded); a histogram is an array in each row.

        Args:
            table: its name.
            columns: those wanted, in this order; all if None. Leaving histograms out is faster.

        Raises:
            DiagnoseError: there is no such table or column, or a file is damaged.
        """
        import pandas

        rows = self.arrow(table, columns)
        return pandas.DataFrame({name: _series(rows[name]) for name in rows.column_names})

    def arrow(
        self, table: str, columns: Collection[str] | None = None, steps: Collection[int] | None = None
    ) -> pyarrow.Table:
        """As `frame`, as an Arrow table: texts dictionary-coded, histograms as lists of fixed size, nulls as nulls.

        Args:
            steps: those wanted, all if None. A block at a time is decoded, so that a few steps of a long run take
                little memory.

        Raises:
            DiagnoseError: there is no such table or column, or a file is damaged.
        """
        for _ in range(100):  # a file that was listed is gone if the run merged it meanwhile: look again
            try:
                parts = [_at(self._decode(table, block, columns), steps) for block in self._blocks(table)]
                break
            except FileNotFoundError as error:
                missing = error
        else:
            raise DiagnoseError(f"{self.folder}: a file of {table!r} is gone: {missing}")
        mine = self._tables.get(table)
        if mine is not None and mine.waiting:
            parts.append(_at(_arrow(mine).slice(mine.written), steps))
        if not parts:
            raise DiagnoseError(f"no table {table!r} was recorded; there are: {', '.join(self.tables) or 'none yet'}")
        rows = _concat(parts)
        if columns is None:
            return rows
        for name in columns:
            if name not in rows.column_names:
                known = set(mine.kinds if mine is not None else ())
                for block in self._blocks(table)[-1:]:
                    known.update(self._decode(table, block).column_names)
                raise DiagnoseError(f"{table!r} has no column {name!r}; it has: {', '.join(sorted(known))}")
        return rows.select(list(columns))

    def _blocks(self, name: str) -> list[_Block]:
        held = self._tables[name].blocks if name in self._tables else []
        return (self._listed(name) if self._reader and self.folder is not None else []) + held

    def _folder(self) -> Path:
        if not self.folder.exists():
            raise DiagnoseError(f"{self.folder} is gone: the record was there")
        return self.folder

    def _listed(self, name: str) -> list[_Block]:
        """The blocks of a table that no other one supersedes, oldest first.

        A listing that is taken while files are made and deleted may miss both a block and what replaced it. Two equal
        ones in a row cannot: the replacement was there before the first deletion, so all through the second listing.
        """
        folder, before = self._folder() / name, None
        while True:
            names = sorted(f.name for f in folder.iterdir() if _BLOCK.fullmatch(f.name)) if folder.is_dir() else []
            if names == before:
                break
            before = names
            time.sleep(0)
        found = []
        for file in names:
            _, last, start, end, level = map(int, _BLOCK.fullmatch(file).groups())
            found.append(((start, -end, -level, -last), _Block(file, (start, end), level, 0, 0, 0, 0, 0)))
        blocks, covered = [], -1
        for _, block in sorted(found, key=lambda f: f[0]):
            if block.parts[0] > covered:
                blocks.append(block)
                covered = block.parts[1]
        return blocks

    def _decode(self, name: str, block: _Block, columns: Collection[str] | None = None) -> pyarrow.Table:
        import pyarrow
        import pyarrow.parquet as parquet

        file = self.folder / name / block.name if block.data is None else None
        try:
            with parquet.ParquetFile(str(file) if file else pyarrow.BufferReader(block.data)) as source:
                if columns is not None:
                    columns = [c for c in source.schema_arrow.names if c == "step" or c in columns]
                return _tight(source.read(columns=columns, use_threads=False))
        except FileNotFoundError:
            raise
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise DiagnoseError(f"{file} is damaged ({error}): delete it to read the rest") from error

    # copies

    def files(self) -> dict[str, bytes]:
        "The record as files by relative path: written into a folder, `Store.read` opens it there. Flushes first."
        if self._writes:
            self.flush()
        found = {_MARK: b""}
        for name in self.tables:
            for block in self._blocks(name):
                data = (self.folder / name / block.name).read_bytes() if block.data is None else bytes(block.data)
                found[f"{name}/{block.name}"] = data
        return found

    def __getstate__(self) -> dict[str, Any]:
        if self._writes:
            self.flush()
        held = {n: [b for b in t.blocks if b.data is not None] for n, t in self._tables.items()}
        return {"folder": self.folder, "held": held}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._start(state["folder"])
        self._reader = True
        self._tables = {name: _Table(blocks=blocks) for name, blocks in state["held"].items()}


def _is_long(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0


def _column(value: Any, rows: int, texts: Mapping[str, _Texts], name: str, where: str) -> tuple[_Rows, str | None, int]:
    """One column of an append, copied: its rows, its kind (None: nothing but nulls), and the bytes it takes.

    Raises:
        DiagnoseError: it has another length, or is nothing that a table can hold.
    """
    long = _is_long(value)
    if long and len(value) != rows:
        raise DiagnoseError(f"{where}: {len(value)} rows where other columns have {rows}")
    if isinstance(value, (list, tuple, str)) or value is None:
        values = list(value) if long else [value] * rows
    else:
        values = value if isinstance(value, np.ndarray) else np.asarray(value)
        if values.dtype.kind in "OUT":
            values = values.tolist() if long else [values.item()] * rows
    mask = None
    if isinstance(values, list):
        first = next((v for v in values if v is not None), None)
        if first is None:
            return _Rows(np.zeros(0)), None, 0
        if isinstance(first, str):
            codes, new = texts[name].encode(values, where)
            return _Rows(codes), "texts", new
        empty = np.fromiter((v is None for v in values), bool, rows)
        if empty.any():
            mask, values = empty, [first if v is None else v for v in values]
        try:
            values = np.asarray(values)
        except ValueError as error:
            raise DiagnoseError(f"{where}: {error}") from None
    if isinstance(values, np.ma.MaskedArray):
        if values.ndim == 2:
            mask = np.ma.getmaskarray(values).any(1)
        elif values.ndim == 1:
            mask = np.ma.getmaskarray(values).copy()
        values = values.data
    dtype = values.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        dtype = np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    if values.ndim < 2 and dtype.kind in "fiub":
        kind = "truth values" if dtype.kind == "b" else "numbers"
    elif values.ndim == 2 and dtype in (np.uint8, np.uint16) and values.shape[1]:
        kind = f"histograms of {values.shape[1]} bins"
        dtype = np.dtype(np.uint16)
    else:
        raise DiagnoseError(f"{where}: {values.ndim}-dimensional {values.dtype} is nothing that a table can hold")
    values = np.array(values, dtype) if values.ndim else np.full(rows, values, dtype)
    return _Rows(values, mask), kind, values.nbytes + (0 if mask is None else mask.nbytes)


def _steps(column: _Rows | None, newest: int | None, table: str) -> np.ndarray:
    if column is None or column.mask is not None or column.values.ndim != 1 or column.values.dtype.kind not in "iu":
        raise DiagnoseError(f"{table}: rows need an integer column 'step'")
    column.values = steps = column.values.astype(np.int64, copy=False)
    if len(steps) and ((newest is not None and steps[0] < newest) or (np.diff(steps) < 0).any()):
        raise DiagnoseError(f"{table}: steps must not fall; the newest is {newest}")
    return steps


def _arrow(table: _Table) -> pyarrow.Table:
    "The rows that wait."
    import pyarrow

    lengths = [len(chunk["step"].values) for chunk in table.waiting]
    columns = {}
    for name, kind in table.kinds.items():
        chunks = [chunk.get(name) for chunk in table.waiting]
        sample = next((c.values for c in chunks if c is not None), None)
        if sample is None:
            continue
        empty = [c is None or c.mask is not None for c in chunks]
        values = np.concatenate(
            [np.zeros((n, *sample.shape[1:]), sample.dtype) if c is None else c.values for c, n in zip(chunks, lengths)]
        )
        mask = None
        if any(empty):
            mask = np.concatenate(
                [np.full(n, c is None) if c is None or c.mask is None else c.mask for c, n in zip(chunks, lengths)]
            )
        if kind == "texts":
            nulls = (values < 0) if mask is None else (values < 0) | mask
            words = pyarrow.array(table.texts[name].words, pyarrow.string())
            columns[name] = pyarrow.DictionaryArray.from_arrays(
                pyarrow.array(values, mask=nulls if nulls.any() else None), words
            )
        elif values.ndim == 2:
            columns[name] = _histograms(values, mask)
        else:
            columns[name] = pyarrow.array(values, mask=mask)
    return pyarrow.table(columns)


def _histograms(values: np.ndarray, mask: np.ndarray | None) -> pyarrow.Array:
    "[rows, bins] counts as lists of fixed size, null where the mask is True."
    import pyarrow

    items = pyarrow.array(values.reshape(-1))
    sized = pyarrow.list_(pyarrow.field("element", items.type), values.shape[1])
    nulls = None if mask is None else pyarrow.array(mask)
    return pyarrow.FixedSizeListArray.from_arrays(items, type=sized, mask=nulls)


def _loose(rows: pyarrow.Table) -> pyarrow.Table:
    """Histograms with nulls among them as lists of any size: Arrow up to 20 cannot write the others (arrow#35697).

    The number of bins goes into the metadata of the field, for `_tight`.
    """
    import pyarrow

    for at, field_ in enumerate(rows.schema):
        if not pyarrow.types.is_fixed_size_list(field_.type) or not rows.column(at).null_count:
            continue
        column = pyarrow.concat_arrays(rows.column(at).chunks)
        empty = column.is_null()
        ends = np.cumsum(~empty.to_numpy(zero_copy_only=False)) * field_.type.list_size
        lists = pyarrow.ListArray.from_arrays(
            pyarrow.array(np.append(0, ends), pyarrow.int32()),
            column.flatten(),
            type=pyarrow.list_(field_.type.value_field),
            mask=empty,
        )
        meta = {_BINS: str(field_.type.list_size)}
        rows = rows.set_column(at, pyarrow.field(field_.name, lists.type, metadata=meta), lists)
    return rows


def _tight(rows: pyarrow.Table) -> pyarrow.Table:
    "The inverse of `_loose`."
    import pyarrow

    for at, field_ in enumerate(rows.schema):
        if _BINS not in (field_.metadata or {}):
            continue
        column = pyarrow.concat_arrays(rows.column(at).chunks)
        empty = column.is_null().to_numpy(zero_copy_only=False)
        values = np.zeros((len(column), int(field_.metadata[_BINS])), np.uint16)
        values[~empty] = column.flatten().to_numpy().reshape(-1, values.shape[1])
        rows = rows.set_column(at, field_.name, _histograms(values, empty))
    return rows


def _at(rows: pyarrow.Table, steps: Collection[int] | None) -> pyarrow.Table:
    "The rows of those steps."
    import pyarrow

    return rows if steps is None else rows.filter(pyarrow.array(np.isin(rows["step"].to_numpy(), list(steps))))


def _concat(parts: list[pyarrow.Table]) -> pyarrow.Table:
    import pyarrow

    # one layer's texts, and numbers of two widths, may differ in type from block to block
    return pyarrow.concat_tables(parts, promote_options="permissive").unify_dictionaries()


def _ends(all_blocks: list[_Block], blocks: list[_Block]) -> set[int]:
    "Numbers of the records that neighbours share with the blocks before and after them."
    at, to = all_blocks.index(blocks[0]), all_blocks.index(blocks[-1]) + 1
    before = {blocks[0].first} if at and all_blocks[at - 1].last == blocks[0].first else set()
    after = {blocks[-1].last} if to < len(all_blocks) and all_blocks[to].first == blocks[-1].last else set()
    return before | after


def _thinned(rows: pyarrow.Table, block: _Block, level: int, has: set[int], keep: set[int]) -> pyarrow.Table:
    """Those rows of a block that the level keeps.

    A block holds all records of its own level within its span, and those that it shares with its neighbours (`has`):
    a step of which one block keeps its rows and the next does not would be torn. So those that the merged block will
    share (`keep`) stay.
    """
    import pyarrow

    if level == block.level:
        return rows
    grid = 2**block.level
    numbers = np.array(sorted({*range(-(-block.first // grid) * grid, block.last + 1, grid), *has}))
    steps = rows["step"].to_numpy()
    number = numbers[np.cumsum(np.diff(steps, prepend=steps[:1]) != 0)]
    return rows.filter(pyarrow.array((number % 2**level == 0) | np.isin(number, list(keep))))


def _encode(
    rows: pyarrow.Table, parts: tuple[int, int], level: int, generation: int, first: int, last: int
) -> tuple[_Block, pyarrow.Buffer]:
    """A block of these rows and its file.

    Measured on noisy statistics and 64-bin histograms of 4096 samples: streams of equal bytes take 24 - 26 bytes for
    10 float32 and 17 - 31 for a histogram; plain values 26 - 28 and 26 - 42; dictionaries 36 and 21 - 35. Level 3 of
    zstd is as fast as 1 and smaller; 9 takes two to three times as long for 7 % less.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    whole, rows = rows, _loose(rows)
    types = {f.name: f.type for f in rows.schema}
    streams = [n for n, t in types.items() if pyarrow.types.is_floating(t)]
    streams += [f"{n}.list.element" for n, t in types.items() if pyarrow.types.is_nested(t)]
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(
        rows,
        sink,
        row_group_size=len(rows),
        compression="zstd",
        compression_level=3,
        use_dictionary=[n for n, t in types.items() if pyarrow.types.is_dictionary(t)] or False,
        use_byte_stream_split=streams or False,
        write_statistics=["step"],
    )
    data = sink.getvalue()
    steps = rows["step"].to_numpy()
    name = f"{steps[0]:08d}-{steps[-1]:08d}.{parts[0]}-{parts[1]}.{level}.parquet"
    return _Block(name, parts, level, generation, first, last, whole.nbytes, data.size), data


def _write(path: Path, data: pyarrow.Buffer) -> None:
    "Write a file that is there whole or not at all, whatever stops us."
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        _delete(part)
        raise
    if os.name == "posix":  # the new name itself is on disk only with its folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):  # it is superseded all the same
        path.unlink(missing_ok=True)


def _series(column: pyarrow.ChunkedArray) -> Any:
    import pandas
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        return column.to_pandas().cat.remove_unused_categories()
    if pyarrow.types.is_fixed_size_list(column.type):
        cells = np.empty(len(column), object)
        at = 0
        for chunk in column.chunks:
            width = column.type.list_size
            values = chunk.values.to_numpy(zero_copy_only=False).reshape(-1, width)
            for i, row in enumerate(values[chunk.offset : chunk.offset + len(chunk)], at):
                cells[i] = row
            if chunk.null_count:
                cells[at : at + len(chunk)][chunk.is_null().to_numpy(zero_copy_only=False)] = None
            at += len(chunk)
        return pandas.Series(cells, dtype=object)
    if column.null_count and not pyarrow.types.is_floating(column.type):
        nullable = "boolean" if pyarrow.types.is_boolean(column.type) else "Int64"
        return column.to_pandas(types_mapper={column.type: pandas.api.types.pandas_dtype(nullable)}.get)
    return column.to_pandas()
