"""The documentation site in a real browser: it loads nothing from elsewhere, finds words, and fits a telephone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.browser import needs_chromium, open_chromium

pytestmark = needs_chromium

ROOT = Path(__file__).parents[2]
SOURCES = ("docs", "overrides", "toolkit", "zensical.toml")
TIMEOUT = 60_000
"""Longest wait for a page, in milliseconds."""
PHONE, DESKTOP = 390, 1280
"""Widths of a screen, in pixels."""
OPEN_ROOTS = """
const attach = Element.prototype.attachShadow;
Element.prototype.attachShadow = function (options) { return attach.call(this, {...options, mode: 'open'}); };
"""
"""Opens the dialogue of the search to a test."""


class Quiet(SimpleHTTPRequestHandler):
    """A plain server of files that prints nothing."""

    def log_message(self, *_: object) -> None:
        pass


class Site:
    """The served site, opened in a browser, and what the browser has complained about and asked for since."""

    def __init__(self, page: Any, folder: Path, address: str) -> None:
        self.page, self.folder, self.address = page, folder, address
        self.messages: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(TIMEOUT)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.messages.append(f"{page.url}: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.messages.append(f"{self.page.url}: {message.text}")

    def open(self, path: str, width: int = DESKTOP, scheme: str = "light") -> None:
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme)
        self.page.goto(self.address + path)

    @property
    def paths(self) -> list[str]:
        """All pages, relative to the address of the site."""
        return sorted(f"{page.parent.relative_to(self.folder)}/".removeprefix("./") for page in self.folder.rglob("index.html"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    for source in SOURCES:
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, folder / source)
    zensical = Path(sys.executable).with_name("zensical")
    built = subprocess.run([zensical, "build", "--strict"], cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder / "site"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with open_chromium("--disable-gpu") as browser:
        page = browser.new_page()
        page.add_init_script(OPEN_ROOTS)
        yield Site(page, folder / "site", f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    server.server_close()


def test_every_page_fits_a_telephone_without_an_error_and_loads_nothing_from_elsewhere(site: Site) -> None:
    wide = []
    for path in [*site.paths, "404.html"]:
        site.open(path, PHONE)
        if site.page.evaluate("document.documentElement.scrollWidth") > PHONE:
            wide.append(path)
    assert len(site.paths) > 20
    assert wide == []
    assert site.messages == []
    assert [url for url in site.requests if not url.startswith((site.address, "data:", "blob:"))] == []


def test_search_finds_a_word(site: Site) -> None:
    site.open("")
    site.page.wait_for_load_state("networkidle")
    site.page.keyboard.press("Control+k")
    site.page.get_by_role("combobox", name="Search").fill("oracle")
    site.page.get_by_role("option").first.click()
    site.page.wait_for_url("**/reference/**")
    assert "oracle" in site.page.locator("article").inner_text()
    assert site.messages == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_figure_has_a_light_ground_in_light_and_dark(scheme: str, site: Site) -> None:
    site.open("tutorials/notebook/", scheme=scheme)
    page, ground = site.page.evaluate(
        "[document.body, document.querySelector('.md-content img')].map(part => getComputedStyle(part).backgroundColor)"
    )
    levels = [int(level) for level in page.removeprefix("rgb(").removesuffix(")").split(",")]
    assert (sum(levels) / 3 < 60) == (scheme == "dark")
    assert ground == "rgb(255, 255, 255)"


def test_the_site_publishes_no_program(site: Site) -> None:
    assert [path.relative_to(site.folder) for path in site.folder.rglob("*.py")] == []
