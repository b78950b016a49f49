"""The in-toto statement on a run: what was tested, with what, and how it ended."""

import hashlib
import json
import subprocess
from base64 import b64decode

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

from taskorch.errors import InvalidTaskError
from taskorch.ext import command_line as cli, suites as suite
from taskorch.ext.governance import sealed, signing_key, statement_of, unsealed
from taskorch.kit.canonical import canonical

SLOW = pytest.mark.slow("runs suites of pytest")

SUITE = """\
templates:
  pytest: {pytest: [-q, -p, "no:cacheprovider"]}
  sh: {command: [sh, -c, ". ./$0.sh", "{id}"], env: {TOKEN: s3cret}}
orchestrator:
  name: shop
  task_definitions:
    unit_tests:
      - {id: cart, template: pytest, arguments: [test_cart.py]}
      - {id: B, template: sh}
"""
TESTS = """\
import pytest
def test_sum(): assert sum([20, 70]) == 90
@pytest.mark.skip
def test_later(): pass
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "test_cart.py").write_text(TESTS)
    (tmp_path / "B.sh").write_text("exit 0")
    return tmp_path


def main(*words):
    return cli.main(["suite", *words])


def run(*words):
    return main("run", "suite.yaml", "-q", "--statement", "out/said.json", *words)


def said(here):
    return json.loads((here / "out/said.json").read_text())


def git(*words):
    who = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", *who, *words], check=True, capture_output=True)


def key_file(path, key):
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(path)


def test_it_says_what_was_tested_with_what_and_the_outcome(here):
    assert run() == 0
    text = (here / "out/said.json").read_bytes()
    statement = json.loads(text)
    assert canonical(statement) == text
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    kind = "https://in-toto.io/attestation/test-result/v0.1"
    assert statement["predicateType"] == kind
    files = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    assert files == {
        name: hashlib.sha256((here / name).read_bytes()).hexdigest()
        for name in ("B.sh", "suite.yaml", "test_cart.py")
    }
    predicate = statement["predicate"]
    assert predicate["result"] == "PASSED"
    assert predicate["passedTests"] == ["cart: test_cart.py::test_sum", "B"]
    assert predicate["warnedTests"] == predicate["failedTests"] == []
    how, where = [b64decode(each["content"]) for each in predicate["configuration"]]
    for content, each in zip((how, where), predicate["configuration"], strict=True):
        assert each["digest"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert b"s3cret" not in how, "values of variables may be secret"
    assert json.loads(how)["templates"]["sh"]["env"] == ["TOKEN"]
    assert json.loads(where)["packages"]["pytest"] == pytest.__version__


def test_a_program_asks_for_it_too_and_has_it_signed(here):
    key = ed25519.Ed25519PrivateKey.generate()
    path = key_file(here / ".key.pem", key)
    (here / "suite.yaml").write_text(SUITE.replace("template: pytest", "template: sh"))
    (here / "cart.sh").write_text("exit 0")
    suite.run(suite.load("suite.yaml"), "runs", statement="said.json", key=path)
    statement = unsealed((here / "said.json").read_text(), key.public_key())
    assert statement["predicate"]["passedTests"] == ["cart", "B"]


def test_of_a_failed_run_it_says_what_failed_and_what_never_began(here):
    (here / "test_cart.py").write_text(TESTS + "def test_bad(): assert 0\n")
    (here / "B.sh").write_text("exit 3")
    more = "    slow_tests: [{id: C, template: sh, dependencies: [B]}]\n"
    (here / "suite.yaml").write_text(SUITE + more)
    assert run() == 1
    predicate = said(here)["predicate"]
    assert predicate["result"] == "FAILED"
    failed = ["cart: test_cart.py::test_bad", "cart", "B", "C"]
    assert predicate["failedTests"] == failed
    assert predicate["passedTests"] == ["cart: test_cart.py::test_sum"]


@SLOW
def test_a_run_that_passes_though_a_test_failed_is_no_clean_pass(here):
    (here / "test_cart.py").write_text(TESTS + "def test_bad(): assert 0\n")
    tolerant = SUITE.replace(
        "[test_cart.py]", "[test_cart.py], success_criteria: {pass_rate: 0.5}"
    )
    (here / "suite.yaml").write_text(tolerant)
    assert run() == 0
    predicate = said(here)["predicate"]
    assert predicate["result"] == "WARNED"
    assert predicate["failedTests"] == ["cart: test_cart.py::test_bad"]


@SLOW
def test_results_of_other_files_are_no_results_of_these(here, capsys):
    (here / "B.sh").write_text("exit 3")
    assert run() == 1
    (here / "B.sh").write_text("exit 0")
    assert run("--failed") == 2
    why = "B.sh has changed since the run began: no statement can say what was tested"
    assert why in capsys.readouterr().err
    # A test that changes what is tested has tested neither.
    (here / "B.sh").write_text("echo '# more' >> test_cart.py")
    assert run("--fresh") == 2
    assert "test_cart.py has changed since the run began" in capsys.readouterr().err
    # Nobody knows of what an earlier part of a run was.
    assert main("run", "suite.yaml", "-q", "--fresh") == 0
    assert run("--failed") == 2
    assert "began without a statement" in capsys.readouterr().err


@pytest.mark.parametrize("has_git", [False, True])
def test_no_statement_is_made_once_a_file_was_edited(here, capsys, has_git):
    """During the run, or before it goes on, whether git or a hash says what it was."""
    (here / "suite.yaml").write_text(
        SUITE.replace("      - {id: cart", "      # {id: ")
    )
    (here / "B.sh").write_text("echo '# more' >> test_cart.py; exit 3")
    if has_git:
        (here / ".gitignore").write_text("out\n")
        git("init", "-q")
        git("add", ".")
        git("commit", "-qm", "it")
    assert run("--output", "out/runs") == 2
    assert "has changed since the run began" in capsys.readouterr().err
    assert run("--output", "out/runs", "--failed") == 2
    assert "has changed since the run began" in capsys.readouterr().err
    assert not (here / "out/said.json").exists()


@SLOW
def test_what_git_has_is_named_by_its_commit(here):
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "it")
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
    (here / ".gitignore").write_text("ignored\n")
    (here / "ignored").write_text("of no importance")
    assert run("--output", "runs") == 0
    subjects = said(here)["subject"]
    assert [each["digest"] for each in subjects] == [{"gitCommit": commit}]
    assert subjects[0]["name"] == here.name
    # With a file that no commit has, the commit is not what was tested.
    (here / "conftest.py").write_text("")
    assert run("--output", "runs", "--fresh") == 0
    subjects = said(here)["subject"]
    assert {"conftest.py", "test_cart.py"} <= {each["name"] for each in subjects}
    assert not any("gitCommit" in each["digest"] for each in subjects)


def test_it_is_signed_and_no_byte_of_it_changes_unseen(here, capsys):
    key = ed25519.Ed25519PrivateKey.generate()
    path = key_file(here / ".key.pem", key)
    text = sealed(statement_of([], "x", {"result": "PASSED"}), signing_key(path))
    envelope = json.loads(text)
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert unsealed(text, key.public_key())["predicate"]["result"] == "PASSED"
    # As others make the bytes that are signed.
    payload, kind = b64decode(envelope["payload"]), b"application/vnd.in-toto+json"
    encoded = b" ".join([b"DSSEv1 28", kind, b"%d" % len(payload), payload])
    signature = b64decode(envelope["signatures"][0]["sig"])
    key.public_key().verify(signature, encoded)
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    payload = b64decode(envelope["payload"]).replace(b"PASSED", b"FAILED")
    forged = canonical(
        {**envelope, "payload": __import__("base64").b64encode(payload).decode()}
    )
    for broken, by in (
        (text, other),
        (forged.decode(), key.public_key()),
        (text.replace("vnd.in-toto", "vnd.in-tota"), key.public_key()),
        (canonical({**envelope, "signatures": []}).decode(), key.public_key()),
        ("{}", key.public_key()),
        ("[]", key.public_key()),
        ("no JSON", key.public_key()),
    ):
        with pytest.raises(InvalidTaskError):
            unsealed(broken, by)
    assert main("run", "suite.yaml", "--key", path) == 2
    assert "--key signs a statement, and none is asked for" in capsys.readouterr().err
    key_file(here / ".other.pem", x25519.X25519PrivateKey.generate())
    (here / ".none.pem").write_text("no key")
    for wrong in (".other.pem", ".none.pem", ".missing.pem"):
        with pytest.raises(InvalidTaskError, match="key"):
            signing_key(here / wrong)
