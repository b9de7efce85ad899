"""What is written of an evaluation: Markdown, JSON, plots, the browser of predictions."""

import base64
import dataclasses
import hashlib
import io
import json
import re

import numpy as np
import pytest
import torch
from evaluations import evaluation, predictions, start
from PIL import Image
from rich.console import Console

from sslwang.evaluation import browser, pages, plots
from sslwang.evaluation.comparison import Facts
from sslwang.evaluation.pictures import chosen_rows, data_uri, ranked

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def found():
    return evaluation(
        [
            (start("random", "random"), {"knn": [0.3, 0.32, 0.3], "finetune": [0.4, 0.42, 0.4]}),
            (start("simclr", "baseline"), {"knn": [0.5, 0.55, 0.5], "finetune": [0.6, 0.62, 0.6]}),
            (start("unmix task=regression"), {"knn": [0.5, 0.53, 0.5], "finetune": [0.4, 0.42, 0.45]}),
        ]
    )


def picture(uri):
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_rows_are_ranked_by_loss_and_by_confidence():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.55, 0.45], [0.7, 0.3]])
    found = ranked(p, np.array([0, 0, 1, 0]), 2)
    assert found == {"most wrong": [1, 2], "least wrong": [0, 3], "most sure": [0, 1], "least sure": [2, 3]}


def test_a_picture_has_every_pixel_of_its_tensor_in_its_place():
    tensor = torch.arange(3 * 5 * 7, dtype=torch.float32).reshape(3, 5, 7)
    levels = picture(data_uri(tensor)).astype(float)
    assert levels.shape == (5, 7, 3)
    flat = levels.transpose(2, 0, 1).ravel()
    assert (np.diff(flat) >= 0).all()
    assert (flat[0], flat[-1]) == (0, 255)


def test_a_picture_of_one_value_is_no_error():
    assert picture(data_uri(torch.full((3, 4, 4), 2.5))).std() == 0


def test_shown_rows_hold_the_tensor_that_was_scored():
    p, labels = predictions(0.5, rows=30)
    asked = []

    def tensor(i):
        asked.append(i)
        return torch.full((3, 4, 4), float(i)).index_fill(2, torch.tensor([0]), -1.0)

    found = chosen_rows(p, labels, [f"image {i}" for i in range(30)], tensor)
    assert sorted(found["rows"], key=int) == [str(i) for i in asked]
    for i in asked:
        row = found["rows"][str(i)]
        assert (row["name"], row["truth"]) == (f"image {i}", labels[i])
        assert row["predicted"] == p[i].argmax()
        assert row["probability_of_truth"] == pytest.approx(p[i, labels[i]])
    json.dumps(found)


# ---- Markdown and JSON -----------------------------------------------------------------------------------------------


def test_the_page_has_a_row_a_start_with_differences_beside(found):
    page = pages.markdown(found, ["sslwang evaluate"], "where.", {"plot": "plot.png"})
    heads, body = pages.rows(found, 0.01)
    assert heads[:3] == ["start", "nearest neighbours", "to random"]
    assert [row[0] for row in body] == ["random", "simclr", "unmix task=regression"]
    assert body[0][2] == "–"
    assert body[1][2].startswith("+20.")
    assert body[2][5:] == ["accuracy 0.900 (chance 0.25)", "60"]
    for row in body:
        assert f"| {' | '.join(row)} |" in page
    for said in ("sslwang evaluate", "![plot](plot.png)", "where.", "standardised by itself", "100 steps of 4 rows",
                 "accuracy masked, outputs masked to the 3 classes", "Gate: behind the gate"):  # fmt: skip
        assert said in page, said


def test_bars_in_a_name_do_not_break_the_table():
    page = pages.markdown(evaluation([(start("a|b"), {"knn": [0.3] * 3})]), [], "")
    assert "| a\\|b | " in page


def test_what_could_not_be_computed_is_on_the_page(found):
    lost = evaluation([(start("unmix"), {"knn": [0.3] * 3})], missing=("simclr, seed 1: no room",))
    assert "- simclr, seed 1: no room" in pages.section(lost)
    assert "Not computed:" not in pages.section(found)


def test_tables_mark_differences_beyond_their_interval(found):
    console = Console(width=140, record=True, file=io.StringIO())
    for table in pages.tables(found):
        console.print(table)
    text = console.export_text(styles=True)
    assert len(pages.tables(found)) == 2
    assert re.search(r"\x1b\[1m\+20\.\d", text)
    assert "\x1b[1m+0." not in text


def test_result_json_holds_every_cell_and_verdict(found):
    made = json.loads(json.dumps(pages.result(found, ["sslwang x"], {"commit": "abc"}), default=str))
    assert made["schema"] == 1
    assert (made["commands"], made["commit"], made["metric"]) == (["sslwang x"], "abc", "accuracy")
    assert len(made["cells"]) == 3 * 2 * 2 * 3
    assert len(made["summaries"]) == 3 * 2 * 2
    simclr = next(v for v in made["verdicts"] if (v["start"], v["method"]) == ("simclr", "knn"))
    assert simclr["beats_random"]
    assert not simclr["below_random"]
    summary = next(s for s in made["summaries"] if (s["start"], s["method"]) == ("simclr", "knn"))
    assert summary["to_random"]["mean"] == pytest.approx(0.2, abs=0.02)
    assert {s["name"]: s["kind"] for s in made["starts"]}["random"] == "random"


# ---- plots -----------------------------------------------------------------------------------------------------------


def test_every_start_is_drawn_by_every_method(found):
    figure = plots.by_labels(found)
    assert [axes.get_title() for axes in figure.axes] == ["nearest neighbours", "fine-tuning"]
    for axes in figure.axes:
        names = [line.get_label() for line in axes.containers]
        assert names == ["random", "simclr", "unmix task=regression"]
    means = [float(v) for v in figure.axes[0].containers[1].lines[0].get_ydata()]
    assert means == pytest.approx([found.mean("simclr", "knn", f).mean for f in (0.01, 0.1)])
    assert plots.png(figure).startswith(b"\x89PNG")


def test_nothing_is_cut_off_where_one_method_is_far_above_another():
    figure = plots.by_labels(evaluation([(start("a"), {"knn": [0.1, 0.15, 0.1], "finetune": [0.8, 0.85, 0.8]})]))
    for axes in figure.axes:
        low, high = axes.get_ylim()
        for container in axes.containers:
            means = container.lines[0].get_ydata()
            assert all(low < y < high for y in means), axes.get_title()
        assert 0 <= low < high <= 1


def test_starts_are_told_apart_by_more_than_colour(found):
    looks = plots.styles([start(f"task {i}") for i in range(12)])
    assert len({(str(s["color"]), s["linestyle"]) for s in looks.values()}) == 12
    assert len({s["marker"] for s in looks.values()}) == 12


def test_confusion_shows_classes_of_validation_by_name(found):
    figure = plots.confusions(found, "knn", 0.01)
    assert len(figure.axes) == 3 + 1  # and the scale
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["astronaut", "chelsea", "rocket"]
    shares = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(shares.sum(1), 1)


def test_reliability_is_drawn_against_the_diagonal(found):
    figure = plots.reliabilities(found, "knn", 0.01)
    assert len(figure.axes) == 3
    assert "calibration error" in figure.axes[0].get_title()


def test_figures_of_many_starts_stop_at_twelve():
    many = evaluation([(start(f"task {i}"), {"knn": [0.5]}) for i in range(14)], fractions=(0.1,))
    assert len(plots.reliabilities(many, "knn", 0.1).axes) == 12


# ---- the browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def page(found):
    facts = Facts(SCRIPT, (SCRIPT, "b", "c", "d & e"), 3, 400, 40, 0.35)
    p, labels = predictions(0.5)
    rows = chosen_rows(p, labels, [f"{SCRIPT} {i}" for i in range(40)], lambda i: torch.randn(3, 6, 6))
    made = evaluation([(start("unmix"), {"knn": [0.5] * 3})], facts=facts)
    return browser.page(made, start("unmix"), 0.01, 0, {"knn": rows}), rows


def test_a_page_of_predictions_is_self_contained_and_escaped(page):
    text, rows = page
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "d &amp; e" in text
    assert not re.search(r"(src|href)=\"(?!data:image/png;base64,|#|index\.html)", text)
    assert text.count("<img ") == sum(len(places) for places in rows["kinds"].values()) == 48
    for uri in re.findall(r'src="([^"]+)"', text):
        assert picture(uri).shape == (6, 6, 3)


def test_the_policy_of_a_page_lets_its_own_style_in(page):
    style = re.search(r"<style>(.*?)</style>", page[0], re.S).group(1)
    expected = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{expected}'" in page[0].replace("&#39;", "'")


def test_every_row_says_prediction_truth_and_whether_it_is_right(page):
    text, rows = page
    shown = [rows["rows"][str(i)] for places in rows["kinds"].values() for i in places]
    right = sum(row["truth"] == row["predicted"] for row in shown)
    assert 0 < right < len(shown)
    assert text.count("✓ right") == right
    assert text.count("✗ wrong") == len(shown) - right
    assert f"{shown[0]['probability']:.3f}" in text


@pytest.mark.parametrize(("fraction", "draws", "said"), [(0.01, 5, True), (0.01, 1, False), (1.0, 5, False)])
def test_a_page_says_whose_predictions_it_shows(found, fraction, draws, said):
    protocol = dataclasses.replace(found.protocol, draws=draws)
    text = browser.page(dataclasses.replace(found, protocol=protocol), found.starts[2], fraction, 0, {})
    assert ("means over 5 choices of the labelled images; the predictions shown are those of the first" in text) is said


def test_brackets_in_the_name_of_a_folder_are_no_markup():
    facts = Facts("data[bold]/x[/]", ("a",), 1, 4, 4, 1.0)
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(pages.tables(evaluation([(start("unmix"), {"knn": [0.5] * 3})], facts=facts))[0])
    assert "data[bold]/x[/]" in console.export_text()


def test_the_index_links_pages_that_are_there(found):
    text = browser.index(found, 0.01, {"simclr": "simclr.html"})
    assert '<a href="simclr.html">simclr</a>' in text
    assert "unmix task=regression" in text
    assert text.count("<a ") == 1
