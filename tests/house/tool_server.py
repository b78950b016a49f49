"""
A server of tools, by hand: a line of JSON is a message, and it misbehaves as it is told.

`python tool_server.py FOLDER [--old] [--worse] [--endless]`: what it did stands in FOLDER/log, a
line each; `--old` speaks the version with a handshake; the list of `--worse` is none, that of
`--endless` has no end. It knows nothing of the library, so that it
can say what that would not.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

FOLDER = Path(sys.argv[1])
IS_OLD = "--old" in sys.argv
OBJECT = {"type": "object"}
SAFE = {"readOnlyHint": True}
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
#: Calls that are answered later.
HELD = []
#: What a change is told with, to each who listens.
LISTENERS = [{}] if IS_OLD else []


def log(*words):
    with (FOLDER / "log").open("a", encoding="utf-8") as file:
        file.write(" ".join(map(str, words)) + "\n")


def tool(name, *, hints=None, takes=OBJECT, answers=None):
    described = {"name": name, "inputSchema": takes}
    if hints:
        described["annotations"] = hints
    if answers:
        described["outputSchema"] = answers
    return described


SUM = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}
TOTAL = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
}
TOOLS = {
    each["name"]: each
    for each in (
        tool("add", hints=SAFE, takes=SUM, answers=TOTAL),
        tool("note"),
        tool("ask"),
        tool("read", hints={"idempotentHint": True}),
        tool("fail"),
        tool("lie", answers=TOTAL),
        tool("blank", answers=TOTAL),
        tool("none", takes={**OBJECT, "properties": {"a": {"type": "all"}}}),
        tool("far", takes={**OBJECT, "$ref": "https://127.0.0.1:1/schema.json"}),
        tool("long"),
        tool("steady", hints=SAFE),
        tool("change"),
    )
}
if "--worse" in sys.argv:
    TOOLS["worse"] = {"name": "worse", "inputSchema": 7}


def send(**message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def send_raw(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def kill_once():
    """Kill who has started this, the first time."""
    if not (FOLDER / "killed").exists():
        (FOLDER / "killed").touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(3_600)


def text(words, **more):
    return {"content": [{"type": "text", "text": words}], **more}


def call(number, name, arguments, token):  # noqa: C901, PLR0911, PLR0912 - many faults
    """Do what a tool is to do: `how` says when it misbehaves."""
    how = arguments.get("how", "")
    log(name, arguments.get("text", how))
    if how == "die once" and not (FOLDER / "died").exists():
        (FOLDER / "died").touch()
        sys.exit("out of ink")
    while how == "kill later" and not (FOLDER / "again").exists():
        time.sleep(0.01)
    if how.startswith("kill"):
        kill_once()
    if how == "hang":
        return None
    if how == "hold":
        HELD.append(number)
        return None
    if how.startswith("big"):
        result = {"resultType": "complete", **text("x" * (17 << 20))}
        ends = {"jsonrpc": "2.0", "id": number}
        if how == "big last":
            send_raw({"result": result, **ends})
        elif how == "big nobody":
            send_raw({"result": result, "more": 1, **ends, "end": 1})
        else:
            send_raw({**ends, "result": result})
        return None
    if how == "release":
        for each in HELD:
            send(id=each, result={"resultType": "complete", **text("was held")})
    if how == "slow":
        time.sleep(0.03)
    if how == "env":
        return text(" ".join(sorted(os.environ)))
    if how == "deaf":
        time.sleep(3_600)
    if how == "print":
        print("a word of no protocol")
        print(json.dumps(["no", "message"]))
    if how == "wrong":
        return send(id=number, result="no object")
    if how == "refuse":
        return send(id=number, error={"code": -32602, "message": "not like that"})
    if how == "progress":
        step = {"progressToken": token, "progress": 1, "total": 3, "message": "one"}
        send(method="notifications/progress", params=step)
        while not (FOLDER / "go").exists():
            time.sleep(0.01)
    if name == "add":
        total = {"sum": arguments["a"] + arguments["b"]}
        return text("a sum", structuredContent=total)
    if name == "fail":
        return text("no such issue", isError=True)
    if name == "lie":
        return text("a lie", structuredContent={"sum": "much"})
    if name == "ask":
        form = {"method": "elicitation/create", "params": {"message": "sure?"}}
        form["params"]["requestedSchema"] = {"type": "object", "properties": {}}
        return {"resultType": "input_required", "inputRequests": {"q": form}}
    if name == "change":
        for each in arguments["gone"]:
            TOOLS.pop(each, None)
        for each in arguments["new"]:
            TOOLS[each] = tool(each, hints=SAFE)
        TOOLS.update(arguments.get("other", {}))
        # Those of the version before are told without asking.
        for meta in LISTENERS:
            params = {"_meta": meta} if meta else {}
            send(method="notifications/tools/list_changed", params=params)
    if how == "then die" and (FOLDER / "t1.json").exists():
        sys.exit(3)
    if name in ("long", "steady"):
        return begun(arguments)
    answer = text(f"{name} did it")
    if how == "twice":
        send(id=number, result={"resultType": "complete", **answer})
    return answer


def begun(arguments):
    task_id = f"t{len(list(FOLDER.glob('t*.json'))) + 1}"
    (FOLDER / f"{task_id}.json").write_text(json.dumps(arguments), encoding="utf-8")
    log("created", task_id)
    if arguments.get("kill") == "before":
        kill_once()
    return {"resultType": "task", **state_of(task_id, "working")}


def state_of(task_id, status, **more):
    moment = "2026-11-26T00:00:00Z"
    return {
        "taskId": task_id,
        "status": status,
        "createdAt": moment,
        "lastUpdatedAt": moment,
        "ttlMs": None,
        "pollIntervalMs": 20,
        **more,
    }


def state(task_id):
    kept = FOLDER / f"{task_id}.json"
    if not kept.exists():
        return None
    arguments = json.loads(kept.read_text(encoding="utf-8"))
    log("asked", task_id)
    if arguments.get("kill") == "after":
        kill_once()
    if arguments.get("kill") == "server" and not (FOLDER / "killed").exists():
        (FOLDER / "killed").touch()
        os._exit(3)
    if (FOLDER / "cancelled").exists():
        return state_of(task_id, "cancelled")
    if not (FOLDER / "go").exists():
        return state_of(task_id, "working", statusMessage="half of it")
    end = arguments.get("end", "completed")
    if end == "completed":
        return state_of(task_id, end, result=text("long did it"))
    return state_of(task_id, end, error={"code": -32000, "message": "it broke"})


def result_of(number, method, params):
    modern = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    if IS_OLD:
        modern = {}
    capabilities = {"tools": {"listChanged": True}}
    if method == "server/discover" and not IS_OLD:
        versions = ["2026-07-28"]
        return {"supportedVersions": versions, "capabilities": capabilities, **modern}
    if method == "initialize" and IS_OLD:
        return {
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "serverInfo": {"name": "by hand", "version": "1"},
        }
    if method == "tools/list" and "--endless" in sys.argv:
        return {"tools": list(TOOLS.values()), "nextCursor": "same", **modern}
    if method == "tools/list":
        return {"tools": list(TOOLS.values()), **modern}
    if method == "tools/call":
        token = params.get("_meta", {}).get("progressToken")
        answer = call(number, params["name"], params.get("arguments") or {}, token)
        return answer and {"resultType": "complete", **answer}
    if method == "tasks/get":
        answer = state(params["taskId"])
        return answer and {"resultType": "complete", **answer}
    if method == "tasks/cancel":
        log("cancel", params["taskId"])
        (FOLDER / "cancelled").touch()
        return {"resultType": "complete"}
    return None


def main():
    log("started")
    for line in sys.stdin:
        message = json.loads(line)
        method, params = message.get("method"), message.get("params") or {}
        if "id" not in message:
            log("told", method)
            continue
        if method == "subscriptions/listen":
            LISTENERS.append({SUBSCRIPTION: message["id"]})
            params = {"notifications": {"toolsListChanged": True}}
            params["_meta"] = LISTENERS[-1]
            send(method="notifications/subscriptions/acknowledged", params=params)
            continue
        result = result_of(message["id"], method, params)
        if result is not None:
            send(id=message["id"], result=result)
        elif method != "tools/call":
            error = {"code": -32602, "message": f"nothing is known of that: {method}"}
            send(id=message["id"], error=error)
    log("ended")


main()
