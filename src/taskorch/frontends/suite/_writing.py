"""The final report in all its formats."""

from __future__ import annotations

import json

from taskorch.frontends.suite._html import page
from taskorch.frontends.suite._junit import junit
from taskorch.frontends.suite._markdown import markdown
from taskorch.frontends.suite._report import SuiteReport


def written(report: SuiteReport) -> dict[str, str]:
    """The report in each format, by the suffix of its file; JSON comes last."""
    return {
        "html": page(report),
        "md": markdown(report),
        "xml": junit(report),
        "json": json.dumps(report.to_dict(), indent=1) + "\n",
    }
