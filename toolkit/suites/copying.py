"""The text of a new suite file: the commented template, or a copy of a shipped suite that works from any folder."""

import re
from importlib import resources

from toolkit.core.errors import SuiteError, did_you_mean
from toolkit.core.workspace import SHIPPED
from toolkit.suites.loading import shipped_suites


def suite_text(name: str, source: str | None = None) -> str:
    """Return the text of a new suite file.

    Args:
        name: Its name.
        source: Name of the shipped suite to copy; None for the template.

    Raises:
        SuiteError: No suite of that name is shipped.
    """
    if source is None:
        return (resources.files("toolkit.suites") / "template.toml").read_text("utf-8").replace("@SUITE@", name)
    shipped = shipped_suites()
    if source not in shipped:
        raise SuiteError(f"No suite {source!r} is shipped; {did_you_mean(source, shipped)}.")
    text = shipped[source].read_text("utf-8")
    text = re.sub(r"\A(#[^\n]*\n)+", f"# A copy of the shipped suite {source}.\n", text)
    text = re.sub(r'(?m)^name = "[^"]*"', f'name = "{name}"', text, count=1)
    return re.sub(r'(?m)^(\w+ = )"\.\./', rf'\1"{SHIPPED}', text)
