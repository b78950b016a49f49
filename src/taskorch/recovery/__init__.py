"""What kind of failure it was, and what follows from that."""

from taskorch.recovery._classes import CLASSES as CLASSES
from taskorch.recovery._classes import FailureClass as FailureClass
from taskorch.recovery._classes import Rule as Rule
from taskorch.recovery._classes import class_of as class_of
from taskorch.recovery._classes import classify as classify
