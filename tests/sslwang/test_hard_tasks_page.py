"""The page of the tasks that take long is made of what `sslwang learn --out` writes, and says what is missing."""

import json

import pytest
import torch

from tests.bench.hard_tasks import (
    CHANGES,
    PLACED,
    STUCK,
    TITLE,
    Cached,
    drawn,
    fitting,
    line,
    most,
    page,
    read,
    task_of,
    trained,
    tried,
    verdict,
)
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
    assert line("quadrant", tmp_path).count("not measured") == 8
    (tmp_path / "quadrant.md").write_text(WRITTEN.format(loss=1.2))
    easy = {"version": "marked", "steps": 150, "seconds": 9.6, "chance": 0.25, "scores": {"region": 1.0, "photo": 0.99}}
    batch = {"rows": 16, "steps": 200, "loss": 0.01, "constant": 1.3863}
    (tmp_path / "quadrant.json").write_text(json.dumps({"easiest": easy, "batch": batch}))
    row = [cell.strip() for cell in line("quadrant", tmp_path).strip("|").split("|")]
    assert row[4:] == [
        "0.500",
        "0.260",
        "more than chance on region",
        "2026-11-24, abc",
        "marked, 150 steps, 10 s",
        "1.000",
        "0.990",
        "1e-02 (1.386)",
    ]


def test_the_page_has_a_row_for_each_task(tmp_path):
    text = page(tmp_path)
    assert [name for name in STEPS if f"\n| {name} | " not in text] == []


def test_what_is_not_in_the_folder_is_kept_from_the_page(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "quadrant.md").write_text(WRITTEN.format(loss=1.2))
    fixed = {"batch": {"rows": 16, "steps": 200, "loss": 0.01, "constant": 1.3863}}
    (first / "quadrant.json").write_text(json.dumps(fixed))
    before = page(first) + f"\n{TITLE}\n\n| change | quadrant |\n"
    assert page(second, before) == before
    (second / "odd-rotation.md").write_text(WRITTEN.replace("quadrant", "odd-rotation").format(loss=1.1))
    after = page(second, before)
    assert line("quadrant", first) in after
    assert "| odd-rotation | accuracy | 0.250 | 1.386 | 0.500 | 0.260 | more than chance on region |" in after
    assert [x.split()[3] for x in after.splitlines() if x.startswith("    sslwang")] == ["odd-rotation", "quadrant"]
    with pytest.raises(ValueError, match="not a page of this program"):
        page(second, "# Another page\n")


def test_every_change_is_one_that_some_task_knows():
    known = {name: set(fitting(name)) for name in STUCK}
    assert set.union(*known.values()) == set(CHANGES)
    assert "strength 2" not in known["quadrant"]
    assert "whole images" not in known["split-direction"]


def test_a_change_trains_on_draws_that_are_kept():
    easy = task_of("quadrant", bs=16, valid_items=32, mode="marked")
    batches, judged = drawn(easy, 40)
    assert len(batches) == 40
    assert {name: sum(len(y) for _, y in rows) for name, rows in judged.items()} == dict.fromkeys(judged, 32)
    for (kept, label), (fresh, same) in zip(batches, easy.under(items=640).loaders(0).train):
        torch.testing.assert_close(kept, fresh, atol=2e-3, rtol=1e-3)
        assert torch.equal(label, same)
    found, weights = trained(easy, batches, judged, False, None)
    assert found["steps"] == 40
    assert min(found[name] for name in judged) > 0.9
    again, _ = trained(easy, Cached(list(batches)[:1]), judged, True, weights)
    assert min(again[name] for name in judged) > 0.9


def test_small_crops_tell_next_to_nothing_of_places_and_whole_images_do():
    small, whole = most(400), most(400, whole=True)
    assert small["quadrant"] < 0.45 < 0.85 < whole["quadrant"]
    assert small["odd-position"] < 0.45 < 0.9 < whole["odd-position"]
    unknown = most(400, whole=True, sides=False)
    assert unknown["quadrant"] <= 0.5
    assert set(unknown) == set(PLACED)


def test_what_was_tried_is_told_by_change(tmp_path):
    assert tried(tmp_path) == []
    reached = {"steps": 400, "loss": 0.5, "train": 0.8, "region": 0.25, "photo": 0.3}
    (tmp_path / "quadrant.tried.json").write_text(json.dumps({"whole images": reached}))
    text = page(tmp_path)
    assert "| change | quadrant |" in text
    assert "| whole images | 0.500: 0.800, 0.250, 0.300 |" in text
    assert "| as it is |" not in text
    assert "* quadrant: whole images (of 1 tried)" in text
    (tmp_path / "quadrant.tried.json").write_text(json.dumps({"whole images": {**reached, "photo": 0.28}}))
    assert "* quadrant: none (of 1 tried)" in page(tmp_path)
