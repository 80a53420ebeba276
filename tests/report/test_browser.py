"""The HTML report in a real browser: it draws, sorts, filters and can be used by keyboard, and it fetches nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import needs_chromium, open_chromium
from tests.report.conftest import FIRST, SECOND, Reported

pytestmark = needs_chromium

TIMEOUT = 120_000
"""Longest wait for the page, in milliseconds."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium() as chromium:
        yield chromium


class Opened:
    """A report in a browser, and what the browser has said and asked for since."""

    def __init__(self, browser: Any, reported: Reported, width: int, scheme: str) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(TIMEOUT)
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(reported.path.as_uri())
        self.page.wait_for_selector("body[data-ready]", timeout=TIMEOUT)


@pytest.fixture(scope="module")
def opened(browser: Any, reported: Reported) -> Iterator[Opened]:
    report = Opened(browser, reported, 1280, "light")
    yield report
    report.context.close()


@pytest.fixture
def page(opened: Opened) -> Any:
    opened.page.reload()
    opened.page.wait_for_selector("body[data-ready]", timeout=TIMEOUT)
    return opened.page


def cells(page: Any, table: str, column: int) -> list[str]:
    texts: list[str] = page.locator(f"[data-table={table}] tbody tr td:nth-child({column})").all_inner_texts()
    return texts


def test_all_charts_are_drawn_without_a_message_or_a_request(opened: Opened, reported: Reported) -> None:
    charts = opened.page.locator(".chart")
    assert charts.count() == 9
    for n in range(charts.count()):
        marks = charts.nth(n).locator("svg .role-mark path, svg .role-mark rect")
        assert marks.count() > 0, charts.nth(n).get_attribute("data-chart")
        assert charts.nth(n).locator("svg").get_attribute("aria-label")
    assert opened.messages == []
    assert set(opened.requests) == {reported.path.as_uri()}
    assert not opened.page.evaluate("'hacked' in document.body.dataset")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_telephone_in_light_and_dark(scheme: str, browser: Any, reported: Reported) -> None:
    report = Opened(browser, reported, 390, scheme)
    try:
        assert report.page.evaluate("document.documentElement.scrollWidth") <= 390
        outside = """[...document.querySelectorAll('svg')].filter(chart => chart.getBoundingClientRect().right > 391).length"""
        assert report.page.evaluate(outside) == 0
        paper, ink = report.page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, document.querySelector('.chart svg text').getAttribute('fill')]"
        )
        levels = [int(value) for value in paper.removeprefix("rgb(").removesuffix(")").split(",")]
        assert (sum(levels) / 3 < 60) == (scheme == "dark")
        assert (int(ink[1:3], 16) > 150) == (scheme == "dark")
        assert report.messages == []
    finally:
        report.context.close()


def test_menus_change_the_charts(page: Any) -> None:
    leads = "document.querySelector('[data-chart=leads] .mark-rule').parentNode.innerHTML"
    before = page.evaluate(leads)
    page.select_option("#menu-alpha", str(SECOND))
    page.wait_for_function(f"before => {leads} !== before", arg=before)
    frontier = "document.querySelector('[data-chart=frontier] svg').innerHTML"
    before = page.evaluate(frontier)
    page.select_option("#menu-benchmark", "geography")
    page.wait_for_function(f"before => {frontier} !== before", arg=before)


def test_tables_sort_and_filter(page: Any, reported: Reported) -> None:
    page.locator("summary", has_text="Table of results").click()
    head = page.locator("[data-table=results] th", has_text="reward").first
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    column = 1 + [text.strip() for text in page.locator("[data-table=results] th").all_inner_texts()].index("reward")
    values = list(map(float, cells(page, "results", column)))
    assert len(values) == 100
    assert values == sorted(values, reverse=True)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    page.locator("[data-table=results] input").fill(f"oracle geography {SECOND:.3f}")
    assert set(cells(page, "results", 2)) == {"oracle"}
    assert set(cells(page, "results", 4)) == {"geography"}
    (expected,) = (
        row for row in reported.rows("results")
        if (row["policy"], row["benchmark"], row["alpha"]) == ("oracle", "geography", SECOND)
    )  # fmt: skip
    assert cells(page, "results", column) == [f"{expected['reward']:.3f}"]
    assert "1 of 1 rows" in page.locator("[data-table=results] [role=status]").inner_text()


def test_questions_are_browsed_with_the_keyboard(page: Any, reported: Reported) -> None:
    questions = reported.data["browser"]["questions"]
    page.focus("#question-list")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    article = page.locator("#browser article")
    assert article.locator("h3").inner_text() == f"{questions[2]['benchmark']}/{questions[2]['item']}"
    assert article.locator(".prompt").inner_text() == questions[2]["prompt"]
    summary = article.locator("summary").first
    was_open = article.locator("details").first.evaluate("details => details.open")
    summary.press("Enter")
    assert article.locator("details").first.evaluate("details => details.open") != was_open
    page.locator("#browser button", has_text="Next").press("Space")
    assert article.locator("h3").inner_text() == f"{questions[3]['benchmark']}/{questions[3]['item']}"


def test_the_tree_marks_the_paths_of_the_router_and_the_oracle(page: Any, reported: Reported) -> None:
    models, browser = reported.data["models"], reported.data["browser"]
    run = next(row["run"] for row in reported.rows("runs") if row["alpha"] == FIRST)
    page.evaluate("document.querySelectorAll('#browser details').forEach(details => { details.open = true; })")
    for mark, end in (("chosen", browser["ends"][run][0]), ("best", browser["oracle"][str(FIRST)][0])):
        path = [models[(end - 1) // len(models) - 1 if end > len(models) else end - 1], models[(end - 1) % len(models)]]
        marked = page.locator("#browser li.on", has=page.locator(f"> * > .mark.{mark}, > details > summary > .mark.{mark}"))
        assert marked.locator("> .leaf > .model, > details > summary > .model").all_inner_texts() == path
    responses = page.locator("#browser .response").all_inner_texts()
    assert any("<script>" in text for text in responses)


def test_questions_are_filtered(page: Any, reported: Reported) -> None:
    page.locator("#browser select").first.select_option("geography")
    names = page.locator("#question-list option").all_inner_texts()
    own = [question for question in reported.data["browser"]["questions"] if question["benchmark"] == "geography"]
    assert len(names) == len(own) > 0
    assert all(name.startswith("geography/") for name in names)
    page.locator("#browser input").fill("no such words at all")
    assert page.locator("#question-list option").count() == 0
    assert "No question matches." in page.locator("#browser .status").inner_text()
