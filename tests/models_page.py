"""The examples of docs/models.md, which are what the tests of models run."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"


def examples(title: str) -> list[dict[str, str]]:
    """The files of the page's section that begins with `title`; two when it shows a file in two ways."""
    sections = re.split(r"^## \d\. ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    section = next(text for text in sections if text.startswith(title))
    found: list[dict[str, str]] = [{}]
    for name, content in re.findall(r"```\w+ (\S+)\n(.*?)```", section, re.DOTALL):
        if name in found[-1]:
            found.append({})
        found[-1][name] = content
    return found
