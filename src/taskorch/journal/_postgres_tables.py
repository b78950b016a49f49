"""
The tables of a journal in PostgreSQL, in the schema `taskorch` of a database.

    layout      one row: the number of the layout
    partitions  one row a partition, which is one journal: who owns it, in which life,
                until when, and the number of its last fact
    facts       one row a fact, as in a file (see `_codec`); `upto` is the number of the
                last fact of its group, `epoch` the life that wrote it, and `key` an
                idempotency key
    snapshots   of each partition, the two latest states that the runtime has kept

An owner is told by its epoch and its token. Whoever writes does so in a statement that
names both, and that locks the row of the partition: so what another has claimed is not
written by it, however late its statement comes. No session is relied on: whatever a
statement needs is in it, or in rows.
"""

from __future__ import annotations

from typing import Final, LiteralString

#: The number of the layout that is written.
LAYOUT: Final = 1
_RARE: Final = (
    "kind <> 'TaskSubmitted' AND kind <> 'TaskStarted' AND kind <> 'TaskCompleted'"
)

#: What makes the tables; within one transaction.
MAKE: Final[tuple[LiteralString, ...]] = (
    # Held while the tables are made, of several that do so at once: "tsko".
    "SELECT pg_advisory_xact_lock(1953721199)",
    "CREATE SCHEMA IF NOT EXISTS taskorch",
    "CREATE TABLE IF NOT EXISTS taskorch.layout (version integer NOT NULL)",
    # The number is LAYOUT.
    """
    INSERT INTO taskorch.layout SELECT 1
    WHERE NOT EXISTS (SELECT FROM taskorch.layout)
    """,
    # Most of a page is left free: each commit writes a row of it anew, in its place.
    """
    CREATE TABLE IF NOT EXISTS taskorch.partitions (
        id          integer GENERATED ALWAYS AS IDENTITY UNIQUE,
        name        text COLLATE "C" PRIMARY KEY,
        uid         text NOT NULL,
        last        bigint NOT NULL DEFAULT 0,
        facts       bigint NOT NULL DEFAULT 0,
        epoch       bigint NOT NULL DEFAULT 0,
        token       text NOT NULL DEFAULT '',
        lease_until timestamptz NOT NULL DEFAULT '-infinity',
        pid         bigint,
        host        text,
        machine     text,
        started     bigint,
        since       text
    ) WITH (fillfactor = 20)
    """,
    """
    CREATE TABLE IF NOT EXISTS taskorch.facts (
        partition integer NOT NULL,
        seq       bigint NOT NULL,
        upto      bigint NOT NULL,
        epoch     bigint NOT NULL,
        at_ns     bigint NOT NULL,
        kind      text NOT NULL,
        task_id   text COLLATE "C",
        body      text NOT NULL,
        doc       text,
        key       text COLLATE "C",
        PRIMARY KEY (partition, seq)
    )
    """,
    """
    CREATE INDEX IF NOT EXISTS facts_by_task ON taskorch.facts
    (partition, task_id, seq) WHERE task_id IS NOT NULL
    """,
    f"""
    CREATE INDEX IF NOT EXISTS facts_by_kind ON taskorch.facts
    (partition, kind, seq) WHERE {_RARE}
    """,
    """
    CREATE INDEX IF NOT EXISTS facts_by_key ON taskorch.facts
    (partition, key, seq) WHERE key IS NOT NULL
    """,
    """
    CREATE TABLE IF NOT EXISTS taskorch.snapshots (
        partition integer NOT NULL,
        seq       bigint NOT NULL,
        state     text NOT NULL,
        PRIMARY KEY (partition, seq)
    )
    """,
)

FIND_LAYOUT: Final = "SELECT version FROM taskorch.layout"
HAS_LAYOUT: Final = "SELECT to_regclass('taskorch.layout') IS NOT NULL"
NAMES: Final = "SELECT name FROM taskorch.partitions ORDER BY name"
NEW_PARTITION: Final = """
    INSERT INTO taskorch.partitions (name, uid)
    VALUES (%s, replace(gen_random_uuid()::text, '-', ''))
    ON CONFLICT (name) DO NOTHING
"""

# -- the owner -------------------------------------------------------------------------

#: All that is said of a partition; `left` in seconds of the clock of the database.
OWNER: Final = """
    SELECT id, uid, last, facts, epoch, token, pid, host, machine, started, since,
    lease_until::text AS until, CASE WHEN isfinite(lease_until) THEN
    extract(epoch FROM lease_until - clock_timestamp())::float8 ELSE -1 END AS left
    FROM taskorch.partitions WHERE name = %s
"""
#: Whoever holds it in a transaction cannot be overtaken by a claim or an append.
LOCK: Final = "SELECT FROM taskorch.partitions WHERE name = %s FOR UPDATE"
CLAIM: Final = """
    UPDATE taskorch.partitions SET epoch = epoch + 1, token = gen_random_uuid()::text,
    lease_until = clock_timestamp() + make_interval(secs => %(lease)s),
    pid = %(pid)s, host = %(host)s, machine = %(machine)s, started = %(started)s,
    since = to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    WHERE name = %(name)s RETURNING epoch, token
"""
RENEW: Final = """
    UPDATE taskorch.partitions
    SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
    WHERE name = %(name)s AND epoch = %(epoch)s AND token = %(token)s
    AND last >= %(last)s
"""
RELEASE: Final = """
    UPDATE taskorch.partitions SET lease_until = '-infinity'
    WHERE name = %(name)s AND epoch = %(epoch)s AND token = %(token)s
"""
#: Whether what was committed survives a loss of power, and text comes back as it was;
#: which database it is, and what time it is there.
SERVER: Final = """
    SELECT current_setting('fsync'), current_setting('synchronous_commit'),
    current_setting('server_encoding'), pg_is_in_recovery(),
    (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),
    extract(epoch FROM clock_timestamp())::float8
"""

# -- writing -----------------------------------------------------------------------

#: The rows of a group: each column is one text with a line for each row, which is taken
#: apart faster than as many parameters.
_ROWS: Final = r"""
    INSERT INTO taskorch.facts (
        partition, epoch, upto, seq, kind, at_ns, task_id, body, doc, key
    )
    SELECT owner.id, owner.epoch, %(last)s::bigint, seq, kind, at_ns,
    nullif(task_id, ''), body, nullif(doc, ''), nullif(key, '')
    FROM owner, unnest(
        string_to_array(%(seq)s::text, E'\n')::bigint[],
        string_to_array(%(kind)s::text, E'\n'),
        string_to_array(%(at_ns)s::text, E'\n')::bigint[],
        string_to_array(%(task_id)s::text, E'\n'),
        string_to_array(%(body)s::text, E'\n'),
        string_to_array(%(doc)s::text, E'\n'),
        string_to_array(%(key)s::text, E'\n')
    ) AS given (seq, kind, at_ns, task_id, body, doc, key)
"""
#: Keeps a group, or nothing: if another life has begun, if the last fact is not the one
#: that the owner knows, or if a commit of this session would not wait for the disk.
APPEND: Final = f"""
    WITH owner AS (
        UPDATE taskorch.partitions SET last = %(last)s, facts = facts + %(count)s,
        lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
        WHERE name = %(name)s AND epoch = %(epoch)s AND token = %(token)s
        AND last = %(before)s
        AND CASE WHEN %(power)s THEN current_setting('synchronous_commit') <> 'off'
        ELSE set_config('synchronous_commit', 'off', true) = 'off' END
        RETURNING id, epoch
    ), kept AS ({_ROWS})
    SELECT id FROM owner
"""  # noqa: S608 - of our own words
#: More rows of a group that is too large for one statement, in the same transaction.
APPEND_MORE: Final = f"""
    WITH owner AS (SELECT id, epoch FROM taskorch.partitions WHERE name = %(name)s)
    {_ROWS}
"""  # noqa: S608 - of our own words
SAVE: Final = """
    INSERT INTO taskorch.snapshots VALUES (%s, %s, %s)
    ON CONFLICT (partition, seq) DO UPDATE SET state = excluded.state
"""
DROP_OLD: Final = """
    DELETE FROM taskorch.snapshots WHERE partition = %s AND seq NOT IN (
        SELECT seq FROM taskorch.snapshots WHERE partition = %s
        ORDER BY seq DESC LIMIT 2
    )
"""
FORGET: Final = """
    DELETE FROM taskorch.facts USING unnest(%s::text[]) AS asked (name)
    WHERE partition = %s AND task_id = name
"""
NOTE_FORGOTTEN: Final = """
    UPDATE taskorch.partitions SET facts = facts - %s WHERE id = %s
"""
FORGET_SNAPSHOTS: Final = "DELETE FROM taskorch.snapshots WHERE partition = %s"

# -- reading -----------------------------------------------------------------------

_FACTS: Final = """
    SELECT upto, seq, kind, at_ns, coalesce(task_id, ''), body, coalesce(doc, '')
    FROM taskorch.facts WHERE partition = %(partition)s
"""
#: Those of some ids, each by the index: `= ANY` would leave that to a planner, which
#: may read all of a table of which it has no statistics yet.
_OF_IDS: Final = """
    SELECT facts.*
    FROM (SELECT DISTINCT unnest(%(ids)s::text[]) AS name) AS asked,
    LATERAL (SELECT * FROM taskorch.facts WHERE partition = %(partition)s
    AND task_id = name OFFSET 0) AS facts
"""
_BETWEEN: Final = "seq > %(after)s AND seq <= %(until)s ORDER BY seq LIMIT %(most)s"
READ: Final = f"{_FACTS} AND {_BETWEEN}"
GROUP: Final = f"{_FACTS} AND upto = %(last)s ORDER BY seq"
ABOUT: Final = f"""
    SELECT upto, seq, kind, at_ns, task_id, body, coalesce(doc, '')
    FROM ({_OF_IDS}) AS found WHERE seq <= %(until)s ORDER BY seq
"""  # noqa: S608 - of our own words
LATEST_OF: Final = f"""
    {_FACTS} AND kind = %(kind)s AND {_RARE} ORDER BY seq DESC LIMIT 1
"""
ENDS: Final = f"""
    SELECT task_id, kind FROM ({_OF_IDS}) AS found
    WHERE kind IN ('TaskCompleted', 'TaskFailed', 'TaskCancelled') ORDER BY seq
"""  # noqa: S608 - of our own words
ENDS_BY_TIME: Final = """
    SELECT at_ns / %(every)s, kind, count(*) FROM taskorch.facts
    WHERE partition = %(partition)s
    AND kind IN ('TaskCompleted', 'TaskFailed', 'TaskCancelled') GROUP BY 1, 2
"""
IDS: Final = """
    SELECT task_id FROM taskorch.facts
    WHERE partition = %(partition)s AND task_id >= %(prefix)s AND task_id < %(above)s
    GROUP BY task_id ORDER BY min(seq)
"""
SUBMITTED: Final = f"""
    SELECT seq, task_id FROM taskorch.facts WHERE partition = %(partition)s
    AND kind = 'TaskSubmitted' AND {_BETWEEN}
"""  # noqa: S608 - of our own words
BY_KEY: Final = """
    SELECT task_id FROM taskorch.facts WHERE partition = %(partition)s AND key = %(key)s
    ORDER BY seq DESC LIMIT 1
"""
SNAPSHOTS: Final = """
    SELECT seq, state FROM taskorch.snapshots WHERE partition = %(partition)s
    ORDER BY seq DESC
"""
COUNT: Final = "SELECT count(*) FROM taskorch.facts WHERE partition = %(partition)s"
