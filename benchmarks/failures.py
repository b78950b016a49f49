"""
What kind of failure real logs are of: `python -m benchmarks.failures FOLDER`.

The folder has clones of public repositories with logs of builds (those that are missing
are left out): `master-thesis` of lacinoire (LogChunks), `cidiff` of labri-progress,
`bump` of chains-project, `efficient-detection-intermittent-job-failures` of ahenrij. Of
the first two, `labels.txt` has for each log what people call its failure, and which half
its project is in: the classifier was made with one, and measured on the other. The others
have labels of their own: what broke a build for good, and whether a job was flaky.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from taskorch.errors import ProgramFailedError
from taskorch.ext.recovery import CLASSES, classify
from taskorch.model import ProgramResult

LABELS = Path(__file__).with_name("labels.txt")
#: What `bump` calls failures that are not those of a missing or other dependency.
OF_CODE = frozenset({"COMPILATION_FAILURE", "TEST_FAILURE", "WERROR_FAILURE"})
PERMANENT = frozenset(name for name, transient in CLASSES.items() if not transient)


class Judged(NamedTuple):
    """The classes that are right for a log, the likeliest first, and the one given."""

    right: tuple[str, ...]
    name: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each set of logs in a folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failures")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(arguments).folder
    sets: dict[str, list[Judged]] = defaultdict(list)
    for name, right, log in (*_by_hand(folder), *_of_bump(folder), *_flaky(folder)):
        error = ProgramFailedError("it exited with 1")
        error.result = ProgramResult(("x",), 1, log[-(64 << 10) :], "", None, 1.0)
        sets[name].append(Judged(right, classify(error).name))
    for name, judged in sets.items():
        print(f"{name:30} {_figures(judged)}")
    return 0 if sets else 1


def _by_hand(folder: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for line in LABELS.read_text().splitlines():
        half, classes, path = line.split(" ", 2)
        log = folder / path
        if log.exists():
            name = f"{path.partition('/')[0]}, {half}"
            yield name, tuple(classes.split("|")), log.read_text(errors="replace")


def _of_bump(folder: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
    logs = folder / "bump/reproductionLogs/successfulReproductionLogs"
    for path in sorted((folder / "bump/data/benchmark").glob("*.json")):
        log = logs / f"{path.stem}.log"
        if log.exists():
            of_code = json.loads(path.read_text())["failureCategory"] in OF_CODE
            right = ("logic_error",) if of_code else ("import_error", "logic_error")
            yield "bump", right, log.read_text(errors="replace")


def _flaky(folder: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
    path = folder / "efficient-detection-intermittent-job-failures/data/labeled.zip"
    if not path.exists():
        return
    csv.field_size_limit(sys.maxsize)
    with (
        zipfile.ZipFile(path) as packed,
        packed.open("data/labeled/veloren.csv") as file,
    ):
        for row in csv.DictReader(io.TextIOWrapper(file, "utf-8", "replace")):
            flaky = row["flaky"] == "1"
            right = set(CLASSES) - PERMANENT - {"unknown"} if flaky else PERMANENT
            yield "veloren, by flaky or not", tuple(sorted(right)), row["log"]


def _figures(judged: list[Judged]) -> str:
    right = sum(each.name in each.right for each in judged)
    scores = []
    for name in {
        each.name if each.name in each.right else each.right[0] for each in judged
    }:
        hits = sum(each.name == name and name in each.right for each in judged)
        false = sum(each.name == name and name not in each.right for each in judged)
        missed = sum(
            each.name not in each.right and each.right[0] == name for each in judged
        )
        scores.append(2 * hits / (2 * hits + false + missed))
    permanent = [each for each in judged if PERMANENT.issuperset(each.right)]
    transient = [each for each in judged if PERMANENT.isdisjoint(each.right)]
    again = sum(each.name not in PERMANENT | {"unknown"} for each in permanent)
    given_up = sum(each.name in PERMANENT for each in transient)
    return (
        f"{len(judged):4} logs, {right / len(judged):4.0%} right, "
        f"macro-F1 {sum(scores) / len(scores):.2f}, "
        f"permanent run again {again} of {len(permanent)}, "
        f"transient given up {given_up} of {len(transient)}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
