"""
The verbs of an orchestrator, for all its faces.

A verb is described at its method (`taskorch.kit.verbs`), and nowhere else. This package
collects them. It does nothing itself, and knows no face: the client, the service, tools
of language models and the command line are made from it, and so can be a face of your
own.

- `table`: the verbs, by their Python call; their results as JSON.
- `remedies`: Python calls in messages as commands and as requests.

Decision: verbs-and-front-ends.
"""
