"""
Questions to people, and the effects of their answers.

The package stands above the runtime, which needs nothing of it.

- `_asked`: open questions, who may answer, and what follows.
- `_approvals`: a person says yes or no to a phase.

Decisions: questions, rooms-and-loading.
"""

from taskorch.ext.questions._asked import (
    answer as answer,
    approval_of as approval_of,
    check as check,
    failure_of as failure_of,
    open_questions as open_questions,
    opened_questions as opened_questions,
    refuse_bypass as refuse_bypass,
    vote as vote,
    why_unsure as why_unsure,
)
