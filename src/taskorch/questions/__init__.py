"""
Questions to people, and the effects of their answers.

The package stands above the runtime, which needs nothing of it. The approval of a phase
is a verdict on a run, made with its handles: it stands with runs, and calls this
package.

- `_asked`: open questions, who may answer, and what follows.

Decisions: questions, rooms-and-loading.
"""

from taskorch.questions._asked import answer as answer
from taskorch.questions._asked import approval_of as approval_of
from taskorch.questions._asked import check as check
from taskorch.questions._asked import failure_of as failure_of
from taskorch.questions._asked import open_questions as open_questions
from taskorch.questions._asked import opened_questions as opened_questions
from taskorch.questions._asked import refuse_bypass as refuse_bypass
from taskorch.questions._asked import vote as vote
from taskorch.questions._asked import why_unsure as why_unsure
