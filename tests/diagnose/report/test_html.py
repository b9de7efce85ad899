"""The page, read as text: structure, escaping, size."""

from __future__ import annotations

import itertools
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.diagnosis import CheckResult, Side
from diagnose.evidence import Evidence
from diagnose.report import charts, html
from diagnose.report.curves import extent, frame, strokes, thinned

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """What tests ask of a page; raises on tags that do not nest."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.stack: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs)), f"an attribute twice in {tag}"
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, *names: str) -> list[dict]:
        return [attrs for tag, attrs in self.tags if tag in names]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def page(made) -> Page:
    return Page(html.render(made))


def test_headings_stand_in_order(page):
    levels = [int(t[1]) for t, _ in page.tags if re.fullmatch("h[1-6]", t)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_everything_has_a_name(page):
    assert all(a.get("alt") for a in page.all("img"))
    assert all(a.get("aria-label") or a.get("aria-hidden") == "true" for a in page.all("svg"))
    assert all(a.get("scope") in ("row", "col") for a in page.all("th"))
    assert all("lang" in a for a in page.all("html"))


def test_ids_are_unique_and_links_hit_one(page):
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = [a["href"][1:] for a in page.all("a")] + [a["data-copy"] for a in page.all("button") if "data-copy" in a]
    wanted += [a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a]
    assert set(wanted) <= set(ids)


def test_nothing_is_fetched(made):
    text = html.render(made)
    assert not re.search(r"https?://", text)
    assert not re.search(r"@import|url\(", text)
    for _, attrs in Page(text).tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert attrs.get(name, "#").startswith(("#", "data:image/png;base64,", "data:,"))


def test_the_policy_allows_only_what_is_on_the_page(made):
    text = html.render(made)
    policy = Page(text).all("meta")[1]["content"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (block,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert f"{tag}-src {html._hash(block)};" in policy
    assert not any(name == "style" or name.startswith("on") for _, attrs in Page(text).tags for name in attrs)


def test_under_six_megabytes_and_the_same_every_time(made):
    text = html.render(made)
    assert len(text.encode()) < 6_000_000
    assert text == html.render(made)


def test_no_hostile_text_is_unescaped(samples):
    text = html.render(samples.hostile())
    for hostile in ("<script>alert", "<img src=x", "</style></svg>"):
        assert hostile not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    page = Page(text)
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7*7 }}{% raw %}" in page.text
    assert "a" * 300 in page.text
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_failing_page_answers_what_why_how_sure_and_what_to_do(samples):
    text = Page(html.render(samples.failing())).text
    for said in (
        "fail unmix",
        "It does not learn as it is: the learning rate 30 is too high, proven by learning at 0.003.",
        "Proven cause lr-too-high",
        "optimizer group 1",
        "one change: lr = 0.003 instead of 30",
        "0.95 learned",
        "best constant 0.637",
        "not finite from step 9",
        "8 of 60 steps lie above the axis, up to 6.06e+03.",
        "learn.fit_one_cycle(10, lr_max=3e-3) # was 30",
        "Suspected, not proven suspicion 0.55 output-collapse",
        "ruled out loss-double-activation",
        "the budget of 60 s was used up",
        "git commit a9356db, with uncommitted changes",
        "gradient norm encoder.0.weight 0.0021 loss / weight > 0",
    ):
        assert said in text, said


def test_other_verdicts_say_so(samples):
    assert "Interrupted." in Page(html.render(samples.interrupted())).text
    assert "Something is suspected but not proven" in Page(html.render(samples.empty())).text
    assert "Settled by inspection." in Page(html.render(samples.inspected())).text
    assert "best constant = 1 and floor = 0" in Page(html.render(samples.rescaled())).text


def test_pictures_are_embedded_as_far_as_there_is_room(samples):
    made = samples.huge()
    page = Page(html.render(made))
    assert 0 < len(page.all("img")) < len(made.samples)
    assert "picture in 11.png" in page.text


def test_long_evidence_is_thinned_and_says_so(samples):
    text = Page(html.render(samples.huge())).text
    assert "1001 more rows stand in report.json." in text
    many = CheckResult(
        id="x", status="pass", summary="", seconds=0, evidence=[Evidence(name="loss", value=[0.5] * 5000)]
    )
    text = Page(html.render(samples.diagnosis(checks=[many]))).text
    assert "4,800 values left out, they stand in report.json" in text


def test_curves_of_different_length_share_both_axes(samples):
    proof = samples.by_trial()
    shorter = proof.after.model_copy(update={"loss": proof.after.loss[:20]})
    halves = html.shown(proof.model_copy(update={"after": shorter})).halves
    ticks = [re.findall(r'class="tick"[^>]*>([^<]*)<', half.figure) for half in halves]
    assert ticks[0] == ticks[1]
    assert "59" in ticks[0]


# ---- layout of curves ------------------------------------------------------------------------------------------------

any_number = st.floats(allow_nan=True, allow_infinity=True)
any_curve = st.lists(any_number, max_size=30)
maybe = st.none() | any_number


def side(loss, constant, floor):
    return Side(summary="", loss=loss, best_constant=constant, floor=floor)


@given(any_curve, any_curve, maybe, maybe, maybe, maybe)
def test_any_two_curves_can_be_drawn(before, after, c0, c1, f0, f1):
    laid_out = frame(side(before, c0, f0), side(after, c1, f1))
    assert math.isfinite(laid_out.low)
    assert laid_out.low < laid_out.high < math.inf
    for curve in (laid_out.before, laid_out.after):
        for piece in strokes(thinned(curve.values), laid_out.low, laid_out.high):
            slack = 1e-6 * (laid_out.high - laid_out.low)
            assert all(laid_out.low - slack <= y <= laid_out.high + slack for _, y in piece)
        assert not re.search(r'"[^"]*\b(nan|inf)\b[^"]*"', charts.panel(curve, laid_out, "before", ""))


@given(st.lists(any_curve.map(np.array), min_size=1, max_size=3), st.booleans())
def test_any_recorded_curves_can_be_drawn(curves, logarithmic):
    drawn = charts.lines([(np.arange(len(c)) * 3, c) for c in curves], "title", logarithmic, "label")
    assert not re.search(r'="[^"]*\b(nan|inf)\b[^"]*"', drawn)


def test_zero_stands_on_the_ground_of_a_logarithmic_axis():
    drawn = charts.lines([(np.arange(4), np.array([1.0, 0.01, 0.0, 0.0]))], "title", True, "label")
    (path,) = re.findall(r'class="line c0" d="M([^"]*)"', drawn)
    heights = [float(p.split(" ")[1]) for p in path.split("L")]
    ground = charts.HEIGHT - charts.BOTTOM
    assert heights[0] < heights[1] < heights[2] == heights[3] == pytest.approx(ground, abs=0.1)


@given(st.floats(-300, 300), st.floats(0.001, 600))
def test_logarithmic_marks_are_few_and_inside(low, span):
    marks = charts.decades(low, low + span)
    assert 1 <= len(marks) <= 24
    assert all(low <= m <= low + span for m in marks)


def test_an_outlier_does_not_flatten_the_curve():
    low, high = extent([0.7, 1e6, 0.5, 0.1], [0.69], [0.0])
    assert -0.5 < low <= 0.0
    assert 0.7 < high < 2.5
    low, high = extent([1.0, 1.1, 0.9, 1e9, 1.0], [None], [None])
    assert high < 5


def test_lines_break_at_nan_and_are_cut_at_the_edge():
    points = list(enumerate([0.0, 1.0, math.nan, 0.5, 3.0, 0.5]))
    assert strokes(points, 0.0, 1.0) == [[(0, 0.0), (1, 1.0)], [(3, 0.5), (3.2, 1.0)], [(4.8, 1.0), (5, 0.5)]]


def test_thinning_keeps_extremes_ends_and_breaks():
    values = [math.sin(i / 50) for i in range(10_000)]
    values[1234], values[4321], values[7777] = 9.0, -9.0, math.nan
    kept = thinned(values)
    steps = [s for s, _ in kept]
    assert len(kept) <= 410
    assert steps == sorted(set(steps))
    assert {0, 1234, 4321, 7777, 9999} <= set(steps)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3, 1e9), (1e-300, 2e-300), (1e15, 1e15 + 1), (-1e300, 1e300), (0, 0)]
)
def test_ticks_are_few_and_inside(low, high):
    marks = charts.ticks(low, high)
    assert len(marks) <= 6
    assert all(low <= t <= high for t in marks)
