"""Lays a report out as one HTML file: what it shows is escaped or compressed, and its policy lets it ask nothing of anyone."""

import base64
import gzip
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from toolkit.core.files import atomic_path
from toolkit.report.evaluation import with_interval
from toolkit.report.figure import vl_version
from toolkit.report.html.content import Content
from toolkit.report.tables import format_bytes

FOLDER = Path(__file__).parent


def page(content: Content) -> str:
    """Return a report as HTML.

    Responses and questions are anybody's text. They are in the page compressed and in base64, so that no text can end the
    element it is in, and the page's script shows them as text. A content security policy lets only the page's own scripts run,
    and lets nothing be fetched.
    """
    import jinja2

    scripts = [bundle(), (FOLDER / "tables.js").read_text("utf-8"), (FOLDER / "report.js").read_text("utf-8")]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["interval"] = with_interval
    return environment.get_template("template.html").render(
        content=content,
        data=packed(content.data),
        style=(FOLDER / "style.css").read_text("utf-8"),
        scripts=scripts,
        hashes=[base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts],
    )


def write_page(content: Content, path: Path) -> str:
    """Write a report to a file; returns its size, with a unit."""
    data = page(content).encode("utf-8", "replace")
    with atomic_path(path) as draft:
        draft.write_bytes(data)
    return format_bytes(len(data))


def packed(data: Any) -> str:
    """Return data as compressed JSON, in base64."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode("utf-8", "surrogatepass"), mtime=0)).decode()


def unpacked(text: str) -> Any:
    """Return what `packed` has packed."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


@cache
def bundle() -> str:
    """Return Vega-Embed, with Vega and Vega-Lite in it, as one script that fetches nothing."""
    import vl_convert

    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=vl_version())
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
