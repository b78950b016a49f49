"""
Proofs of a journal: its identity, its past, and that nothing was changed.

    from taskorch.ext.proofs import make_checkpoint, make_key, verify

    make_key("audit.key")  # and audit.key.pub
    make_checkpoint("runs.db", "audit.key", to=["/elsewhere/runs.anchor"])
    verification = verify(
        "runs.db", ["/elsewhere/runs.anchor"], trust=["audit.key.pub"]
    )
    print(verification)
    assert verification.ok

Signatures need the extra `audit`. The hashes are in `kit.tree`.

- `_proving`: checkpoints are made, journals checked, events proved.
- `_notes`: checkpoints as text, and the keys that sign them.
- `_anchors`: places where checkpoints are kept.
- `_tree`: proofs by the tree over the rows.
"""

from taskorch.ext.proofs._notes import Checkpoint as Checkpoint, make_key as make_key
from taskorch.ext.proofs._proving import (
    CheckedCheckpoint as CheckedCheckpoint,
    Proved as Proved,
    Verification as Verification,
    check_proof as check_proof,
    make_checkpoint as make_checkpoint,
    prove_event as prove_event,
    prove_extension as prove_extension,
    verify as verify,
)
