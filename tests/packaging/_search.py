"""
Asks the index of the built site for each word of others that the glossary names.

    python tests/packaging/_search.py build/docs/html/searchindex.js

It exits with 1 if a word is on no page, or if a search finds a decision.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from sphinx.search.en import SearchEnglish

GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"
LANGUAGE = SearchEnglish({})


def words_of_others() -> list[str]:
    """Each word of the first list, without a remark behind it."""
    text = GLOSSARY.read_text(encoding="utf-8").partition("\n## Our words")[0]
    cells = re.findall(r"^- \*\*(.+?)\*\*:", text, re.MULTILINE)
    words = [word for cell in cells for word in cell.split(", ")]
    return [re.sub(r" \(.*\)", "", word).replace("`", "") for word in words]


def pages_with(index: dict[str, dict[str, int | list[int]]], word: str) -> set[int]:
    """The numbers of the pages that a search for *word* finds: with all its terms."""
    pages: list[set[int]] = []
    for term in LANGUAGE.split(word.lower()):
        stem = LANGUAGE.stem(term)
        if LANGUAGE.word_filter(stem):
            places = (index[kind].get(stem, []) for kind in ("terms", "titleterms"))
            lists = [place if isinstance(place, list) else [place] for place in places]
            pages.append({*lists[0], *lists[1]})
    return set.intersection(*pages) if pages else set()


def main(path: str) -> int:
    text = Path(path).read_text(encoding="utf-8")
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    names = index["docnames"]
    words = words_of_others()
    pages = {word: {names[at] for at in pages_with(index, word)} for word in words}
    nowhere = [word for word, where in pages.items() if not where]
    alone = [word for word, where in pages.items() if where == {"glossary"}]
    decisions = {at for at, name in enumerate(names) if name.startswith("decisions/")}
    terms = {**index["terms"], **index["titleterms"]}.values()
    numbers = {
        at for each in terms for at in (each if isinstance(each, list) else [each])
    }
    print(f"search: {len(words)} words, {len(nowhere)} on no page: {nowhere}")
    print(f"        {len(alone)} in the glossary alone: {', '.join(alone)}")
    print(
        f"        {len(decisions & numbers)} of {len(decisions)} decisions can be found"
    )
    return 1 if nowhere or decisions & numbers else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
