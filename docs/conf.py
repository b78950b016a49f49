"""
The documentation as a site: `make docs`.

The pages are those that stand here, and read well without a site. What a site needs
beside them is made of them as it is built: the tree of pages of the links of the index,
and the reference of the docstrings.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_origin

from taskorch import __version__ as release  # noqa: F401 - Sphinx reads it

if TYPE_CHECKING:
    from types import ModuleType

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

#: The packages of the reference, and what each is for.
PACKAGES = {
    "taskorch": "A first program",
    "taskorch.model": "Tasks, resources and what is said of them",
    "taskorch.protocols": "Protocols",
    "taskorch.policies": "Policies",
    "taskorch.workflows": "Workflows",
    "taskorch.events": "Events, as classes",
    "taskorch.signals": "Signals",
    "taskorch.errors": "Errors",
    "taskorch.journal": "Journals",
    "taskorch.planning": "Plans of requests",
    "taskorch.reading": "Journals, read by others",
    "taskorch.client": "An orchestrator that is served",
    "taskorch.frontends.service": "To serve an orchestrator",
    "taskorch.frontends.agent": "An agent of a service",
    "taskorch.frontends.mcp": "Tools for language models",
    "taskorch.logs": "Logs",
    "taskorch.recovery": "Failures, what follows them, and alerts",
    "taskorch.telemetry": "Telemetry",
    "taskorch.testing": "Testing",
    "taskorch.testing.laws": "Laws",
    "taskorch.testing.strategies": "Strategies for hypothesis",
    "taskorch.frontends.workspace": "Task files",
    "taskorch.frontends.suite": "Test suites",
    "taskorch.frontends.jobs": "Adaptive jobs",
    "taskorch.adaptive": "Policies that learn",
    "taskorch.frontends.channel": "Short messages",
    "taskorch.frontends.joblib": "joblib",
    "taskorch.frontends.resource_pools": "Resource pools in YAML",
    "taskorch.frontends.wfformat": "Recorded workflows",
    "taskorch.cli": "The command line, called from Python",
}
#: The classes of what an orchestrator has and gives, which nobody imports: by the way
#: to it, the module and the name.
GIVEN = {
    "orch.workflows": ("taskorch._managers", "WorkflowManager"),
    "orch.resources": ("taskorch._managers", "ResourceManager"),
    "orch.resources.allocate(…)": ("taskorch._managers", "HeldResources"),
    "orch.agents": ("taskorch._managers", "AgentManager"),
    "orch.aio": ("taskorch._aio", "AsyncOrchestrator"),
    "orch.options(…)": ("taskorch._with_options", "WithOptions"),
    "orch.aio.options(…)": ("taskorch._aio", "AsyncWithOptions"),
    "orch.events(…), orch.aio.events(…)": (
        "taskorch._telling.following",
        "EventStream",
    ),
    "orch.show_progress()": ("taskorch._telling.show_progress", "Progress"),
    "context.workflow, in a coroutine": ("taskorch._managers", "AsyncWorkflowContext"),
}
_GROUP = re.compile(
    r"- \*\*(?P<caption>[^*]+)\*\*: (?P<links>.*?)(?=\n- |\Z)", re.DOTALL
)
_LINK = re.compile(r"\]\(([\w/.-]+)\.md\)")
#: A link to an example, from a page in a folder, and to the folder of the decisions.
_EXAMPLE = re.compile(r"\]\(\.\./\.\./examples/(\w+)\.py\)")
_DECISIONS = "](decisions/)"


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
    for group in _GROUP.finditer(source[0]):
        pages = _LINK.findall(group["links"])
        if group["caption"] == "Reference":
            pages += [f"reference/api/{name}" for name in ("given", *PACKAGES)]
        source[0] += _tree(group["caption"], pages)
    examples = sorted(Path(app.srcdir).glob("examples/*.rst"))
    source[0] += _tree("Examples", [f"examples/{one.stem}" for one in examples])
    source[0] += _tree("Words and decisions", ["glossary", "decisions/index"])


def public_names(package: str) -> list[str]:
    """What is to be imported from *package*, in the order of the alphabet."""
    module = import_module(package)
    named = getattr(module, "__all__", ())
    found = [name for name in named or dir(module) if name[0] != "_"]
    return sorted(name for name in found if name in named or _is_ours(module, name))


def _is_ours(module: ModuleType, name: str) -> bool:
    """Whether it is a class, a function or the name of a type, and not of others."""
    value = getattr(module, name)
    of = getattr(value, "__module__", "") or ""
    return of.startswith("taskorch") or get_origin(value) is not None


def write_reference(app: Sphinx) -> None:
    """Write a page of the reference for each package."""
    folder = Path(app.srcdir) / "reference/api"
    folder.mkdir(exist_ok=True)
    #: What another page has already, and is to be found there.
    told: set[int] = set()
    for package, title in PACKAGES.items():
        module = import_module(package)
        lines = [title, "=" * len(title), "", f"``{package}``", ""]
        lines += [*for_sphinx((inspect.getdoc(module) or "").splitlines()), ""]
        for name in public_names(package):
            value = getattr(module, name)
            again = id(value) in told
            told.add(id(value))
            if inspect.isclass(value):
                lines += [f".. autoclass:: {package}.{name}", "   :members:"]
                if getattr(value, "_is_protocol", False):
                    # Nobody makes one.
                    lines += ["   :exclude-members: __init__"]
            elif inspect.isroutine(value):
                lines += [f".. autofunction:: {package}.{name}"]
            else:
                lines += [f".. autodata:: {package}.{name}", "   :no-value:"]
            lines += ["   :no-index:", ""] if again else [""]
        (folder / f"{package}.rst").write_text("\n".join(lines), encoding="utf-8")


def write_given(app: Sphinx) -> None:
    """Write the page of what an orchestrator has and gives."""
    title = "What an orchestrator has and gives"
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
    for example in sorted(found.glob("examples/*.py")):
        code = example.read_text(encoding="utf-8").splitlines()
        lines = [
            example.name,
            "=" * len(example.name),
            "",
            ".. code-block:: python",
            "",
        ]
        lines += [f"   {line}".rstrip() for line in code]
        page = folder / f"{example.stem}.rst"
        page.write_text("\n".join(lines), encoding="utf-8")


def write_decisions(app: Sphinx) -> None:
    """Write the page that leads to all decisions."""
    folder = Path(app.srcdir) / "decisions"
    names = [one.stem for one in sorted(folder.glob("[0-9]*.md"))]
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
    app.connect("builder-inited", write_reference)
    app.connect("builder-inited", write_given)
    app.connect("builder-inited", write_examples)
    app.connect("builder-inited", write_decisions)
    app.connect("source-read", lead)
    app.connect("source-read", add_trees)
    app.connect("autodoc-skip-member", is_told_already)
    # Before napoleon.
    app.connect("autodoc-process-docstring", change_docstring, priority=400)
