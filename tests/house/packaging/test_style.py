"""The pages for users are written as STYLE.md says, as far as a check can see it."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCHEDULES = ROOT / "src/taskorch/ext/schedules"
PAGES = [
    *sorted((ROOT / "docs/howto").glob("*.md")),
    *sorted((ROOT / "docs/tutorial").glob("*.md")),
    *sorted((ROOT / "docs/explanation").glob("*.md")),
    *sorted((ROOT / "docs/reference").glob("*.md")),
    ROOT / "docs/index.md",
    ROOT / "docs/glossary.md",
    ROOT / "README.md",
    ROOT / "STYLE.md",
]
LONGEST = 35
#: Pages that explain the kernel, whose events are facts.
KERNEL = {
    f"docs/explanation/{name}.md"
    for name in ("commands", "design", "simulation", "states", "way-of-a-task")
}

#: What must not stand in prose, and what to write. Code is not looked at.
WORDS = {
    r"(?<!coding[\s-])(?<!LLM[\s-])\bagents?\b": "worker",
    r"\bowners?\b": "tenant, of a task; leader, of a journal",
    r"(?<!\bin )\bfacts?\b": "event",
    r"\bremembered results?\b|\bmemos?\b": "cache, cached result",
    r"\b(un)?charged\b": "counts as a try, or does not",
    r"(?<!webhook )\breceivers?\b(?! of (the )?(messages|notifications))": "listener",
    r"\bdrivers?\b": "controller (class `Driver`)",
    r"\b(a|an|the|each|this|next|earlier|later|new|same|one) (life|lives|epochs?)\b": (
        "incarnation, run of the program"
    ),
    r"\bunplaceable\b": "unschedulable",
    r"\b(missed|skipped|later|earlier) slots?\b|\bslots? of (a|the) schedule": (
        "scheduled time, tick"
    ),
}
#: How a sentence must not begin, unless it is a question.
OPENERS = (
    r"What (had|has|have|is|are|was|were|can|cannot|could|must|may|does|did|do)\b",
    r"What (it|they|a|an|the|you|no|nobody|somebody|\w+s|\w+ed)\b",
    r"Who(ever)?\b",
    r"(Given|Left|Let|Told|Said|Asked|Taken|Kept) (back|alone|out|away|to|of|only)\b",
    r"(Of|To|By|For|With|Before) (what|which|that|whom)\b",
)
#: Turns that a reader reads twice.
TURNS = {
    r"\b(is|are) told\b": "say who tells whom",
    r"\b(is|are) said\b": "say who says it",
    r"\bas said\b": "say it",
    r"\bwhat there is\b": "name the things",
    r"\bwhat had\b": "name the things",
    r"\b(had|has|have) come to\b": "result",
}


def prose(text: str) -> str:
    """The text without code, pictures, and the addresses of links."""
    text = re.sub(r"^ *(```+|~~~+).*?^ *\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"(`+).+?\1", "CODE", text, flags=re.DOTALL)
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)


def sentences(text: str) -> Iterator[str]:
    """Of paragraphs and items of lists; headings and tables have none."""
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text):
        line = " ".join(block.split())
        if line and line[0] not in "#|":
            line = re.sub(r"^([-*]|\d+\.) ", "", line).replace("**", "")
            yield from re.split(r"(?<=[.!?]) (?=[A-Z(])", line)


def faults(text: str, may_have: str = "") -> list[str]:
    """What is wrong with a text, in which the word *may_have* is right."""
    text = prose(text)
    problems = []
    for pattern, better in (WORDS | TURNS).items():
        if better == may_have:
            continue
        for match in re.finditer(pattern, text, re.IGNORECASE):
            around = text[max(0, match.start() - 30) : match.end() + 20]
            problems.append(f"{match[0]!r}: {better} (in {' '.join(around.split())!r})")
    for sentence in sentences(text):
        number = len(re.findall(r"\w[\w'.,-]*", sentence))
        if number > LONGEST:
            problems.append(f"{number} words: {sentence}")
        if not sentence.endswith("?") and re.match("|".join(OPENERS), sentence):
            problems.append(f"no subject at the beginning: {sentence}")
    return problems


def test_each_page_is_written_as_the_guide_says() -> None:
    problems = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if page.name == "STYLE.md":
            text = "\n".join(line for line in text.splitlines() if line[:1] != "|")
        name = str(page.relative_to(ROOT))
        of_page = faults(text, "event" if name in KERNEL else "")
        problems += [f"{name}: {problem}" for problem in of_page]
    assert not problems, "\n".join(["", *problems])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("The agent runs it.", "'agent': worker"),
        ("A coding agent writes it. `agent` and `owner` are options.", None),
        ("What had ended with it is stale.", "no subject"),
        ("What does it cost?", None),
        ("Given back is only a worker.", "no subject"),
        ("| the owner of a journal |", "'owner': tenant"),
        ("```\nthe owner\n```", None),
        ("[the plan](owner.md) holds.", None),
        ("A word " * 18 + "is here.", "38 words"),
        ("- " + "A word " * 17 + "here.", None),
        ("| " + "A word " * 18 + "|", None),
        ("The caller is told.", "say who tells whom"),
        ("In fact it waits.", None),
    ],
)
def test_a_fault_is_seen(text: str, problem: str | None) -> None:
    problems = "\n".join(faults(text))
    assert problems == "" if problem is None else problem in problems


def bare_words(source: str) -> Iterator[str]:
    """The words of comments and texts of a module, without names of code."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT) and " " in token.string:
            plain = re.sub(
                r"`[^`]*`|\*\w+\*|\{[^}]*\}|^ *\w+:",
                "",
                token.string,
                flags=re.MULTILINE,
            )
            yield from re.findall(r"[\w./-]+", plain)


def test_what_a_schedule_has_is_a_tick() -> None:
    for path in SCHEDULES.glob("*.py"):
        words = {word.lower() for word in bare_words(path.read_text())}
        assert words.isdisjoint({"slot", "slots"}), path


#: Words with which a clause begins that has lost its noun: see STYLE.md.
NO_NOUN = re.compile(
    r"(What|Those|It|Of|Whether|Who|Whose|Which|That|This|They|These|Where|When|How|Why"
    r"|By|In|On|From|As|For|At|To|With|If|So|Not|Its|Their)\b"
)


#: A docstring of one line stands alone there, below the head of a class or function.
DOCSTRING = re.compile(r':\n +"""([^\n]+)"""\n')


def test_a_docstring_begins_with_a_verb_or_a_noun() -> None:
    """Of a hundred at most three begin with a word that says not of what they are."""
    source = ROOT / "src/taskorch"
    lines = [
        (path, line)
        for path in sorted(source.rglob("*.py"))
        for line in DOCSTRING.findall(path.read_text(encoding="utf-8"))
    ]
    odd = [f"{path}: {line}" for path, line in lines if NO_NOUN.match(line)]
    assert len(odd) <= 0.03 * len(lines), "\n".join(odd)


@pytest.mark.parametrize(
    ("line", "is_odd"),
    [
        ("What stands for one.", True),
        ("Whether it begins nothing any more.", True),
        ("Return whether the backfill starts no more runs.", False),
        ("Ids of the questions that are still open.", False),
    ],
)
def test_a_docstring_without_its_noun_is_seen(line: str, is_odd: bool) -> None:
    (docstring,) = DOCSTRING.findall(f'def do():\n    """{line}"""\n')
    assert bool(NO_NOUN.match(docstring)) is is_odd
