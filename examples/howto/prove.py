from pathlib import Path

from taskorch import TaskOrchestrator
from taskorch.ext.proofs import make_checkpoint, make_key, verify

ANCHOR = "elsewhere.anchor"  # on another machine, or of another user

if not Path("audit.key").exists():
    make_key("audit.key")  # and audit.key.pub, for everybody


def sign():
    return make_checkpoint("night.db", "audit.key", to=[ANCHOR]).last


with TaskOrchestrator(journal="night.db") as orch:
    orch.schedules.add("sign", "every 1h", sign)  # while it runs
    print(list(orch.map(abs, range(-3, 0))))
    orch.submit(sign).result()

result = verify("night.db", [ANCHOR], trust=["audit.key.pub"])
print(result)
assert result.ok
