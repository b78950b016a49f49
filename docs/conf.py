"""
The documentation as a site: `make docs`.

The pages are those that stand here, and read well without a site. What a site needs
beside them is made of them as it is built: the tree of pages of the links of the index,
and the reference of the docstrings.
"""

from __future__ import annotations

import inspect
import json
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_origin

from taskorch import __version__ as release  # noqa: F401 - Sphinx reads it
from taskorch.core.engine import AttemptContext
from taskorch.events import Event

if TYPE_CHECKING:
    from types import ModuleType

    from docutils.nodes import document
    from sphinx.application import Sphinx

project = "taskorch"
author = "the taskorch maintainers"
project_copyright = author
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.mermaid",
]
myst_fence_as_directive = ["mermaid"]
html_theme = "furo"
html_title = "taskorch"
# The package of a name is the head of its page.
add_module_names = False
exclude_patterns = ["**/_*"]
suppress_warnings = [
    # Annotations name classes that several packages offer.
    "ref.python",
]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = False

#: The packages of the reference, and what each has.
PACKAGES = {
    "taskorch": "orchestrator, tasks, workflows, handles",
    "taskorch.model": "tasks and resources",
    "taskorch.model.ids": "what ids say",
    "taskorch.model.scopes": "what tasks may write",
    "taskorch.model.forms": "ids and scopes in documents",
    "taskorch.ext.comparing": "two runs beside each other",
    "taskorch.protocols": "what policies, journals and executors have",
    "taskorch.policies": "queues, routers, validators, retries",
    "taskorch.api.workflows": "workflows, phases, gates",
    "taskorch.ext.steps": "steps inside functions",
    "taskorch.events": "classes of events",
    "taskorch.events.ends": "events that end an attempt",
    "taskorch.api.signals": "signals of an orchestrator",
    "taskorch.errors": "exceptions",
    "taskorch.api.executors.programs": "for who runs programs in an executor",
    "taskorch.api.executors.remote": "for who makes calls in other processes",
    "taskorch.api.executors.link": "for who gives calls over a connection",
    "taskorch.api.executors.wire": "frames of such a connection",
    "taskorch.api.journal": "SQLite, PostgreSQL, memory",
    "taskorch.api.journal.tables": "for who writes a journal in another database",
    "taskorch.core.inside": "for front ends: the inside of an orchestrator",
    "taskorch.ext.large_values": "large results in object stores",
    "taskorch.api.verbs.table": "for front ends: all that can be done",
    "taskorch.api.verbs.remedies": "for front ends: what to do, in their words",
    "taskorch.ext.governance": "policies as data, verdicts",
    "taskorch.ext.planner": "plans of requests",
    "taskorch.ext.proofs": "prove that a journal was not changed",
    "taskorch.ext.views": "read the journal of another program",
    "taskorch.ext.client": "client of a service",
    "taskorch.ext.service": "server, HTTP",
    "taskorch.ext.people": "tokens, roles, identity",
    "taskorch.ext.incoming": "for front ends: work that comes in as documents",
    "taskorch.ext.remote_workers": "worker of a service",
    "taskorch.ext.mcp": "tools for language models",
    "taskorch.ext.logs": "log records by task",
    "taskorch.ext.recovery": "failures, recovery, alerts",
    "taskorch.ext.telemetry.prometheus": "metrics as a text",
    "taskorch.testing": "tests of your parts",
    "taskorch.testing.laws": "laws of the protocols",
    "taskorch.testing.strategies": "strategies for hypothesis",
    "taskorch.ext.task_files": "task files",
    "taskorch.ext.suites": "test suites",
    "taskorch.ext.jobs": "adaptive jobs",
    "taskorch.ext.learning": "policies that learn",
    "taskorch.ext.channel": "short messages",
    "taskorch.ext.joblib": "backend of joblib",
    "taskorch.ext.pools": "resource pools in YAML",
    "taskorch.ext.wfformat": "recorded workflows",
    "taskorch.ext.command_line": "the command line from Python",
    "taskorch.kit.visible": "for extensions: values in messages",
    "taskorch.kit.words": "for extensions: numbers, times and lists in sentences",
    "taskorch.kit.plain": "for extensions: values as JSON",
    "taskorch.kit.checks": "for extensions: checks of arguments",
    "taskorch.kit.forms": "for extensions: forms of documents",
    "taskorch.kit.backoff": "for extensions: pauses between tries",
    "taskorch.kit.verbs": "for extensions: acts, described at their methods",
}
#: What one uses first of a package: its page begins with these, in this order.
FIRST = {
    "taskorch": (
        *("TaskOrchestrator", "task", "Task", "TaskHandle", "as_completed"),
        *("RetryPolicy", "Workflow", "WorkflowRun", "TaskContext", "current_context"),
        *("SqliteJournal", "PostgresJournal", "MemoryJournal", "Resources", "Elastic"),
        *("AtLeast", "Program", "ProgramResult", "Approval", "TaskStatus", "TaskState"),
        *("Explanation", "StopReport", "TaskExecutor", "SimulationReport"),
    ),
}
#: The classes of what an orchestrator has and gives, which nobody imports: by the way
#: to it, the module and the name.
GIVEN = {
    "orch.workflows": ("taskorch.core.runs", "WorkflowManager"),
    "orch.resources": ("taskorch.core.resources", "ResourceManager"),
    "orch.resources.allocate(…)": ("taskorch.core.resources", "HeldResources"),
    "orch.agents": ("taskorch.core.workers._manager", "WorkerManager"),
    "orch.schedules": ("taskorch.ext.schedules", "ScheduleManager"),
    "orch.aio": ("taskorch.api._aio", "AsyncOrchestrator"),
    "orch.options(…)": ("taskorch.api._options", "WithOptions"),
    "orch.aio.options(…)": ("taskorch.api._aio", "AsyncWithOptions"),
    "orch.events(…), orch.aio.events(…)": (
        "taskorch.ext.notices.following",
        "EventStream",
    ),
    "orch.show_progress()": ("taskorch.ext.notices.show_progress", "Progress"),
    "context.workflow, in a coroutine": ("taskorch.core.runs", "AsyncWorkflowContext"),
}
#: A part of the index that is a list of links; its table is for words, not for pages.
_GROUP = re.compile(r"^## (?P<caption>.+)\n\n(?P<links>(?:- .+\n)+)", re.MULTILINE)
_LINK = re.compile(r"^- \[[^]]+\]\(([\w/.-]+)\.md\)", re.MULTILINE)
#: A link to an example, from a page in a folder, and to the folder of the decisions.
_EXAMPLE = re.compile(r"\]\(\.\./\.\./examples/(\w+\.(?:py|sh))\)")
_LANGUAGES = {".py": "python", ".sh": "sh"}
_DECISIONS = "](decisions/)"
#: A line of the glossary: words of other tools, and ours with links to its pages.
_WORDS = re.compile(r"^- \*\*(?P<theirs>.+?)\*\*: (?P<ours>.+)$", re.MULTILINE)
_PAGE = re.compile(r"\]\(([\w/-]+)\.md")


def _tree(caption: str, pages: list[str]) -> str:
    inside = "\n".join([f":caption: {caption}", ":hidden:", "", *pages])
    return f"\n```{{toctree}}\n{inside}\n```\n"


def lead(_app: Sphinx, page: str, source: list[str]) -> None:
    """Let links to what is no page here lead to the page that is made of it."""
    source[0] = _EXAMPLE.sub(r"](../examples/\1.rst)", source[0])
    if page == "index":
        source[0] = source[0].replace(_DECISIONS, "](decisions/index.rst)")


def add_trees(app: Sphinx, page: str, source: list[str]) -> None:
    """Give the index the tree of the pages that it names."""
    if page != "index":
        return
    trees = ""
    for group in _GROUP.finditer(source[0]):
        trees += _tree(group["caption"], _LINK.findall(group["links"]))
        if group["caption"] == "Reference":
            pages = [f"reference/api/{name}" for name in PACKAGES]
            pages.insert(1, "reference/api/given")
            trees += _tree("Packages", pages)
    examples = sorted(Path(app.srcdir).glob("examples/*.rst"))
    trees += _tree("Examples", [f"examples/{one.stem}" for one in examples])
    source[0] += trees + _tree("Decisions", ["decisions/index"])


def words_of_others(source: Path) -> dict[str, list[str]]:
    """Return the words of other tools by the pages to which the glossary leads them."""
    text = (source / "glossary.md").read_text(encoding="utf-8")
    words: dict[str, list[str]] = {}
    for entry in _WORDS.finditer(text.partition("\n## Our words")[0]):
        for page in _PAGE.findall(entry["ours"]):
            words.setdefault(page, []).extend(re.findall(r"\w[\w-]*", entry["theirs"]))
    return words


def write_scorer(app: Sphinx) -> None:
    """Write the ranking of the search: the words of other tools, and `scorer.js`."""
    source = Path(app.srcdir)
    words = json.dumps(words_of_others(source), indent=None)
    ranking = (source / "scorer.js").read_text(encoding="utf-8")
    page = Path(app.doctreedir) / "scorer.js"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"const WORDS = {words};\n{ranking}", encoding="utf-8")
    app.config["html_search_scorer"] = str(page)


def add_words_of_others(app: Sphinx, doctree: document) -> None:
    """Let a search for a word of another tool find the page that is about ours."""
    from docutils import nodes  # noqa: PLC0415 - tests read this file without Sphinx

    words = words_of_others(Path(app.srcdir)).get(app.env.docname)
    if words:
        words = [part for word in words for part in {word, *word.split("-")}]
        doctree.append(nodes.meta(name="keywords", content=", ".join(words)))


def leave_out_of_search(app: Sphinx, _doctree: object) -> None:
    """Keep decisions out of the search: it is for those who use taskorch."""
    page = app.env.docname
    if page.startswith("decisions/"):
        app.env.metadata[page]["nosearch"] = ""


def public_names(package: str) -> list[str]:
    """What one imports from *package*: first what one needs first, protocols last."""
    module = import_module(package)
    named = getattr(module, "__all__", ())
    first = FIRST.get(package, ())
    names = [name for name in named or dir(module) if name[0] != "_"]

    def place(name: str) -> tuple[int, int, str]:
        value = getattr(module, name)
        if name in first:
            return 0, first.index(name), name
        is_error = isinstance(value, type) and issubclass(value, Exception)
        is_protocol = getattr(value, "_is_protocol", False)
        return 1 + is_error + 2 * is_protocol, 0, name

    return sorted(
        (name for name in names if name in named or _is_ours(module, name)), key=place
    )


def _is_ours(module: ModuleType, name: str) -> bool:
    """Whether it is a class, a function or the name of a type, and not of others."""
    value = getattr(module, name)
    of = getattr(value, "__module__", "") or ""
    if module.__name__.startswith("taskorch.kit."):
        # Its modules use each other, and none hands on the names of another.
        return of == module.__name__ and not isinstance(value, TypeVar)
    return of.startswith("taskorch") or get_origin(value) is not None


def write_reference(app: Sphinx) -> None:
    """Write a page of the reference for each package, and one for each class of it."""
    folder = Path(app.srcdir) / "reference/api"
    folder.mkdir(exist_ok=True)
    #: What another page has already, and is to be found there.
    told: set[int] = set()
    for package, content in PACKAGES.items():
        module = import_module(package)
        title = f"{package}: {content}"
        lines = [title, "=" * len(title), ""]
        lines += [*for_sphinx((inspect.getdoc(module) or "").splitlines()), ""]
        classes: list[str] = []
        for name in public_names(package):
            value = getattr(module, name)
            again = id(value) in told
            told.add(id(value))
            entry = _entry(package, name, value)
            if again:
                lines += [entry[0], "   :no-index:", ""]
            elif _has_page(value):
                _write_class(folder, package, name, entry)
                first = (inspect.getdoc(value) or "").partition("\n")[0]
                classes += [f":doc:`{name} <{package}.{name}>`", f"   {first}"]
            else:
                lines += [*entry, ""]
        if classes:
            lines += [".. rubric:: Classes", "", *for_sphinx(classes), ""]
        (folder / f"{package}.rst").write_text("\n".join(lines), encoding="utf-8")


def _entry(package: str, name: str, value: object) -> list[str]:
    """Return the lines that show one name of a package."""
    if inspect.isclass(value):
        entry = [f".. autoclass:: {package}.{name}", "   :members:"]
        if issubclass(value, AttemptContext):
            # It has no page of its own; what is for worker processes is not for users.
            entry += ["   :inherited-members:"]
            return [*entry, "   :exclude-members: remote, remote_of_call"]
        # Nobody makes a protocol.
        is_protocol = getattr(value, "_is_protocol", False)
        return [*entry, "   :exclude-members: __init__"] if is_protocol else entry
    if inspect.isroutine(value):
        return [f".. autofunction:: {package}.{name}"]
    return [f".. autodata:: {package}.{name}", "   :no-value:"]


def _has_page(value: object) -> bool:
    """Return whether it is a class with a page: errors and events stand in lists."""
    return inspect.isclass(value) and not issubclass(value, (BaseException, Event))


def _write_class(folder: Path, package: str, name: str, entry: list[str]) -> None:
    """Write the page of a class; the tree beside each page does not name it."""
    lines = [
        ":orphan:",
        "",
        name,
        "=" * len(name),
        "",
        f".. py:currentmodule:: {package}",
        "",
        *entry,
    ]
    page = folder / f"{package}.{name}.rst"
    page.write_text("\n".join([*lines, ""]), encoding="utf-8")


def write_given(app: Sphinx) -> None:
    """Write the page of what an orchestrator has and gives."""
    title = "orch.workflows, orch.agents, orch.resources, orch.aio"
    lines = [title, "=" * len(title), ""]
    for way, (module, name) in GIVEN.items():
        lines += [f"``{way}``", "-" * (len(way) + 4), ""]
        lines += [f".. autoclass:: {module}.{name}", "   :members:"]
        lines += ["   :exclude-members: __init__", ""]
    page = Path(app.srcdir) / "reference/api/given.rst"
    page.write_text("\n".join(lines), encoding="utf-8")


def write_examples(app: Sphinx) -> None:
    """Write a page of each example, which is its text."""
    here = Path(app.srcdir).resolve()
    found = next(
        above for above in here.parents if (above / "examples/quickstart.py").exists()
    )
    folder = here / "examples"
    folder.mkdir(exist_ok=True)
    for example in sorted(found.glob("examples/*.*")):
        if example.suffix not in _LANGUAGES:
            continue
        code = example.read_text(encoding="utf-8").splitlines()
        language = f".. code-block:: {_LANGUAGES[example.suffix]}"
        lines = [example.name, "=" * len(example.name), "", language, ""]
        lines += [f"   {line}".rstrip() for line in code]
        page = folder / f"{example.name}.rst"
        page.write_text("\n".join(lines), encoding="utf-8")


def write_decisions(app: Sphinx) -> None:
    """Write the page that leads to all decisions."""
    folder = Path(app.srcdir) / "decisions"
    names = [one.stem for one in sorted(folder.glob("*.md"))]
    lines = ["Decisions", "=========", "", ".. toctree::", "   :maxdepth: 1", ""]
    lines += [f"   {name}" for name in names]
    (folder / "index.rst").write_text("\n".join(lines), encoding="utf-8")


def for_sphinx(lines: list[str]) -> list[str]:
    """Our docstrings set code as Markdown does: `so`, and by indenting it."""
    found: list[str] = []
    for line in lines:
        if line[:1] == " " and found and not found[-1]:
            before = next(filter(None, reversed(found)), "")
            if before[:1] != " ":
                found += ["::", ""]
        found.append(re.sub(r"(?<![`:])`([^`]+)`(?!`)", r"``\1``", line))
    return found


def change_docstring(_app: Sphinx, what: str, *rest: Any) -> None:
    """Let a docstring be read as it is meant."""
    lines: list[str] = rest[-1]
    lines[:] = for_sphinx(lines)
    if what in {"attribute", "data", "property"}:
        # In the first line, napoleon takes what stands before a colon for a type: here
        # that is a line which shows nothing.
        lines.insert(0, "\\")


def is_told_already(
    _app: Sphinx, _what: str, _name: str, found: object, skip: bool, *_: Any
) -> bool | None:
    """Whether to leave out a member: fields of facts, which their classes tell of."""
    return True if type(found).__name__ == "_tuplegetter" else skip or None


def setup(app: Sphinx) -> None:
    """Take part in building."""
    app.connect("config-inited", lambda app, _config: write_scorer(app))
    app.connect("builder-inited", write_reference)
    app.connect("builder-inited", write_given)
    app.connect("builder-inited", write_examples)
    app.connect("builder-inited", write_decisions)
    app.connect("source-read", lead)
    app.connect("source-read", add_trees)
    app.connect("doctree-read", add_words_of_others)
    app.connect("doctree-read", leave_out_of_search)
    app.connect("autodoc-skip-member", is_told_already)
    # Before napoleon.
    app.connect("autodoc-process-docstring", change_docstring, priority=400)
