"""The page of the tasks that take long is made of what `sslwang learn --out` writes, and says what is missing."""

import json

import pytest

from tests.bench.hard_tasks import line, page, read, task_of, verdict
from tests.sslwang.tasks.test_easiest_versions import STEPS

WRITTEN = """    sslwang learn --task quadrant --steps 5000 --out quadrant.md

| seed | held out | loss | accuracy | seconds |
| -- | -- | -- | -- | -- |
| 0 | region | {loss} | 0.5000 | 83 |
| 0 | photo | {loss} | 0.2600 | 83 |

best constant: loss 1.3863, accuracy 0.2500. 2026-11-24, abc, torch 2.14.1
"""


def test_the_last_training_of_a_file_is_read():
    assert read("") == []
    found = read(WRITTEN.format(loss=1.5) + "\n" + WRITTEN.format(loss=1.2))
    assert [(x.split, x.loss, x.score, x.seconds) for x in found] == [
        ("region", 1.2, 0.5, 83.0),
        ("photo", 1.2, 0.26, 83.0),
    ]
    assert found[0].command == "sslwang learn --task quadrant --steps 5000 --out quadrant.md"
    assert found[0].circumstances == "2026-11-24, abc, torch 2.14.1"
    with pytest.raises(ValueError, match="no table of"):
        read("    sslwang learn --task quadrant\n")


def test_what_was_reached_is_judged_against_chance():
    task = task_of("quadrant")
    assert verdict(task, read(WRITTEN.format(loss=1.2)), 960) == "more than chance on region"
    assert verdict(task, read(WRITTEN.format(loss=1.2)), 4) == "chance"
    assert verdict(task, read(WRITTEN.format(loss=1.3862)), 960) == "answers a constant"


def test_a_row_says_what_there_is(tmp_path):
    assert line("quadrant", tmp_path).count("not measured") == 7
    (tmp_path / "quadrant.md").write_text(WRITTEN.format(loss=1.2))
    easy = {"version": "marked", "steps": 150, "seconds": 9.6, "chance": 0.25, "scores": {"region": 1.0, "photo": 0.99}}
    batch = {"rows": 16, "steps": 200, "loss": 0.01, "constant": 1.3863}
    (tmp_path / "quadrant.json").write_text(json.dumps({"easiest": easy, "batch": batch}))
    row = [cell.strip() for cell in line("quadrant", tmp_path).strip("|").split("|")]
    assert row[4:] == [
        "0.500",
        "0.260",
        "more than chance on region",
        "marked, 150 steps, 10 s",
        "1.000",
        "0.990",
        "1e-02 (1.386)",
    ]


def test_the_page_has_a_row_for_each_task(tmp_path):
    text = page(tmp_path)
    assert [name for name in STEPS if f"\n| {name} | " not in text] == []
