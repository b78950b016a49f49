#!/bin/sh
# An agent that is one long-lived program: a task is a line of JSON on its input, and so
# is the answer on its output. This one counts the letters of a plain text.
#
#   orch.agents.template("counter", executor="lines", capabilities=["count"],
#                        start=["sh", "examples/line_agent.sh"])
#   orch.agents.spawn("counter")
#   orch.submit_task(Task("count", "hello", requires=["count"])).result()  # 5
#
# What it says on standard error is for people. To say how far it is, answer with
# {"id": …, "progress": …} before the end; with {"id": …, "error": …} the attempt fails.
set -u

field() { # field LINE NAME: the text of a field, where it has no quotes in it
    printf '%s' "$1" | sed -n "s/.*\"$2\": *\"\([^\"\\\\]*\)\".*/\1/p"
}

while IFS= read -r task; do
    id=$(field "$task" id)
    text=$(field "$task" payload)
    if [ -z "$text" ]; then
        printf '{"id": "%s", "error": "the payload is no plain text"}\n' "$id"
        continue
    fi
    echo "counting for $id" >&2
    printf '{"id": "%s", "result": %d}\n' "$id" "${#text}"
done
