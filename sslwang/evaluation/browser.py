"""Pages to look through predictions: one a start, self-contained, without a script, and an index of them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from sslwang.evaluation.comparison import METHOD_NAMES, Evaluation, share
from sslwang.evaluation.pictures import KINDS
from sslwang.evaluation.starts import Start
from sslwang.evaluation.store import file_name
from sslwang.telling import points

HERE = Path(__file__).parent


def page_name(start: Start) -> str:
    """File name of a start's page."""
    return f"{file_name(start.name)}.html"


def page(found: Evaluation, start: Start, fraction: float, seed: int, rows: Mapping[str, dict]) -> str:
    """The page of one start.

    Args:
        fraction, seed: of the cells that are shown. rows: what `chosen_rows` gave, by method.
    """
    style = (HERE / "browser.css").read_text(encoding="utf-8")
    sections = [
        {
            "id": method,
            "title": METHOD_NAMES[method],
            "accuracy": found.values(start.name, method, fraction).get(seed),
            "kinds": [
                {"name": kind, "what": KINDS[kind], "rows": [rows[method]["rows"][str(i)] for i in places]}
                for kind, places in rows[method]["kinds"].items()
            ],
        }
        for method in found.methods
        if method in rows
    ]
    return _template().render(
        start=start,
        facts=found.facts,
        protocol=found.protocol,
        share=share(fraction),
        labels=found.labels(fraction),
        draws=found.protocol.draws if fraction < 1 else 1,
        seed=seed,
        sections=sections,
        style=Markup(style),
        style_hash=_hash(style),
    )


def index(found: Evaluation, fraction: float, pages: Mapping[str, str]) -> str:
    """The index: every start with its accuracies and a link to its page.

    Args:
        fraction: of the cells that are shown. pages: file names by start.
    """
    style = (HERE / "browser.css").read_text(encoding="utf-8")
    rows = []
    for start in found.starts:
        means = [found.mean(start.name, method, fraction) for method in found.methods]
        rows.append(
            {"name": start.name, "href": pages.get(start.name), "cells": [points(m) if m else "–" for m in means]}
        )
    return _template("index.html.j2").render(
        facts=found.facts,
        share=share(fraction),
        methods=[METHOD_NAMES[m] for m in found.methods],
        rows=rows,
        style=Markup(style),
        style_hash=_hash(style),
    )


@cache
def _template(name: str = "browser.html.j2") -> Template:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
