"""
Why tasks do not run, when they may, and what can never proceed: pure questions.

Here belongs what is said of a task, from the predicates that schedule it. Nothing here
may change the state, apply a fact or record one, and no verb of the kernel may ask it:
whether a task starts is decided below.

- `_explanation`: why a task does not run, or what became of it.
- `_words`, `_parents`, `_holds`: what keeps it: shortages in words, others, a hold.
- `_people`: what people are asked, and how they answer.
- `_holders`, `_estimate`: who has it, who comes before, and when.
- `_stuck`: what can never proceed; whether turns were kept.
"""

from taskorch.kernel._explain._explanation import explain as explain
from taskorch.kernel._explain._holders import holders_of as holders_of
from taskorch.kernel._explain._holds import hold_of_starts as hold_of_starts
from taskorch.kernel._explain._holds import words_of_hold as words_of_hold
from taskorch.kernel._explain._holds import words_of_holds as words_of_holds
from taskorch.kernel._explain._people import asked_by_rules as asked_by_rules
from taskorch.kernel._explain._people import call_of_answer as call_of_answer
from taskorch.kernel._explain._people import escalation_of as escalation_of
from taskorch.kernel._explain._people import times_asked as times_asked
from taskorch.kernel._explain._stuck import Search as Search
from taskorch.kernel._explain._stuck import Waits as Waits
from taskorch.kernel._explain._stuck import passed_over as passed_over
from taskorch.kernel._explain._words import NOT_STARTED as NOT_STARTED
