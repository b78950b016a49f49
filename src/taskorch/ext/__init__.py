"""
The extensions that come with taskorch, each a folder that one could delete.

An extension knows public names, `taskorch.kit` and `taskorch.core.inside`; of another
one it knows only public names. The core knows none of them. From the bottom up:

- `postgres`, `large_values`: journals in PostgreSQL; large results in object stores.
- `retention`, `proofs`: what leaves a journal; that it was not changed.
- `hosts`: calls on other machines, which Ray or Dask place.
- `json_schema`: a validator of payloads.
- `memo`: results of like tasks, which run once.
- `budgets`: amounts that are spent for good, with their half of the kernel.
- `recovery`: classes of failures, what is done about each; alerts.
- `governance`: policies as data, verdicts, waivers.
- `learning`: policies that learn which of several does best.
- `steps`: named parts of a function, each kept once it is done.
- `questions`: questions to people, and approvals of phases.
- `schedules`: tasks and workflows that are submitted again and again.
- `controllers`: parts of a program that act by time.
- `simulation`: the core in virtual time: forecasts, tests under faults.
- `planner`: plans of requests; it uses `learning` and `simulation`.
- `comparing`: two runs beside each other.
- `spawned`: workers that taskorch starts, from templates.
- `coding`: workers that are coding agents.
- `remote_workers`: a worker of a service elsewhere.
- `logs`, `telemetry`: records by task; spans and metrics.
- `notices`: messages, progress and events, for people and programs.
- `views`: a journal, read by others than its leader.
- `suites`, `task_files`, `jobs`: test suites; a folder of Markdown; adaptive jobs.
- `joblib`, `wfformat`, `pools`: other libraries' calls, recorded runs, blocks of YAML.
- `people`, `incoming`: who may ask, and what; checks of documents that come in.
- `service`, `channel`: HTTP, and the page; its messages in few bytes.
- `client`, `mcp`: a client of the service; tools for language models.
- `command_line`: the commands. They know all others.

Decision: extensions.
"""
