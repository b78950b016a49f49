"""
Pages show files of `examples/`: a comment names one, and the block below has its text.

    <!-- examples/howto/nightly.py -->
    ```python
    …
    ```

What is between the fences is for whoever reads the page as it stands. Change the file,
and copy it into the pages that show it:

    python tests/house/packaging/_included.py

Decision: names-and-docs.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
#: A comment, the file that it names, the fence below, and what is between that and its end.
_SHOWN = re.compile(
    r"^(?P<head><!-- (?P<name>examples/\S+) -->\n(?P<fence>```+)[^\n]*\n)"
    r"(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
#: The comment alone, wherever it stands.
_MARK = re.compile(r"^<!-- (examples/\S+) -->$", re.MULTILINE)


def pages() -> list[Path]:
    """Those that may show files."""
    return [
        ROOT / "README.md",
        *sorted(ROOT.glob("docs/**/*.md")),
        *sorted(ROOT.glob("src/**/*.md")),
    ]


def shown(page: str) -> list[str]:
    """The files of which a page shows the text, in its order."""
    return [match["name"] for match in _SHOWN.finditer(page)]


def named(page: str) -> list[str]:
    """The files that comments of a page name, with a block below or not."""
    return _MARK.findall(page)


def with_files(page: str) -> str:
    """The page, with the texts of the files that it shows as they are now.

    Raises:
        FileNotFoundError: there is no such file.
    """

    def block(match: re.Match[str]) -> str:
        text = (ROOT / match["name"]).read_text(encoding="utf-8")
        return f"{match['head']}{text}{match['fence']}"

    return _SHOWN.sub(block, page)


if __name__ == "__main__":
    for path in pages():
        text = path.read_text(encoding="utf-8")
        if (whole := with_files(text)) != text:
            path.write_text(whole, encoding="utf-8")
            print(path.relative_to(ROOT))
