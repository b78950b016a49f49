"""
All that can be done with an orchestrator, for the faces that it has.

A verb is described at its method (`taskorch.kit.verbs`), and nowhere else. This room
collects them. It does nothing itself, and knows no face: the client, the service, tools
of language models and the command line are made of it, each in its own words, and so
can be one of yours.

- `table`: the verbs, by how a program calls them; what they return, as JSON.
- `remedies`: what to do, for who is there: calls as commands and as requests.

Decision: 0295.
"""
