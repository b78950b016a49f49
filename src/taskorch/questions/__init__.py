"""
Questions to people, and the effects of their answers.

The package stands above the runtime, which needs nothing of it. The approval of a phase
is a verdict on a run, made with its handles: it stands with runs, and calls this
package.

- `_asked`: open questions, who may answer, and what follows.

Decisions: questions, rooms-and-loading.
"""

from taskorch.questions._asked import (
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
