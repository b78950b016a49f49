"""
Front ends: other people's ways of writing work down, as tasks and workflows.

Each is only a translator: it reads, checks, submits and reports, and decides nothing.
What it needs of the orchestrator it asks of its public names; nothing below knows a
front end.

- `suite`: test suites: a configuration of phases and tasks, run by a fleet of workers.
- `workspace`: task files: a folder of Markdown that is run as it lies.
- `jobs`: adaptive jobs: a configuration in YAML, and the jobs that it takes.
- `service`: the orchestrator over HTTP, and the page in a browser.
- `agent`: an agent of such a service.
- `mcp`: tools for language models, by the Model Context Protocol.
- `joblib`: `Parallel` runs its calls as tasks, once `register` has been called.
- `wfformat`: recorded runs of real workflows, as WfCommons collects them.
- `resource_pools`: the block `resource_pools` of a YAML file.
- `people`: who may ask a service: named tokens, their roles, and other ways to know.
- `_incoming`: tasks and workflows that come in as documents; what is wrong with a
  value, by its schema.
- `_whose`: whose a value is: what a caller who is bound to tenants may say.
- `channel`: messages in few bytes: symbols for names, and a learnt dictionary.
"""
