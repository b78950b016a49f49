#!/bin/sh
# An agent by the wire alone: it does tasks of type "sha256", whose payload is a plain text.
# URL=http://127.0.0.1:8080 NAME=agent_sh TASKORCH_TOKEN=… sh examples/agent.sh
set -u
session=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')

say() { # say VERB MESSAGE: prints the answer. The token is in no list of processes.
    curl -sf --max-time 30 "$URL/api/v1/agents/$NAME/$1" -d "$2" -K - <<EOF
header = "Authorization: Bearer $TASKORCH_TOKEN"
header = "Taskorch-Session: $session"
header = "Content-Type: application/json"
EOF
}
hello() { say hello "{\"protocol\": 1, \"session\": \"$session\", \"capabilities\": [\"sha256\"]}"; }
part() { printf '%s' "$1" | sed -n "s/.*\"$2\":\"\([^\"\\\\]*\)\".*/\1/p"; }

trap 'say leave "{}"; exit 0' TERM INT
until hello; do sleep 1; done
while :; do
    # What was sent and got lost comes again, since nothing is named as running.
    if ! orders=$(say claim '{"wait": 5}'); then sleep 1; hello; continue; fi
    attempt=$(part "$orders" attempt)
    [ -n "$attempt" ] || continue
    while sleep 4; do say heartbeat "{\"running\": [\"$attempt\"]}"; done >&2 &
    beats=$!
    sum=$(printf %s "$(part "$orders" payload)" | sha256sum | cut -d ' ' -f 1)
    kill "$beats"
    end="{\"attempt\": \"$attempt\", \"outcome\": \"completed\", \"result\": \"$sum\"}"
    until say complete "{\"results\": [$end]}"; do sleep 1; hello; done
done
