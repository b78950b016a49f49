"""The files of `examples/deploy` start a service that lives and ends as they say."""

import json
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import yaml
from tests.api.tools import PATIENCE, eventually
from tests.ext.command_line.tools import started

FOLDER = Path(__file__).parents[3] / "examples" / "deploy"
TOKEN = "t" * 40
_STOP = "TASKORCH_STOP_TIMEOUT"
#: A service that asks for a token, as each of the files starts it.
_SERVE = ["taskorch", "serve", "app.py", "--functions", "--agents"]


def image() -> tuple[list[str], dict[str, str], str]:
    """The command, the variables and the probe of `Containerfile`."""
    text = (FOLDER / "Containerfile").read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    (variables,) = re.findall(r"^ENV (.*)$", text, re.MULTILINE)
    (probe,) = re.findall(r"urlopen\('(\S+)'", text)
    named = dict(pair.split("=", 1) for pair in variables.split())
    return json.loads(command), named, probe


def manifest(kind: str, name: str = "tasks") -> dict:
    """One of the objects of `kubernetes.yaml`."""
    documents = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    named = {(each["kind"], each["metadata"]["name"]): each for each in documents}
    return named[kind, name]


def pod(name: str = "tasks") -> dict:
    """The template of the pods of `kubernetes.yaml`."""
    return manifest("Deployment", name)["spec"]["template"]["spec"]


def unit() -> dict[str, str]:
    """The keys of the section of the service of `tasks.service`."""
    text = (FOLDER / "tasks.service").read_text()
    section = text.partition("[Service]\n")[2].partition("\n[")[0]
    lines = [line for line in section.splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines if line)


def compose() -> dict:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def command_of(name: str) -> list[str]:
    if name == "tasks.service":
        return shlex.split(unit()["ExecStart"])
    return image()[0] if name == "Containerfile" else pod()["containers"][0]["args"]


@pytest.mark.parametrize(
    "name",
    [
        "kubernetes.yaml",
        *(
            pytest.param(
                name, marks=pytest.mark.slow("differ in host, port and grace alone")
            )
            for name in ("Containerfile", "tasks.service")
        ),
    ],
)
def test_the_command_of_a_file_serves_until_sigterm(name, tmp_path):
    shutil.copy(FOLDER / "app.py", tmp_path)
    program, *words = command_of(name)
    assert [Path(program).name, *words[:4]] == _SERVE
    at = words.index("--port") + 1
    assert words[at] == "8080"
    words[at] = "0"
    env = {"TASKORCH_TOKEN": TOKEN, "TASKORCH_JOURNAL": "runs.db", _STOP: "40"}
    with started(*words, cwd=tmp_path, **env) as process:
        lines = iter(process.stdout.readline, "")
        page = next(line for line in lines if line.startswith("page: "))
        address = page.removeprefix("page: ").strip().partition("/#")[0].rstrip("/")

        def ask(path, body=None, **head):
            sent = json.dumps(body).encode() if body else None
            head = {"Content-Type": "application/json", **head}
            with urlopen(Request(address + path, sent, head), timeout=PATIENCE) as got:
                return json.load(got)

        # As Kubernetes does, which asks by the address of the pod.
        for path in ("/livez", "/readyz"):
            assert ask(path, Host="10.0.0.7:8080") == {"status": "ok"}
        with pytest.raises(HTTPError, match="401"):
            ask("/api/v1/tasks")
        known = {"Authorization": f"Bearer {TOKEN}"}
        bill = {"call": "total", "args": [[20, 70]], "id": "bill"}
        ask("/api/v1/tasks", bill, **known)
        told = "/api/v1/tasks/bill/result?wait=5"
        eventually(lambda: ask(told, **known).get("result") == 108)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_ports_paths_and_users_of_the_files_agree():
    _, variables, probe = image()
    text = (FOLDER / "Containerfile").read_text()
    assert "EXPOSE 8080\n" in text
    assert probe == "http://127.0.0.1:8080/livez"
    (container,) = pod()["containers"]
    assert [port["containerPort"] for port in container["ports"]] == [8080]
    probes = {
        name: container[f"{name}Probe"]["httpGet"]["path"]
        for name in ("startup", "liveness", "readiness")
    }
    # A rollout waits until each pod is ready: a standby is, once it lives.
    assert set(probes.values()) == {"/livez"}
    user = pod()["securityContext"]["runAsUser"]
    assert f"useradd --uid {user} " in text
    assert f"\nUSER {user}\n" in text
    proxy = (FOLDER / "haproxy.cfg").read_text()
    services = compose()["services"]
    for name in re.findall(r"^ +server (\w+) \1:8080$", proxy, re.MULTILINE):
        assert services.pop(name)["image"] == "tasks"
    assert services.keys() == {"db", "proxy"}
    assert Path(variables["TASKORCH_JOURNAL"]).parent == Path("/data")


def test_supervisors_wait_longer_than_the_service_does():
    served = float(image()[1][_STOP])
    assert f"{_STOP}={served:g}" in unit()["Environment"].split()
    waits = [
        float(unit()["TimeoutStopSec"]),
        float(pod()["terminationGracePeriodSeconds"]),
        float(compose()["x-service"]["stop_grace_period"].removesuffix("s")),
    ]
    # A grace of ten seconds follows, in which attempts that are cut off may end.
    assert min(waits) >= served + 10


def test_no_secret_stands_in_a_file():
    for path in filter(Path.is_file, FOLDER.iterdir()):
        for line in path.read_text().splitlines():
            named = re.search(r"(?:TOKEN|PASSWORD)\w*\W+(\S+)", line.partition("#")[0])
            assert not named or "$" in line or "secretKeyRef" in line, line


def test_compose_builds_the_image_of_the_folder_without_its_secrets():
    for name in ("first", "second"):
        assert compose()["services"][name]["build"]["dockerfile"] == "Containerfile"
    # Docker reads no other name, and podman this one, too.
    lines = (FOLDER / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    assert set(lines[1:]) == {"!*.whl", "!app.py", "!requirements.txt"}


def test_requests_go_to_the_leader_alone():
    """A proxy asks each service whether it is ready, and nobody goes past it."""
    files = {
        "compose": (FOLDER / "haproxy.cfg").read_text(),
        "kubernetes": manifest("ConfigMap", "tasks-proxy")["data"]["haproxy.cfg"],
    }
    for text in files.values():
        assert "http-check send meth GET uri /readyz" in text
    found = manifest("Service", "tasks-all")["spec"]
    assert found["clusterIP"] == "None"
    assert 'tasks-all.${NAMESPACE}.svc.cluster.local:8080"' in files["kubernetes"]
    of_proxies = {"app.kubernetes.io/name": "tasks-proxy"}
    assert manifest("Service")["spec"]["selector"] == of_proxies
    policy = manifest("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (way,) = policy["ingress"]
    assert [one["podSelector"]["matchLabels"] for one in way["from"]] == [of_proxies]
    selected = policy["podSelector"]["matchLabels"]
    assert selected == found["selector"]


def test_images_have_the_tags_of_one_version():
    text = (FOLDER / "Containerfile").read_text()
    images = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    images += [one["image"] for one in compose()["services"].values()]
    images += [pod(name)["containers"][0]["image"] for name in ("tasks", "tasks-proxy")]
    for name in set(images) - {"tasks"}:
        assert re.search(r":(\d+\.\d+|trixie-\d{8})", name), name


def test_a_unit_of_systemd_is_held_to_what_it_needs():
    text = (FOLDER / "tasks.service").read_text()
    for line in [
        *("NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateUsers=yes"),
        *("RestrictNamespaces=yes", "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX"),
        *("SystemCallFilter=@system-service", "SystemCallFilter=~@privileged"),
        *("CapabilityBoundingSet=", "MemoryMax=2G", "TasksMax=512"),
    ]:
        assert f"\n{line}\n" in text
    program = shutil.which("systemd-analyze")
    if program is None:
        return
    words = [program, "security", "--offline=true", FOLDER / "tasks.service"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    exposure = re.search(r"exposure level for \S+: (\S+)", done.stdout)
    # An older systemd knows no --offline.
    assert exposure is None or float(exposure[1]) < 2


def test_each_container_has_few_rights_and_limits():
    for name in ("tasks", "tasks-proxy"):
        assert pod(name)["securityContext"]["runAsNonRoot"]
        assert not pod(name)["automountServiceAccountToken"]
        (container,) = pod(name)["containers"]
        assert container["resources"]["limits"]["memory"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    for service in compose()["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {"mem_limit", "pids_limit"} <= service.keys()
