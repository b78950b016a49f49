"""
Recovery: classes of failures, the response to each, and alerts.

A failure gets a class, and a matrix has the response to each. Alerts watch metrics, and
act. All of this acts through the answers of a RetryHandler, or the public names of the
orchestrator: nothing here changes a task by itself.

- `_classes`, `_codes`, `_words`: the class of a failure; by codes of databases and
  services; by what a program's last words say of it.
- `_corrections`: an extension by which people say of what class failures were.
- `_matrix`, `_handler`: what follows each class, as data; the RetryHandler that looks
  it up.
- `_repairs`: programs that mend what an attempt runs in, as documents say them.
- `_aside`: functions of the user's beside the drivers: one that hangs holds up nothing.
- `_metrics`: what is measured, by its names; conditions over that; whether tasks take
  longer than usual.
- `_own_type`: each task beside earlier ones of its type, and all types together.
- `_alerts`: rules with actions that are undone.
"""

from taskorch.ext.recovery._alerts import (
    ACTIONS as ACTIONS,
    Alert as Alert,
    AlertRule as AlertRule,
    Alerts as Alerts,
    default_rules as default_rules,
)
from taskorch.ext.recovery._classes import (
    CLASSES as CLASSES,
    FailureClass as FailureClass,
    Rule as Rule,
    class_of as class_of,
    classify as classify,
)
from taskorch.ext.recovery._corrections import Corrections as Corrections
from taskorch.ext.recovery._handler import RecoveryHandler as RecoveryHandler
from taskorch.ext.recovery._matrix import (
    Avoid as Avoid,
    Grow as Grow,
    Reset as Reset,
    Row as Row,
    Times as Times,
)
from taskorch.ext.recovery._metrics import (
    METRICS as METRICS,
    from_stats as from_stats,
    metrics_of as metrics_of,
)
