"""`make release`: the version and the changelog are cut, and what is packed is looked at."""

import io
import runpy
import tarfile
import zipfile
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STEPS = runpy.run_path(str(ROOT / ".ci" / "releasing.py"))
CUT, FAULTS, REFUSED = STEPS["cut"], STEPS["faults"], STEPS["ReleaseError"]

CODE = '"""It."""\n\n__version__ = "1.0.0rc1"\n'
LOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n\n## [0.1.0] - 2026-11-22\n"
KNOWN = ("README.md", "src/taskorch/__init__.py", "tests/test_it.py")
INFO = ("METADATA", "entry_points.txt", "licenses/LICENSE")


def test_what_is_unreleased_becomes_the_section_of_the_version():
    code, log = CUT(CODE, LOG, "1.0.0", date(2027, 1, 2))
    assert '__version__ = "1.0.0"\n' in code
    assert (
        "## [Unreleased]\n\n## [1.0.0] - 2027-01-02\n\n### Added\n\n- A thing.\n" in log
    )
    assert log.endswith("## [0.1.0] - 2026-11-22\n")


@pytest.mark.parametrize(
    "version", ["1.0.0rc1", "1.0.0b9", "0.9.9", "1.0", "v1.0.0", ""]
)
def test_a_version_that_is_none_or_does_not_come_next_is_refused(version):
    with pytest.raises(REFUSED, match=r"does not come after|is no version"):
        CUT(CODE, LOG, version, date(2027, 1, 2))


def test_without_changes_there_is_no_release():
    with pytest.raises(REFUSED, match="nothing to release"):
        CUT(
            CODE,
            LOG.replace("### Added\n\n- A thing.\n", ""),
            "1.0.0",
            date(2027, 1, 2),
        )


def packed(dist, in_sdist, in_wheel, tag="py3-none-any"):
    with tarfile.open(dist / "taskorch-1.0.0.tar.gz", "w:gz") as archive:
        for name in in_sdist:
            archive.addfile(tarfile.TarInfo(f"taskorch-1.0.0/{name}"), io.BytesIO())
    with zipfile.ZipFile(dist / f"taskorch-1.0.0-{tag}.whl", "w") as archive:
        for name in in_wheel:
            archive.writestr(name, "")


def test_what_is_packed_is_what_is_promised(tmp_path):
    info = [f"taskorch-1.0.0.dist-info/{name}" for name in INFO]
    packed(tmp_path, KNOWN, ["taskorch/__init__.py", *info])
    assert FAULTS("1.0.0", tmp_path, KNOWN) == []


def test_what_lacks_in_it_and_what_is_too_much_is_named(tmp_path):
    packed(tmp_path, KNOWN[:2], ["taskorch/secrets.py", "taskorch/_fast.so"], "cp311-x")
    wrong = "\n".join(FAULTS("1.0.0", tmp_path, KNOWN))
    for part in (
        "taskorch-1.0.0.tar.gz lacks tests/test_it.py",
        "the wheel for every platform is not there",
        "lacks taskorch/__init__.py",
        "has taskorch/secrets.py, which nobody is promised",
        "lacks METADATA",
    ):
        assert part in wrong
    assert "_fast.so" not in wrong


def test_the_code_and_the_changelog_of_this_tree_can_be_cut():
    code = (ROOT / "src/taskorch/__init__.py").read_text("utf-8")
    log = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert '__version__ = "99.0.0"' in CUT(code, log, "99.0.0", date(2027, 1, 2))[0]
