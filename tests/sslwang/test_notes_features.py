"""The page of the notes' features names files and tests that exist, and leaves no feature out."""

import ast
import re
from pathlib import Path

import pytest

from diagnose.registry import entries

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "reports" / "notes-features.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if re.match(r"\| [A-Z]\d+[a-d]? \|", line)
]
TASKS = re.findall(r"\w+", "1 1b 1c 2a 2b 3a 3b 4a 4b 5 6 6b 7a 7b 7c 7d 8 8b 9a 9b 10 11 12 13 14")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_file_and_test_exists(row):
    _, _, files, tests = row
    if tests.startswith("not built: "):
        assert files.startswith("none")
        return
    named = re.findall(r"`([^`]+)`", files)
    assert named
    assert [f for f in named if not (ROOT / f).is_file()] == []
    (test,) = re.findall(r"`([^`]+)`", tests)
    path, _, name = test.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert not name or name in functions, f"{path} has no {name}"


def test_no_feature_of_the_notes_is_left_out():
    ids = [row[0] for row in ROWS]
    assert len(ids) == len(set(ids))
    wanted = [f"T{t}" for t in TASKS] + [f"D{k}" for k in range(1, 19)] + [f"C{k}" for k in range(1, 19)]
    assert [i for i in wanted if i not in ids] == []


def test_every_task_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    assert [e.id for e in entries("sslwang.tasks") if f"sslwang/tasks/{e.id.replace('-', '_')}.py" not in text] == []
