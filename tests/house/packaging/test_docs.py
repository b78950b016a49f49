"""The pages of the documentation lead somewhere, and somebody leads to them."""

import pkgutil
import re
import runpy
import tomllib
from functools import cache
from pathlib import Path

import taskorch

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
ABOVE = [
    *("README.md", "AGENTS.md", "CONTRIBUTING.md", "STYLE.md", "examples/README.md"),
]
PAGES = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ABOVE)]
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)(?:#[^)]*)?\)")


ANCHOR = re.compile(r"\]\((?!https?:|mailto:)([^)#]*)#([^)]+)\)")
EXTERNAL = re.compile(r"\]\((https?:[^)]*)\)")


#: Extras that are no part of `all`.
TOO_LARGE = {"ray"}


def anchors_of(page):
    """What a link may name of the page: GitHub and MyST make the same of a heading."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links_of(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [page.parent / link for link in LINK.findall(text)]


def test_links_lead_somewhere():
    links = [(page, link) for page in PAGES for link in links_of(page)]
    assert [(page, link) for page, link in links if not link.exists()] == []


def test_links_into_pages_name_a_heading():
    heads = cache(anchors_of)
    links = [
        (page, (page.parent / path) if path else page, name)
        for page in PAGES
        for path, name in ANCHOR.findall(page.read_text())
    ]
    wrong = [(page, name) for page, there, name in links if name not in heads(there)]
    assert wrong == []


def test_links_to_elsewhere_are_whole():
    """There may be no network: they have a host, and no blanks."""
    whole = re.compile(r"https?://[\w.-]+\.\w+(:\d+)?(/[^\s]*)?")
    links = [
        (page, link) for page in PAGES for link in EXTERNAL.findall(page.read_text())
    ]
    assert [(page, link) for page, link in links if not whole.fullmatch(link)] == []


#: On the site, an example is a page.
EXAMPLE = re.compile(r"examples/\w+\.(py|sh)")


def test_pages_of_the_site_lead_to_pages_of_the_site():
    """It has nothing else of the repository, and a link that ends nowhere ends `make docs`."""
    outside = {
        f"{page.relative_to(ROOT)}: {link.resolve().relative_to(ROOT)}"
        for page in PAGES
        if DOCS in page.parents
        for link in links_of(page)
        if DOCS not in link.resolve().parents
    }
    assert {
        one for one in outside if not EXAMPLE.fullmatch(one.split(": ")[1])
    } == set()


def test_the_index_leads_to_every_page():
    there = {page for page in PAGES if page.parent.parent == DOCS}
    pages = {page for page in there if page.parent.name != "decisions"}
    found = {link.resolve() for link in links_of(DOCS / "index.md")}
    assert pages - found == set()


#: Of llms.txt: an entry is a link, and what is to be found there.
ENTRY = re.compile(r"- \[([^]]+)\]\(([^)]+)\): (\S.*)")


def test_the_list_for_language_models_names_every_page_once():
    """In the form of llmstxt.org: a title, a quotation, a text, and sections of links."""
    text = (DOCS / "llms.txt").read_text(encoding="utf-8")
    head, *sections = text.split("\n## ")
    assert re.fullmatch(r"# taskorch\n\n> [^\n]+\n\n[^\n#]+\n", head)
    lines = []
    for section in sections:
        title, blank, *entries = section.rstrip().split("\n")
        assert title
        assert blank == ""
        lines += entries
    entries = [ENTRY.fullmatch(line) for line in lines]
    assert [line for line, entry in zip(lines, entries, strict=True) if not entry] == []

    links = [entry[2] for entry in entries]
    assert [link for link in links if not (DOCS / link).exists()] == []
    assert [link for link in links if links.count(link) > 1] == []
    pages = {page for page in PAGES if DOCS in page.parents} - {DOCS / "index.md"}
    about_code = DOCS / "decisions"
    pages = {page for page in pages if about_code not in page.parents}
    assert pages - {(DOCS / link).resolve() for link in links} == set()


def test_what_is_said_to_coding_agents_is_there():
    """The files and folders that AGENTS.md names, from the top or from the sources."""
    text = (ROOT / "AGENTS.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    words = {word for code in re.findall(r"`([^`\n]+)`", text) for word in code.split()}
    paths = {word for word in words if re.fullmatch(r"\w[\w/-]*(/\w*|\.\w+)", word)}
    assert "tests/api/test_joins.py" in paths
    places = (ROOT, ROOT / "src/taskorch", ROOT / "tests/house/goldens/texts")
    missing = {
        path for path in paths if not any((place / path).exists() for place in places)
    }
    assert missing == set()


def test_every_public_package_has_a_page_on_the_site():
    """But those whose names are no promise, and what is told on a page of its own."""
    found = {
        one.name
        for one in pkgutil.walk_packages(taskorch.__path__, "taskorch.")
        if "._" not in one.name
    }
    inner = {"api", "api.executors", "api.verbs", "core", "ext"}
    inner |= {
        f"ext.{name}"
        for name in (
            *("budgets", "coding", "controllers", "hosts", "json_schema"),
            *("memo", "notices", "postgres", "questions", "retention", "schedules"),
            *("simulation", "spawned", "telemetry"),
        )
    }
    inner |= {
        name.removeprefix("taskorch.")
        for name in found - {"taskorch.core.inside"}
        if name.startswith(("taskorch.core.", "taskorch.ext.notices."))
    }
    told = {"testing.pytest_plugin"}
    inside = {f"taskorch.{name}" for name in inner | told}
    site = runpy.run_path(str(DOCS / "conf.py"))
    # Of the kit, what an extension needs first.
    kit = {name for name in found if name.startswith("taskorch.kit")}
    inside |= kit - site["PACKAGES"].keys()

    assert found - inside == set(site["PACKAGES"]) - {"taskorch"}
    for package in site["PACKAGES"]:
        assert site["public_names"](package), package
    for module, name in site["GIVEN"].values():
        assert getattr(__import__(module, fromlist=[name]), name).__doc__


def test_the_index_has_a_tree_of_every_group():
    """A list of links that is in none would be on no page of the site."""
    site = runpy.run_path(str(DOCS / "conf.py"))
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    named = "".join(found["links"] for found in site["_GROUP"].finditer(text))

    links = site["_LINK"].findall(named)
    pages = {page for page in PAGES if DOCS in page.parents} - {DOCS / "index.md"}
    names = {str(page.relative_to(DOCS).with_suffix("")) for page in pages}
    assert {name for name in names if not name.startswith("decisions/")} == set(links)
    assert len(links) == len(set(links)), "a page has one place in the menu"


def test_the_site_names_first_what_one_uses_first():
    site = runpy.run_path(str(DOCS / "conf.py"))
    for package, first in site["FIRST"].items():
        assert tuple(site["public_names"](package))[: len(first)] == first
    names = site["public_names"]("taskorch")
    assert names[0] == "TaskOrchestrator"
    assert names.index("TaskHandle") < names.index("DuplicateTaskError")
    assert names.index("DuplicateTaskError") < names.index("AgentRegistry")


#: Words of other tools for which somebody may look, though we have no such thing.
LOOKED_FOR = """\
DAG, worker, work pool, task queue, notification, webhook, role, permission, SLA, parameters, logical date, deployment,
sensor, trigger rule, artifact, lineage, dead letter, cron, backfill, retry failed task, human in the loop, dashboard,
rate limit, concurrency limit, cache, tenant, leader, event log, unschedulable, controller, listener, incarnation"""


def test_the_glossary_says_our_word_for_each_of_the_field():
    """And a page for each, that exists as every link does."""
    page = (DOCS / "glossary.md").read_text(encoding="utf-8")
    entries = page.partition("\n## Our words")[0]
    rows = re.findall(r"^- \*\*(.+?)\*\*: (.+)$", entries, re.MULTILINE)
    assert [row for row in rows if not LINK.search(row[1])] == []
    assert len(rows) == entries.count("\n- ")
    words = [
        re.sub(r" \(.*\)", "", word) for row in rows for word in row[0].split(", ")
    ]
    assert set(re.split(r",\s+", LOOKED_FOR)) - set(words) == set()
    assert len(words) == len(set(words)), "a word has one row"


def test_the_page_of_extras_names_each_and_all_has_the_others():
    """With the packages that each brings; the names of before are parts of these."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = {
        extra: {re.split("[><=;]", name)[0] for name in names}
        for extra, names in project["project"]["optional-dependencies"].items()
    }
    page = (DOCS / "reference" / "extras.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    assert len(rows) <= 14
    assert rows.pop("all")
    (every,) = extras.pop("all")
    assert every == f"taskorch[{','.join(sorted(rows.keys() - TOO_LARGE))}]"
    assert {extra: set(row.lower().split(", ")) for extra, row in rows.items()} == {
        extra: extras[extra] for extra in rows
    }
    before = page.partition("names of before")[2]
    for extra in extras.keys() - rows.keys():
        assert f"`{extra}`" in before
        assert any(extras[extra] <= extras[larger] for larger in rows)
