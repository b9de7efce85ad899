"""The report as a person meets it, in headless Chromium."""

from __future__ import annotations

import io

import pytest
from PIL import Image

pytestmark = pytest.mark.browser

NAMES = [
    "passing",
    "warning",
    "failing",
    "inspected",
    "rescaled",
    "interrupted",
    "empty",
    "hostile",
    "one_step",
    "huge",
    "recorded",
    "recorded_hostile",
    "1-real-passing",
    "2-real-failing",
]
OPEN_ALL = "document.querySelectorAll('details').forEach(d => { d.open = true })"
TOO_WIDE = """() => [...document.querySelectorAll('body *')].filter(e => {
    for (let p = e.parentElement; p; p = p.parentElement) {
        if (getComputedStyle(p).overflowX !== 'visible' || p.tagName === 'svg') return false;
    }
    const box = e.getBoundingClientRect();
    return box.width > 1 && (box.right > innerWidth + 1 || box.left < -1);
}).map(e => e.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("width", [380, 1440])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wider_than_the_window(opened, name, width):
    page = opened(name, width)
    for _ in ("closed", "open"):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(TOO_WIDE) == []
        inner = page.locator("main").evaluate("m => m.clientWidth - 2 * parseFloat(getComputedStyle(m).paddingLeft)")
        assert all(s.bounding_box()["width"] <= inner + 1 for s in page.locator("section > :not(template)").all())
        page.evaluate(OPEN_ALL)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1440])
@pytest.mark.parametrize(
    "name", ["warning", "inspected", "interrupted", "empty", "recorded", "1-real-passing", "2-real-failing"]
)
def test_axe_finds_no_violation(opened, name, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(name, width, scheme)
    page.evaluate(OPEN_ALL)
    found = Axe().run(page).response["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"]) for v in found] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1440])
def test_the_screenshot_has_something_to_see(opened, width, scheme):
    page = opened("failing", width, scheme)
    image = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    assert image.width == width
    assert image.height > 2000
    assert len(image.getcolors(image.width * image.height)) > 500
    paper = image.getpixel((3, image.height // 2))
    assert (sum(paper) > 600) == (scheme == "light")


def test_verdict_cause_fix_and_curves_are_visible_without_javascript(opened):
    page = opened("failing", java_script_enabled=False)
    assert page.locator("h1").inner_text().split() == ["FAIL", "unmix"]
    assert page.get_by_role("heading", name="lr-too-high").is_visible()
    assert page.get_by_text("learn.fit_one_cycle(10, lr_max=3e-3)").is_visible()
    assert page.locator("#cause .chart").count() == 2
    assert page.locator("#cause .chart").first.is_visible()
    assert page.get_by_text("not finite from step 9", exact=True).first.is_visible()
    assert page.locator("button:visible").count() == 0
    row = page.get_by_role("row").filter(has_text="overfit-one-batch").first
    assert "not finite from step 9" in row.inner_text()


def test_both_curves_have_one_axis(opened):
    page = opened("failing")
    before, after = (page.locator(f"#cause .is-{side} .tick").all_text_contents() for side in ("before", "after"))
    assert before == after
    assert len(before) > 4
    assert all(before)
    heights = [page.locator(f"#cause .is-{side} .chart .constant").get_attribute("y1") for side in ("before", "after")]
    assert heights[0] == heights[1]


def test_curves_stand_side_by_side_or_below_each_other(opened):
    for width, beside in ((1440, True), (380, False)):
        boxes = [f.bounding_box() for f in opened("failing", width).locator("#cause .half").all()]
        assert (boxes[0]["y"] == boxes[1]["y"]) == beside


def test_copy_puts_the_fix_on_the_clipboard(opened, samples):
    page = opened("failing", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == samples.failing().cause.fix.code


def test_all_evidence_opens_and_closes(opened):
    page = opened("failing")
    button = page.get_by_role("button", name="Show or hide all evidence")
    assert page.locator("details.evidence[open]").count() == 0
    button.click()
    assert page.locator("details.evidence:not([open])").count() == 0
    button.click()
    assert page.locator("details.evidence[open]").count() == 0


def test_keyboard_reaches_the_report_and_the_evidence(opened):
    page = opened("failing")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.locator("details.evidence summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details.evidence").first.get_attribute("open") is not None


def test_hostile_names_stay_text(opened, samples):
    page = opened("hostile")
    page.evaluate(OPEN_ALL)
    assert page.locator("script").count() == 1
    assert page.locator("img:not([src^='data:image/png'])").count() == 0
    assert samples.SCRIPT in page.locator("h1").inner_text()
    assert (
        page.evaluate(
            "[...document.querySelectorAll('*')].some(e => [...e.attributes].some(a => a.name.startsWith('on')))"
        )
        is False
    )


def test_pictures_are_decoded(opened):
    page = opened("passing")
    sizes = page.evaluate("[...document.images].map(i => i.naturalWidth)")
    assert sizes == [64] * 24


@pytest.mark.parametrize("width", [380, 1440])
def test_bars_are_as_long_as_what_they_show(opened, samples, width):
    bars = opened("passing", width).locator(".times .bar")
    full = [b.locator(".track").bounding_box()["width"] for b in bars.all()]
    fill = [b.locator(".fill").bounding_box()["width"] for b in bars.all()]
    times = sorted((c.seconds for c in samples.passing().checks), reverse=True)
    assert [f / w for f, w in zip(fill, full)] == pytest.approx([t / times[0] for t in times], abs=0.01)


def test_a_large_report_opens_in_three_seconds_and_says_that_it_is_thinned(opened, large_run):
    assert (large_run / "report.html").stat().st_size < 6_000_000
    page = opened("large")
    assert page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") < 3000
    said = page.locator("#training > .hint").first.inner_text()
    assert said.startswith("10,000 recorded steps, 0 to 9,999")
    assert "The figures of single layers show" in said
    assert page.locator("#parameters tbody tr").count() == 500


# ---- the table of checks ---------------------------------------------------------------------------------------------


def shown_checks(page) -> list[str]:
    return [row.inner_text() for row in page.locator("#checks .checks > tbody:visible > tr > th").all()]


def test_checks_are_filtered_by_state_and_by_words(opened, samples):
    page = opened("failing")
    every = shown_checks(page)
    assert len(every) == 5
    page.get_by_role("checkbox", name="pass").uncheck()
    assert shown_checks(page) == [c for c in every if c != "gradient-flow"]
    page.get_by_role("checkbox", name="pass").check()
    search = page.get_by_role("searchbox", name="Words that a check holds")
    search.fill("encoder.3.weight GRADIENT")  # in the evidence of one
    assert shown_checks(page) == ["gradient-flow"]
    assert page.locator("form.filter output").inner_text() == "1 of 5 checks"
    search.fill("nothing like this")
    assert shown_checks(page) == []
    search.fill("")
    assert shown_checks(page) == every


# ---- what was recorded -----------------------------------------------------------------------------------------------


def column(page, name: str) -> list[float]:
    at = page.locator("#parameters thead th").all_inner_texts()
    at = next(i for i, text in enumerate(at) if text.startswith(name))
    cells = page.locator(f"#parameters tbody td:nth-child({at + 1})")
    return [float(v) for v in cells.evaluate_all("cells => cells.map(c => c.dataset.v)")]


def test_layers_sort_both_ways_by_any_column_and_back(opened):
    page = opened("recorded")
    names = page.locator("#parameters tbody th").all_inner_texts()
    head = page.locator("#parameters thead th", has_text="gradient norm")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, "gradient norm") == sorted(column(page, "gradient norm"), reverse=True)
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, "gradient norm") == sorted(column(page, "gradient norm"))
    page.get_by_role("button", name="Parameter").click()
    assert head.get_attribute("aria-sort") is None
    assert page.locator("#parameters tbody th").all_inner_texts() == names


def test_text_on_every_shade_can_be_read(opened):
    for scheme in ("light", "dark"):
        page = opened("recorded", scheme=scheme)
        ratios = page.evaluate(
            """() => {
                const light = (c) => c.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
                    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
                const cell = document.querySelector("#parameters td");
                return [0, 1, 2, 3, 4, 5, 6, 7, 8].map((level) => {
                    cell.className = `h${level}`;
                    const style = getComputedStyle(cell);
                    const below = getComputedStyle(document.querySelector(".tall"));
                    const paper = (level ? style : below).backgroundColor;
                    const [a, b] = [light(style.color), light(paper)].sort((x, y) => y - x);
                    return (a + 0.05) / (b + 0.05);
                });
            }"""
        )
        assert len(ratios) == 9
        assert min(ratios) > 4.5
        assert ratios == sorted(ratios, reverse=True)  # a larger number is told by its shade too


def read(page, figure, x: float, y: float) -> str:
    box = figure.locator(".frame").bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    return figure.locator(".readout").inner_text()


def test_hover_reads_the_loss_of_the_step_under_the_pointer(opened):
    page = opened("1-real-passing")
    figure = page.locator("figure[data-key=loss]")
    figure.scroll_into_view_if_needed()
    first, last = read(page, figure, 0.01, 0.5), read(page, figure, 0.999, 0.5)
    assert first.startswith("step 0: ")
    assert float(first.split(": ")[1]) > 1
    assert float(last.split(": ")[1]) < 0.5
    assert figure.locator(".cursor").count() == 1
    page.mouse.move(0, 0)
    assert figure.locator(".readout").inner_text() == "Point at it to read values, drag to zoom."


def test_dragging_zooms_and_a_button_shows_all_again(opened):
    page = opened("recorded")
    for key in ("loss", "updates.ratio", "activations"):
        figure = page.locator(f"figure[data-key='{key}']")
        figure.scroll_into_view_if_needed()
        ticks = figure.locator(".tick").all_text_contents()
        whole = figure.get_by_role("button", name="Show all steps")
        assert not whole.is_visible()
        box = figure.locator(".frame").bounding_box()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 90)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 90, steps=3)
        assert figure.locator(".selected").count() == 1
        page.mouse.up()
        assert figure.locator(".tick").all_text_contents() != ticks
        step = int(read(page, figure, 0.2, 0.5).split(" ")[1].rstrip(":,"))
        assert 20 <= step <= 42  # of 0 to 59, where the unzoomed figure has a step below 10
        whole.click()
        assert figure.locator(".tick").all_text_contents() == ticks


def test_keys_read_and_zoom(opened):
    page = opened("recorded")
    for key in ("loss", "activations"):
        figure = page.locator(f"figure[data-key={key}]")
        figure.locator(".frame").focus()
        said = []
        for pressed in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft"):
            page.keyboard.press(pressed)
            said.append(figure.locator(".readout").inner_text())
        assert [int(s.split(" ")[1].rstrip(":,")) for s in said] == [0, 1, 1, 0]
        page.keyboard.press("+")
        assert figure.get_by_role("button", name="Show all steps").is_visible()
        page.keyboard.press("0")
        assert not figure.get_by_role("button", name="Show all steps").is_visible()


def test_layers_are_hidden_and_chosen(opened):
    page = opened("recorded")
    figure = page.locator("figure[data-kind=lines]")
    lines = figure.locator("svg.live .line")
    assert lines.count() == 6
    figure.get_by_role("button", name="Hide encoder.0.weight").click()
    assert lines.count() == 5
    figure.get_by_text("Layers: 5 of 12 shown").click()
    figure.get_by_role("searchbox").fill("encoder.1")
    assert figure.locator(".choices label").all_inner_texts() == [f"encoder.{i}.weight" for i in (1, 10, 11)]
    figure.get_by_role("checkbox", name="encoder.10.weight").check()
    assert lines.count() == 6
    figure.get_by_role("button", name="Hide these").click()
    figure.get_by_role("searchbox").fill("")
    figure.get_by_role("button", name="Hide these").click()
    assert lines.count() == 0
    assert figure.get_by_text("no layer is shown").count() == 1
    figure.get_by_role("button", name="Show these").click()
    assert lines.count() == 12
    figure.get_by_label("Quantity").select_option(label="Outputs: spread")
    assert figure.locator("figcaption strong").inner_text() == "spread"
    assert lines.count() == 6  # layers are chosen apart from parameters
    assert figure.get_by_role("button", name="Hide encoder.0 (ReLU)").is_visible()


def test_heat_maps_of_every_kind_and_layer(opened):
    page = opened("recorded")
    figure = page.locator("figure[data-kind=heat]")
    seen = set()
    for kind in ("Activations", "Weights", "Gradients"):
        figure.get_by_label("Of").select_option(label=kind)
        for layer in (0, 11):
            figure.get_by_label("Layer").select_option(index=layer)
            assert f"encoder.{layer}" in figure.locator("figcaption").inner_text()
            seen.add(figure.locator("svg.live image").get_attribute("href"))
    assert len(seen) == 6
    figure.scroll_into_view_if_needed()
    assert "of the elements of the parameter's gradient" in read(page, figure, 0.5, 0.45)
    picture = figure.locator("svg.live image")
    shot = Image.open(io.BytesIO(picture.screenshot())).convert("RGB")
    assert len(shot.getcolors(shot.width * shot.height)) > 10


def test_without_javascript_pictures_and_tables_are_there(opened):
    page = opened("recorded", java_script_enabled=False)
    assert page.locator("figure.drawn[data-kind] > svg").count() == 5
    assert all(f.is_visible() for f in page.locator("figure.drawn[data-kind] > svg").all())
    assert page.locator("#training button:visible, #training select:visible").count() == 0
    assert page.locator("#layers tbody tr").count() == 12
    assert page.get_by_role("cell", name="encoder.11").first.is_visible()  # what the alarm said


@pytest.mark.parametrize("width", [380, 1440])
def test_figures_follow_the_width_of_the_window(opened, width):
    page = opened("recorded", width)
    page.set_viewport_size({"width": 700, "height": 900})
    page.wait_for_function(
        "[...document.querySelectorAll('.frame')].every(f => f.firstChild.getAttribute('width') == f.clientWidth)"
    )


# ---- real runs -------------------------------------------------------------------------------------------------------


def test_a_real_run_that_fails_shows_cause_curves_and_what_changed(opened):
    page = opened("2-real-failing")
    assert page.locator("h1").inner_text().split() == ["FAIL", "digits"]
    assert page.locator("#cause h2").inner_text() == "lr-too-high"
    assert page.locator("#cause .chart").count() == 2
    assert "The verdict was pass and is fail" in page.locator("#before").inner_text()
    assert page.locator("#figures figure").count() == 1  # not needed: real against random
    assert page.locator("#training figure").count() == 5


def test_a_real_run_that_passes_shows_its_figures_and_hardest_items(opened):
    page = opened("1-real-passing")
    assert page.locator("h1").inner_text().split() == ["PASS", "digits"]
    assert page.locator("#figures strong").all_inner_texts() == ["Learning rates", "Real against random"]
    groups = page.locator("#batch h3").all_inner_texts()
    assert groups == ["First rows", "Hardest: the largest losses", "Easiest: the smallest losses"]
    hard, easy = (page.locator("#batch .samples").nth(k).inner_text() for k in (1, 2))
    assert "hardest 1 of" in hard.replace("\n", " ")
    assert "easiest 1 of" in easy.replace("\n", " ")


def test_print_shows_the_evidence_on_white(opened):
    page = opened("failing", scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert page.pdf().startswith(b"%PDF")
