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

from taskorch.recovery._alerts import ACTIONS as ACTIONS
from taskorch.recovery._alerts import Alert as Alert
from taskorch.recovery._alerts import AlertRule as AlertRule
from taskorch.recovery._alerts import Alerts as Alerts
from taskorch.recovery._alerts import default_rules as default_rules
from taskorch.recovery._classes import CLASSES as CLASSES
from taskorch.recovery._classes import FailureClass as FailureClass
from taskorch.recovery._classes import Rule as Rule
from taskorch.recovery._classes import class_of as class_of
from taskorch.recovery._classes import classify as classify
from taskorch.recovery._corrections import Corrections as Corrections
from taskorch.recovery._handler import RecoveryHandler as RecoveryHandler
from taskorch.recovery._matrix import Avoid as Avoid
from taskorch.recovery._matrix import Grow as Grow
from taskorch.recovery._matrix import Reset as Reset
from taskorch.recovery._matrix import Row as Row
from taskorch.recovery._matrix import Times as Times
from taskorch.recovery._metrics import METRICS as METRICS
from taskorch.recovery._metrics import from_stats as from_stats
from taskorch.recovery._metrics import metrics_of as metrics_of
