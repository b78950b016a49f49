"""
A process that has imported the library and collected the tests, and runs some of them.

It stands in a copy of the project and is given orders, one line of JSON each: to measure
which lines a file of tests runs, or to plant a change and see whether a test fails. Each
order is carried out in a process forked from it, which nothing has to be imported in: the
change is planted in the functions that are there, and in the file, for the programs that
tests start. What could not be planted so is tried by a Python of its own.

    python -m tests.mutants.worker TESTS ...
"""

import contextlib
import gc
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

#: How many times longer than before a test may take; but pytest gives it no more
#: seconds than so many.
TIMES, MOST = 10.0, 60.0
#: How many times longer all tests of a change may take together: where each of them is a
#: little late, nobody waits for them all.
TOGETHER = 3.0
#: A Python of its own runs at most so many tests.
MOST_ALONE = 200
#: Of pytest: the same examples each time, and nothing that is kept.
OPTIONS = ("--hypothesis-profile=ci", "-p", "no:cacheprovider", "-p", "no:xdist")

Fields = dict[str, Any]
#: Names of tests, and how many seconds each takes.
Tests = list[tuple[str, float]]
Codes = list[tuple[FunctionType, CodeType]]


class Worker:
    """A plugin of pytest: in place of running all tests, it does what it is told."""

    def __init__(self, orders: Any, answers: Any, folder: Path) -> None:
        self.orders, self.answers, self.folder = orders, answers, folder
        self.failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        gc.unfreeze()
        self.functions = functions_below(self.folder / "src")
        gc.collect()
        gc.freeze()
        self.answer(list(self.items))
        for line in self.orders:
            order = json.loads(line)
            if "measure" in order:
                self.answer(self.measure(order["measure"]))
            else:
                self.answer(self.attempt(**order))
        return True

    def answer(self, answer: Any) -> None:
        self.answers.write(json.dumps(answer) + "\n")
        self.answers.flush()

    # ------------------------------------------------------------ running some tests

    def run(self, name: str) -> bool:
        """Run one test, and say whether it passed."""
        item = self.items[name]
        self.failed = False
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        return not self.failed

    def in_child(
        self, work: Callable[[Callable[[Any], None]], None], patience: Iterable[float]
    ) -> Iterator[Any]:
        """
        What *work* tells, in a forked process.

        It has so many seconds until it tells the next. Whatever it started and left
        behind is ended.
        """
        told, tells = os.pipe()
        pid = os.fork()
        if not pid:
            with contextlib.suppress(BaseException):
                os.setsid()
                work(lambda one: write(tells, one))
                write(tells, None)
            os._exit(0)
        os.close(tells)
        rest = b""
        try:
            for seconds in patience:
                end = time.monotonic() + seconds
                while b"\n" not in rest:
                    left = max(0.0, end - time.monotonic())
                    if not select.select([told], [], [], left)[0]:
                        return
                    more = os.read(told, 1 << 20)
                    if not more:
                        return
                    rest += more
                line, _, rest = rest.partition(b"\n")
                if line == b"null":
                    return
                yield json.loads(line)
        finally:
            os.close(told)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            end_all_of(self.folder)

    # ----------------------------------------------------------- what runs which lines

    def measure(self, names: list[str]) -> Any:
        """How long each of these tests takes that passes, and which lines they run."""
        data = self.folder / "footprints"
        clear(data)
        source = self.folder / "src"
        rc = self.folder / "footprints.rc"
        rc.write_text(
            f"[run]\ndata_file = {data}/of\nparallel = true\n"
            f"source = {source}\ncontext = ${{MUTANTS_TEST-}}\npatch = _exit\n"
        )

        def work(tell: Callable[[Any], None]) -> None:
            import coverage

            os.environ["COVERAGE_PROCESS_START"] = str(rc)
            measured = coverage.Coverage(
                data_file=f"{data}/of.{os.getpid()}.own",
                include=[f"{source}/*"],
                config_file=False,
                messages=False,
            )
            measured.start()
            for name in names:
                os.environ["MUTANTS_TEST"] = name
                measured.switch_context(name)
                begin = time.monotonic()
                passed = self.run(name)
                tell([name, passed, time.monotonic() - begin])
            measured.stop()
            measured.save()

        # Tests of which nothing is heard for long are not for this.
        seconds = dict.fromkeys(names, 0.0)
        for name, passed, took in self.in_child(work, iter(lambda: 120.0, None)):
            if passed:
                seconds[name] = took
        return {
            "seconds": {name: took for name, took in seconds.items() if took},
            "lines": lines_in(data, source),
        }

    # ------------------------------------------------------------------ trying a change

    def attempt(
        self, mutant: Fields, tests: Tests, *, alone: bool, slack: float
    ) -> Any:
        """
        Which of *tests* fails with *mutant*, if one does, and passes without.

        Args:
            mutant: What is changed.
            tests: Their names, and how many seconds each takes.
            alone: Whether the library must be imported anew.
            slack: Seconds that a test may take longer than usual.
        """
        file = self.folder / mutant["file"]
        text, times = file.read_bytes(), file.stat()
        changed = text[: mutant["start"]] + mutant["text"].encode()
        changed += text[mutant["end"] :]
        codes = self.planted(file, changed, mutant)
        alone = alone or codes is None
        tests = tests[:MOST_ALONE] if alone else tests
        begin = time.monotonic()

        def first_failure(tests: Tests, codes: Codes) -> tuple[int, str] | None:
            if alone:
                return self.first_failure_alone(tests, slack)
            return self.first_failure(tests, codes, slack)

        def first_noticing(tests: Tests) -> tuple[int, str] | None:
            try:
                file.write_bytes(changed)
                # Whoever looks at the time only must see that it is another.
                os.utime(file, ns=(times.st_mtime_ns, times.st_mtime_ns + 10**12))
                return first_failure(tests, codes or [])
            finally:
                file.write_bytes(text)
                os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

        answer: Fields = {"ran": 0, "by": None, "how": ""}
        while tests:
            fails = first_noticing(tests)
            if not fails:
                answer["ran"] += len(tests)
                break
            number, how = fails
            without = first_failure(tests[: number + 1], [])
            if not without:
                answer["ran"] += number + 1
                answer |= {"by": tests[number][0], "how": how}
                break
            # That is nothing that the change does. The others may still notice it.
            name = tests[without[0]][0]
            answer["ran"] += without[0] + 1
            answer["how"] = f"unsure: {name} {without[1]} without the change, too"
            tests = tests[without[0] + 1 :]
        return answer | {"seconds": time.monotonic() - begin}

    def first_failure(
        self, tests: Tests, codes: Codes, slack: float
    ) -> tuple[int, str] | None:
        """The first of *tests* that fails, by its number, and how; None if all pass."""

        def work(tell: Callable[[Any], None]) -> None:
            for function, code in codes:
                function.__code__ = code
            for name, _ in tests:
                passed = self.run(name)
                tell(passed)
                if not passed:
                    return

        number = 0
        given = 0.0
        begin = time.monotonic()
        end = begin + 2 * slack

        def patience() -> Iterator[float]:
            nonlocal end, given
            for _, seconds in tests:
                end += TOGETHER * seconds
                left = max(0.0, end - time.monotonic())
                given = min(slack + min(MOST, TIMES * seconds), left)
                yield given

        for passed in self.in_child(work, patience()):
            if not passed:
                return number, "fails"
            number += 1
            begin = time.monotonic()
        if number == len(tests):
            return None
        hangs = time.monotonic() - begin >= given
        return number, "hangs" if hangs else "ends its process"

    def first_failure_alone(self, tests: Tests, slack: float) -> tuple[int, str] | None:
        """As `first_failure`, by a Python of its own; which one it was is not said."""
        command = [sys.executable, "-m", "pytest", "-x", *OPTIONS]
        seconds = 4 * slack + TIMES * sum(seconds for _, seconds in tests)
        child = subprocess.Popen(
            [*command, *(name for name, _ in tests)],
            cwd=self.folder,
            start_new_session=True,
        )
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            return len(tests) - 1, "hangs"
        finally:
            child.kill()
            child.wait()
            end_all_of(self.folder)
        return (len(tests) - 1, "fails") if code else None

    def planted(self, file: Path, changed: bytes, mutant: Fields) -> Codes | None:
        """The functions that change, each with its new code; None if that cannot be."""
        new = {
            (code.co_name, code.co_firstlineno): code
            for code in codes_in(compile(changed, file, "exec"))
        }
        found: Codes = []
        for name, line in mutant["functions"]:
            code = new[name, line]
            # One within another may be made anew by each call of that.
            functions = self.functions.get((str(file), name, line), [])
            if not functions and not found:
                return None
            if any(one.__code__.co_freevars != code.co_freevars for one in functions):
                return None
            found += [(one, code) for one in functions]
        return found


def write(file: int, one: Any) -> None:
    """Write *one* as a line."""
    os.write(file, json.dumps(one).encode() + b"\n")


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """*code* and all that is within it."""
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from codes_in(one)


def functions_below(folder: Path) -> dict[tuple[str, str, int], list[FunctionType]]:
    """The functions of the files in *folder*, by file, name and first line."""
    found = defaultdict(list)
    for one in gc.get_objects():
        if type(one) is FunctionType:
            code = one.__code__
            if code.co_filename.startswith(str(folder)):
                place = code.co_filename, code.co_name, code.co_firstlineno
                found[place].append(one)
    return found


def lines_in(data: Path, source: Path) -> dict[str, dict[int, list[str]]]:
    """The tests that ran each line of each file of *source*."""
    import coverage

    lines: dict[str, dict[int, list[str]]] = defaultdict(dict)
    for part in data.glob("of*"):
        read = coverage.CoverageData(str(part))
        with contextlib.suppress(coverage.CoverageException):
            read.read()
            for file in read.measured_files():
                if file.startswith(str(source)):
                    known = lines[str(Path(file).relative_to(source.parent))]
                    for line, tests in read.contexts_by_lineno(file).items():
                        known[line] = sorted(
                            {*known.get(line, ()), *filter(None, tests)}
                        )
    return lines


def clear(folder: Path) -> None:
    """Leave an empty folder."""
    folder.mkdir(exist_ok=True)
    for one in folder.iterdir():
        one.unlink()


def end_all_of(folder: Path) -> None:
    """End what tests left behind: it works in *folder*, or its temporary files are there."""
    mark = f"TMPDIR={folder}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = mark in (process / "environ").read_bytes()
            ours = ours or (process / "cwd").readlink().is_relative_to(folder)
            if ours and process.name != str(os.getpid()):
                os.kill(int(process.name), signal.SIGKILL)


def main(folder: Path, paths: list[str]) -> int:
    orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, log, log)):
        os.dup2(file, number)
    sys.path[:] = [str(folder / "src"), str(folder), *sys.path]
    options = [
        "--hypothesis-profile=ci",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    return pytest.main(
        [*options, "--tb=short", *paths], [Worker(orders, answers, folder)]
    )


if __name__ == "__main__":
    sys.exit(main(Path.cwd(), sys.argv[1:]))
