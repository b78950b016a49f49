"""
The tables of a journal in PostgreSQL, in the schema `taskorch` of a database.

    layout      one row: the number of the layout
    partitions  one row a partition, which is one journal: its leader, the incarnation,
                the end of the lease, the number of its last event, and where its chain
                begins
    facts       one row an event, as in a file (see `_codec`); `epoch` is the number of
                the incarnation that wrote it, and `key` an idempotency key
    groups      one row a commit, as in a file: the events that it kept, a checksum over
                them, and a hash; both continue those before them (see `_chain`)
    snapshots   of each partition, the two latest states that the runtime has kept

A leader is identified by its epoch and its token. Each statement that writes names
both, and locks the row of the partition: so it cannot write to a journal that another
has claimed, however late it comes. No statement relies on a session: all that it needs
is in it, or in rows.
"""

from __future__ import annotations

from typing import Any, Final

from taskorch.core.journal.tables import IS_RARE

#: The number of the layout that this version writes.
LAYOUT: Final = 1

#: Statements that make the tables, within one transaction.
MAKE: Final[tuple[Any, ...]] = (
    # The lock is held while the tables are made, since several may do so at once:
    # "tsko".
    "SELECT pg_advisory_xact_lock(1953721199)",
    "CREATE SCHEMA IF NOT EXISTS taskorch",
    "CREATE TABLE IF NOT EXISTS taskorch.layout (version integer NOT NULL)",
    # The number is LAYOUT.
    """
    INSERT INTO taskorch.layout SELECT 1
    WHERE NOT EXISTS (SELECT FROM taskorch.layout)
    """,
    # Most of a page is left free: each commit rewrites a row of it in its place.
    """
    CREATE TABLE IF NOT EXISTS taskorch.partitions (
        id          integer GENERATED ALWAYS AS IDENTITY UNIQUE,
        name        text COLLATE "C" PRIMARY KEY,
        uid         text NOT NULL,
        last        bigint NOT NULL DEFAULT 0,
        epoch       bigint NOT NULL DEFAULT 0,
        token       text NOT NULL DEFAULT '',
        lease_until timestamptz NOT NULL DEFAULT '-infinity',
        pid         bigint,
        host        text,
        machine     text,
        started     bigint,
        since       text,
        chain       text NOT NULL
    ) WITH (fillfactor = 20)
    """,
    """
    CREATE TABLE IF NOT EXISTS taskorch.facts (
        partition integer NOT NULL,
        seq       bigint NOT NULL,
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
    (partition, kind, seq) WHERE {IS_RARE}
    """,
    """
    CREATE INDEX IF NOT EXISTS facts_by_key ON taskorch.facts
    (partition, key, seq) WHERE key IS NOT NULL
    """,
    """
    CREATE TABLE IF NOT EXISTS taskorch.snapshots (
        partition integer NOT NULL,
        seq       bigint NOT NULL,
        crc       bigint NOT NULL DEFAULT 0,
        state     text NOT NULL,
        PRIMARY KEY (partition, seq)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS taskorch.groups (
        partition integer NOT NULL,
        last      bigint NOT NULL,
        first     bigint NOT NULL,
        epoch     bigint NOT NULL,
        crc       bigint NOT NULL,
        form      integer NOT NULL,
        size      bigint,
        hash      bytea,
        gone      text,
        PRIMARY KEY (partition, last)
    )
    """,
)

FIND_LAYOUT: Final = "SELECT version FROM taskorch.layout"
HAS_LAYOUT: Final = "SELECT to_regclass('taskorch.layout') IS NOT NULL"
NAMES: Final = "SELECT name FROM taskorch.partitions ORDER BY name"
NEW_PARTITION: Final = """
    INSERT INTO taskorch.partitions (name, uid, chain)
    SELECT %s, replace(gen_random_uuid()::text, '-', ''),
    replace(gen_random_uuid()::text, '-', '') || ' 0'
    ON CONFLICT (name) DO NOTHING
"""

#: Statements that delete a partition with all rows; and the one that renames it.
DROP: Final[tuple[Any, ...]] = (
    *(
        f"""
        DELETE FROM taskorch.{table} WHERE partition = (
            SELECT id FROM taskorch.partitions WHERE name = %s
        )
        """  # noqa: S608 - of our own words
        for table in ("facts", "groups", "snapshots")
    ),
    "DELETE FROM taskorch.partitions WHERE name = %s",
)
RENAME: Final = "UPDATE taskorch.partitions SET name = %s WHERE name = %s"

# -- the owner -------------------------------------------------------------------------

#: The row of a partition; `left` is in seconds of the clock of the database.
OWNER: Final = """
    SELECT id, uid, last, epoch, token, pid, host, machine, started, since,
    lease_until::text AS until, CASE WHEN isfinite(lease_until) THEN
    extract(epoch FROM lease_until - clock_timestamp())::float8 ELSE -1 END AS left
    FROM taskorch.partitions WHERE name = %s
"""
#: While a transaction holds it, no claim or append can come between. The server ends a
#: transaction whose client is silent, so that its lock goes.
LOCK: Final = """
    SELECT set_config('idle_in_transaction_session_timeout', %(idle)s, true)
    FROM taskorch.partitions WHERE name = %(name)s FOR UPDATE
"""
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
#: Whether commits survive a loss of power, and text comes back unchanged; the number of
#: the database, and its time.
SERVER: Final = """
    SELECT current_setting('fsync'), current_setting('synchronous_commit'),
    current_setting('server_encoding'), pg_is_in_recovery(),
    (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),
    extract(epoch FROM clock_timestamp())::float8
"""

# -- writing -----------------------------------------------------------------------

#: The rows of a group: each column is one text with a line for each row, which is split
#: faster than as many parameters.
_MANY: Final = r"""
    unnest(
        string_to_array(%(seq)s::text, E'\n')::bigint[],
        string_to_array(%(kind)s::text, E'\n'),
        string_to_array(%(at_ns)s::text, E'\n')::bigint[],
        string_to_array(%(task_id)s::text, E'\n'),
        string_to_array(%(body)s::text, E'\n'),
        string_to_array(%(doc)s::text, E'\n'),
        string_to_array(%(key)s::text, E'\n')
    )
"""
#: One row, as most groups have: there is nothing to split.
_ONE: Final = """
    (VALUES (
        %(seq)s::text::bigint, %(kind)s::text, %(at_ns)s::text::bigint,
        %(task_id)s::text, %(body)s::text, %(doc)s::text, %(key)s::text
    ))
"""
_ROWS: Final = """
    INSERT INTO taskorch.facts (
        partition, epoch, seq, kind, at_ns, task_id, body, doc, key
    )
    SELECT owner.id, owner.epoch, seq, kind, at_ns,
    nullif(task_id, ''), body, nullif(doc, ''), nullif(key, '')
    FROM owner, {rows} AS given (seq, kind, at_ns, task_id, body, doc, key)
"""
_APPEND: Final = f"""
    WITH owner AS (
        UPDATE taskorch.partitions SET last = %(last)s,
        lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
        WHERE name = %(name)s AND epoch = %(epoch)s AND token = %(token)s
        AND last = %(before)s
        AND CASE WHEN %(power)s THEN current_setting('synchronous_commit') <> 'off'
        ELSE set_config('synchronous_commit', 'off', true) = 'off' END
        RETURNING id, epoch
    ), kept AS ({_ROWS}), said AS (
        INSERT INTO taskorch.groups (
            partition, last, first, epoch, crc, form, size, hash
        )
        SELECT id, %(last)s, %(first)s, epoch, %(crc)s, 1, %(size)s, %(hash)s
        FROM owner
    )
    SELECT id FROM owner
"""  # noqa: S608 - of our own words
#: Keeps a group, or nothing if another incarnation has begun, if the last event is not
#: the one that the leader knows, or if a commit of this session would not wait for the
#: disk. The form of its checksum is `FORM`.
APPEND: Final = _APPEND.format(rows=_MANY)
APPEND_ONE: Final = _APPEND.format(rows=_ONE)
#: More rows of a group that is too large for one statement, in the same transaction.
APPEND_MORE: Final = f"""
    WITH owner AS (SELECT id, epoch FROM taskorch.partitions WHERE name = %(name)s)
    {_ROWS.format(rows=_MANY)}
"""  # noqa: S608 - of our own words
#: Rows of another journal, of an incarnation there; the result; and where its chain
#: begins.
ADOPT: Final = f"""
    WITH owner AS (
        SELECT id, %(life)s::bigint AS epoch FROM taskorch.partitions
        WHERE name = %(name)s
    )
    {_ROWS.format(rows=_MANY)}
"""  # noqa: S608 - of our own words
ADOPT_LAST: Final = (
    "UPDATE taskorch.partitions SET last = %(last)s WHERE name = %(name)s"
)
ADOPT_CHAIN: Final = """
    UPDATE taskorch.partitions SET chain = %(chain)s WHERE name = %(name)s
"""
