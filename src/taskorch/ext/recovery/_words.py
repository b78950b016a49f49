"""
Classes of failures by the last words of a program's output.

A row of the table has a class of failures, the level of evidence of its words, their
tool, the place in its documentation, and the words. Lines are read from the end.
A *cause* explains all later failures: a full disk, a kill for want of memory. An
*error* names the fault at its place. A *summary* only tells that there was a fault, and
a *hint* has words that many lines have.

Decisions: failure-logs, failures-and-recovery.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Final

import attrs

#: Levels of evidence of words: see above.
HINT: Final = 0
SUMMARY: Final = 1
ERROR: Final = 2
CAUSE: Final = 3
#: The most lines between a cause and its effect.
_NEAR: Final = 20
#: The most characters of a line that are read, since a longer line is data.
_MOST_LINE: Final = 1_000

_ESCAPE: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
#: Prefixes that build runners put before each line.
_STAMP: Final = re.compile(
    r"^(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,\d]*(?:Z|[+-]\d\d:?\d\d)?"
    r"(?:\s\d\d[OE][ +]|\s)|\[\d\d:\d\d:\d\d(?:\.\d+)?\]\s|#\d+ \d+\.\d+ "
    r"| {0,10}\[(?:junit|javac?|exec)\] "
    r"|##\[error\]|::error[^:\n]{0,200}::){1,3}",
    re.MULTILINE,
)
#: Lines that report no failure: passed tests, warnings, echoed commands, and source
#: lines that compilers show.
_BESIDE: Final = re.compile(
    r"\.\.\. ok$|(?-i:\bPASSED\b)|^\s*(?:✓|✔|√|ok \d+"
    r"|--- PASS|PASS\b|\[ +(?:OK|RUN|PASSED) )|"
    r"^\s*(?:npm WARN|yarn warn|warn(?:ing)?:|\[warning\])"
    r"(?!.*(?:broken by|temporary error))|"
    r"(?<=\S )warning(?: [A-Z]{1,4}\d+)?: "
    r"|^\s*(?:\+ |\$ |##\[(?:group|command|debug)\])|"
    r"^FATAL: invalid argument$|^\s*= (?:note|help): |"
    r"^\s*\d* \|(?: |$)|^\s*>?\s*(?:def|it\(|test\() ",
    re.IGNORECASE,
)


@attrs.frozen
class Words:
    """
    Words that indicate a class of failures.

    Attributes:
        name: The class.
        level: `HINT`, `SUMMARY`, `ERROR` or `CAUSE`.
        tool: The tool that writes them.
        source: The place in its documentation.
        patterns: The words, as regular expressions.
    """

    name: str
    level: int
    tool: str
    source: str
    patterns: tuple[str, ...] = attrs.field(repr=False)


@attrs.frozen
class WordMatch:
    """
    Words that were found in a text.

    Attributes:
        row: Their row of the table.
        text: The words.
        place: Number of their line.
    """

    row: Words
    text: str
    place: int


def lines_of(text: str) -> list[str]:
    """Return the lines of *text*, without colours and prefixes of build runners."""
    return _STAMP.sub("", _ESCAPE.sub("", text)).splitlines()


def strongest(lines: list[str]) -> WordMatch | None:
    """
    Return the strongest words in *lines*; of equally strong ones, the last.

    A failed download causes a later missing import: of these two, the first counts.
    """
    best: WordMatch | None = None
    for match in _met(lines):
        if best is None or match.row.level > best.row.level or _explains(match, best):
            best = match
            if match.row.level == CAUSE:
                break
    return best


def _explains(match: WordMatch, later: WordMatch) -> bool:
    """Return whether the network failure *match* explains the *later* import error."""
    return (
        later.row.name == "import_error"
        and match.row.name == "network_error"
        and match.row.level == later.row.level
        and later.place - match.place <= _NEAR
    )


def _met(lines: list[str]) -> Iterator[WordMatch]:
    """Yield the words found in *lines*, from the end; one row for each line."""
    whole = "\n".join(lines).lower()
    rows = [
        (row, _compiled(pattern))
        for row, part, pattern in searched_words()
        if part in whole
    ]
    for place in range(len(lines) - 1, -1, -1):
        line = lines[place][:_MOST_LINE]
        if not line or _BESIDE.search(line):
            continue
        for row, pattern in rows:
            words = pattern.search(line)
            if words is not None:
                yield WordMatch(row, words[0].strip()[:60], place)
                break


def _row(name: str, level: int, tool: str, source: str, *patterns: str) -> Words:
    return Words(name, level, tool, source, patterns)


@functools.cache
def searched_words() -> list[tuple[Words, str, str]]:
    """
    Return all patterns of the table, row by row.

    Returns:
        For each its row, a part in small letters that stands in all that it matches,
        and the regular expression: a text without the part need not be searched.
    """
    return [
        (row, _part_of(one), one)
        for row in TABLE
        for pattern in row.patterns
        for one in _alternatives(pattern)
    ]


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern when it is needed first: most texts need few of hundreds."""
    return re.compile(pattern, re.IGNORECASE)


def _alternatives(pattern: str) -> Iterator[str]:
    """Split *pattern* at the bars that stand outside of groups."""
    start = depth = 0
    for place, (_, letter) in enumerate(_letters(pattern)):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "|" and depth == 0:
            yield pattern[start:place]
            start = place + 1
    yield pattern[start:]


def _part_of(pattern: str) -> str:
    """Return the longest text in every match of *pattern*, in small letters."""
    runs = [""]
    depth = 0
    for is_plain, letter in _letters(pattern):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0 and is_plain:
            runs[-1] += letter
            continue
        if letter in "?*{":
            # The letter before it is optional.
            runs[-1] = runs[-1][:-1]
        runs.append("")
    return max(runs, key=len).lower()


def _letters(pattern: str) -> Iterator[tuple[bool, str]]:
    """Yield each letter of *pattern*, and whether it is a literal."""
    is_escaped = is_class = False
    for letter in pattern:
        if is_escaped or is_class:
            is_plain = False
            is_class = is_class and (is_escaped or letter != "]")
            is_escaped = not is_escaped and letter == "\\"
            # A bracket in a class or after a backslash is no group.
            yield is_plain, " "
            continue
        is_escaped, is_class = letter == "\\", letter == "["
        is_plain = letter not in "\\[]().^$*+?{}|0123456789,"
        yield is_plain, letter


_SYSTEM: Final = "https://man7.org/linux/man-pages/man3/errno.3.html"

#: Words before an exit status.
_EXITED: Final = (
    r"(?:exit(?:ed)?(?: with)?|failed with|returned)(?: (?:an )?(?:error )?"
    r"(?:exit )?(?:code|status))?:? "
)
#: Words before an HTTP status; a number without them may mean anything.
_NUMBERED: Final = (
    r"(?:\b|http_?)(?:error|status|code|https?|returned|responded|exception)"
    r"(?:[-_: /=(]{0,3}\b(?:an?|code|status|error|http|with|is|was|of|response|server"
    r"|from|the|unexpected|received|[12]\.\d))*[-_: /=(\[]{1,3}\b"
)
#: Words of commands that test or check. Without other evidence, such a command has
#: found a fault.
_CHECKS: Final = (
    r"{0,200}?\b(?:(?:test|lint|check(?!out)|verify|format|fmt|compile|pytest)\w*"
    r"|(?:\w*[\d_]|unit|nose|integration)tests?\w*|\w{1,8}lint|specs?|clippy|\w{0,8}style"
    r"|typecheck|mypy|tox|rake|javadoc|diff)\b"
)

#: The first row that matches a line counts, so narrow patterns stand first.
TABLE: Final[tuple[Words, ...]] = (
    # -- causes --------------------------------------------------------------------
    _row(
        "system_error",
        CAUSE,
        "the system",
        _SYSTEM,
        r"no space left on device",
        r"\bENOSPC\b",
        r"disk quota exceeded",
        r"there is not enough space on the disk",
        r"disk usage exceeded|disk is full|flood-stage watermark",
    ),
    _row(
        "memory_error",
        CAUSE,
        "Linux, Kubernetes, Slurm",
        "https://docs.kernel.org/admin-guide/mm/concepts.html",
        r"\bOOM-?Killed\b",
        r"\boom[-_ ]kill",
        r"out of memory: kill",
        r"killed signal terminated program",
        r"killed process \d+",
        r"^Killed$",
        r"signal[ :=]{1,2}(?:9\b|sigkill|killed)|\bSIGKILL\b",
        r"exceed(?:ing|ed|s) (?:the )?memory limit|low on resource: memory",
        r"\bline \d+: +\d+ Killed\b",
        _EXITED + r"137\b",
        r"\*\*\* .{1,80} error 137\b|\berrno 137\b",
        r"container .{0,80}memory limit",
    ),
    _row(
        "memory_error",
        CAUSE,
        "runtimes of languages",
        "https://nodejs.org/api/cli.html",
        r"heap out of memory",
        r"java heap space",
        r"gc overhead limit exceeded",
        r"insufficient memory for the java runtime",
        r"garbage collector is thrashing",
        r"runtime: out of memory",
        r"std::bad_alloc",
        r"\bOutOfMemory(?:Error|Exception)?\b|\bNoMemoryError\b",
        r"failed to allocate memory|unable to acquire \d+ bytes of memory",
        r"(?:cuda|hip|mps|gpu)\b.{0,40}out of memory",
        r"allowed memory size of \d+ bytes exhausted",
        r"cannot allocate (?:memory|vector of size)",
        r"memory allocation of \d+ bytes failed",
        r"virtual memory exhausted",
    ),
    _row(
        "timeout_error",
        CAUSE,
        "runners of builds, Slurm",
        "https://docs.github.com/actions/reference/workflow-syntax-for-github-actions",
        r"exceeded the maximum execution time",
        r"(?:ran|running|runs|took) longer than the (?:maximum|time|limit)",
        r"exceed(?:ed|s) (?:its|the) (?:maximum )?(?:time|duration) ?(?:limit)?",
        r"exceeded the maximum time limit for jobs",
        r"job failed: execution took longer than",
        r"due to time limit",
        r"no output has been received in the last",
        r"too long with no output",
        r"timeout has been exceeded",
        r"(?:build|job|step) (?:has )?timed out",
        r"cancelling nested steps due to timeout",
        r"command timed out after",
        _EXITED + r"124\b",
    ),
    _row(
        "system_error",
        CAUSE,
        "runners of builds",
        "https://docs.github.com/actions/hosting-your-own-runners",
        r"runner has received a shutdown signal",
        r"lost communication with the server",
        r"runner system failure",
        r"job failed \(system failure\)",
        r"cannot contact \S+: ",
        r"went offline during|unexpected termination of the channel"
        r"|wrapper script does not seem to be|process apparently never started",
        r"remoting\.channelclosedexception|backing channel .{0,80}disconnected",
        r"preparation failed: |job failed: prepare environment",
        r"agent (?:lost|went offline|was lost)",
        r"spot instance .{0,40}(?:terminat|interrupt|reclaim)",
        r"node .{0,60}(?:was preempted|shutting down)",
        r"due to (?:preemption|node failure)",
    ),
    # -- databases that number what happened ----------------------------------------
    _row(
        "permission_error",
        ERROR,
        "Oracle, Redis",
        "https://docs.oracle.com/error-help/db/",
        r"\bORA-(?:01017|01031|01035|28000|28001|28009)\b",
        r"\b(?:NOAUTH|NOPERM|WRONGPASS) ",
        r"logon denied|login (?:incorrect|failed)",
    ),
    _row(
        "network_error",
        ERROR,
        "Oracle, Redis",
        "https://docs.oracle.com/error-help/db/",
        r"\bORA-(?:0311[34]|03135|12170|125(?:1[14]|37|4[135]|47|60|71))\b",
        r"\bDPY-(?:1001|4011|60(?:0\d|1[0-3]))\b",
        r"\b(?:CLUSTERDOWN|MASTERDOWN|TRYAGAIN|LOADING) ",
        r"server has gone away|(?:mysql|database) connection not available",
        r"\bconnection (?:is|was|has been) (?:already )?(?:lost|closed|dead)\b",
        r"connection (?:already|was|is) closed|ssl syscall error",
        r"connection to server .{0,120} failed: (?!fatal)",
        r"time-?out (?:reading|writing|connecting) (?:from|to) ",
        r"failed to resolve '[\w.-]+'(?! from)|getaddrinfo failed",
    ),
    _row(
        "system_error",
        ERROR,
        "Oracle, Redis",
        "https://docs.oracle.com/error-help/db/",
        r"\bORA-(?:000(?:18|20|54|60)|00257|010(?:33|34|89|90)|01555|0165[2-4]|08177"
        r"|12516|12519|12520|30006)\b",
        r"\b(?:BUSY Redis|READONLY You|MISCONF Redis|NOREPLICAS Not) ",
        r"lock .{0,200}could not be acquired|could not set lock|conflicting lock",
        r"the database system is (?:starting up|shutting down|in recovery)",
        r"terminating connection due to|not (?:yet )?accepting connections",
    ),
    _row(
        "memory_error",
        ERROR,
        "Oracle",
        "https://docs.oracle.com/error-help/db/",
        r"\bORA-040(?:30|31)\b",
    ),
    _row(
        "timeout_error",
        ERROR,
        "Oracle, pools",
        "https://docs.oracle.com/error-help/db/",
        r"\bORA-(?:01013|02049)\b|\bDPY-4024\b",
        r"queuepool limit of size",
        r"canceling statement due to|query execution was interrupted",
    ),
    _row(
        "calculation_error",
        ERROR,
        "Oracle",
        "https://docs.oracle.com/error-help/db/",
        r"\bORA-(?:01426|01438|01476)\b",
    ),
    _row(
        "logic_error",
        ERROR,
        "Oracle, Redis",
        "https://docs.oracle.com/error-help/db/",
        r"\bORA-(?:00001|009\d\d|01400|01403|01722|01843|02291|02292|06502|06550"
        r"|12899|12505)\b",
        r"\b(?:WRONGTYPE Operation|CROSSSLOT Keys|NOSCRIPT No) ",
        r"\bfatal: +(?:database|role) \S.{0,80} does not exist",
    ),
    # -- what is missing -----------------------------------------------------------
    _row(
        "import_error",
        ERROR,
        "shells, the dynamic linker",
        "https://pubs.opengroup.org/onlinepubs/9699919799/utilities/V3_chap02.html",
        r"command not found",
        r"^\S*(?:sh|dash|ash|bash|zsh|make\S*):.{0,80}: not found$",
        r"is not recognized as (?:an internal|the name of a cmdlet)",
        r"executable file not found in \$PATH",
        r"error while loading shared libraries",
        r"cannot open shared object file",
        r"library not loaded:",
        r"version `\S+' not found \(required by",
        r"spawn \S+ ENOENT",
        r"executable (?:file )?(?:doesn't exist|not found)|^(?:/usr/bin/)?env: ",
        r"bad interpreter: no such",
        r"failed to execute.{0,60}no such file",
        r"exec: \"\S+\": .{0,40}not found",
        r"can't exec \"|failed to exec |cannot run program \"",
        r"programs?(?:\(s\))? .{0,60}not found|`\S+` not found$",
        r"(?:could be found|be|was) (?:in|on) your path|not in (?:your )?\$?path\b",
        r"no such (?:sub)?command",
        _EXITED + r"127\b",
    ),
    _row(
        "import_error",
        ERROR,
        "compilers and linkers",
        "https://gcc.gnu.org/onlinedocs/cpp/Search-Path.html",
        r"fatal error: .{0,200}(?:no such file or directory|file not found)",
        r"cannot open include file",
        r"cannot find -l\S+",
        r"library '?\S+'? not found",
        r"error TS2307",
        r"error TS7016",
        r"error\[E0432\]",
        r"can't find crate for",
        r"no such module '",
        r"package \S+ does not exist",
        r"could not find module [`\u2018']",
        r"library not found for -l|required by crate",
        r"unsupported ?class ?version|compiled by a more recent version"
        r"|class file has wrong version",
    ),
    _row(
        "import_error",
        ERROR,
        "interpreters",
        "https://docs.python.org/3/library/exceptions.html",
        r"no module named",
        r"cannot import name",
        r"cannot find (?:module|package)",
        r"\bMODULE_NOT_FOUND\b",
        r"module not found: ",
        r"can't resolve '",
        r"failed to resolve import",
        r"could not resolve \"[^\"]+\"$",
        r"cannot load such file",
        r"can't locate \S+ in @INC",
        r"could not find or load main class",
        r"there is no package called",
        r"package \S+ not found in current path",
        r"class \"?[\w\\]+\"? not found",
        r"module '\S+' not found",
        r"unresolved import",
        r"perhaps you forgot to load|object ?method .{0,80}via package",
        r"namespace .{1,60}(?:not available|is required)",
    ),
    _row(
        "import_error",
        ERROR,
        "npm, pnpm, yarn",
        "https://docs.npmjs.com/common-errors",
        r"npm (?:ERR!|error) code (?:E404|ERESOLVE|ETARGET|EBADENGINE)\b",
        r"unable to resolve dependency tree",
        r"is not in (?:this|the npm) registry",
        r"ERR_PNPM_(?:NO_MATCHING_VERSION|FETCH_404|UNSUPPORTED_ENGINE)",
        r"couldn't find (?:any versions for|package) ",
        r"the engine \"\w+\" is incompatible",
        r"no matching version found for",
    ),
    _row(
        "import_error",
        ERROR,
        "pip, poetry, conda, uv",
        "https://pip.pypa.io/en/stable/topics/dependency-resolution/",
        r"could not find a version that satisfies",
        r"no matching distribution found",
        r"conflicting dependencies",
        r"resolutionimpossible",
        r"version solving failed",
        r"no solution found when resolving",
        r"packages are not available from current channels",
        r"unsatisfiableerror",
        r"could not build wheels for",
        r"failed building wheel for",
        r"metadata-generation-failed",
        r"requires a different python",
    ),
    _row(
        "import_error",
        ERROR,
        "packages of systems",
        "https://manpages.debian.org/apt-get",
        r"unable to locate package",
        r"has no installation candidate",
        r"unable to find a match",
        r"no package \S+ available",
        r"unable to select packages",
        r"no available formula",
        r"unmet dependencies",
        r"target not found: ",
        r"package requirements .{0,200}were not met",
        r"no package '\S+' found",
        r"package '\S+', required by",
    ),
    _row(
        "import_error",
        ERROR,
        "packages of languages",
        "https://go.dev/ref/mod",
        r"no required module provides package",
        r"missing go\.sum entry",
        r"unknown revision ",
        r"no matching package (?:named|found)",
        r"failed to select a version for",
        r"could not find artifact",
        r"could not find \S+:\S+:\S+\.$",
        r"\bNU110[1-3]\b",
        r"unable to find package",
        r"could not find gem",
        r"bundler could not find compatible versions",
        r"could not be resolved to an installable set",
        r"could not find a package configuration file",
        r"by not providing \"find",
        r"could not? find \w+ \(missing:",
        r"couldn't resolve module/action",
        r"unable to resolve (?:action|dependency|module|specifier)",
        r"compatible versions for",
        r"requires? (?:at least )?(?:a newer )?(?:rustc|java|jdk|node|npm|python"
        r"|ruby|php|go|cmake|gcc|gradle|perl|ghc)\b.{0,20}\d",
        r"version .{1,20} or (?:higher|newer|later|greater) is required"
        r"|or (?:higher|newer|later|greater) is required|you need at ?least",
        r"unsupported (?:java|python|node|ruby|php|compiler|gradle)\b.{0,20}version",
        r"your (?:ruby|php|python|node|go|java) version is|only supports platforms",
        r"(?:invalid|wrong|incompatible) version of|version of .{1,60}is too old\b",
        r"does not appear to be installed|(?:isn't|aren't|never) installed"
        r"|please install\b|need to install",
        r"required but (?:not|un)|in offline mode|could not be satisfied",
        r"convergence error|upper bound dependenc|\benforcer?\b.{0,80}fail",
        r"can't find gem|gem::\w*notfound|gem::missing",
        r"\bSDK\b.{0,60}(?:cannot be located|not found)",
        r"configure: error: .{0,80}(?:not found|required|missing)",
        r"dependenc(?:y|ies) .{0,120}(?:not (?:available|found|satisf)|could not be "
        r"resolved|missing)",
        r"error loading \S.{0,60} module",
        r"could not determine java version|unsupported class file|requires java",
        r"no \S+_COMPILER could be found",
        r"(?:headers?|librar(?:y|ies)|packages?|modules?|plugins?) (?:is|are) missing",
        r"\.(?:sty|cls|bst)' not found",
        r"(?:could not find|can't find) (?:directory|library|package|module|plugin)",
        r"verifying \S+@\S+: checksum mismatch",
        r"unknown package|is not yet installed|not installed\b",
        r"version '?\S+'? (?:with architecture .{0,40})?was not found",
        r"was not found in https?:",
        r"missing from your system|can't find file"
        r"|find python|does not have a provider",
        r"no such (?:package|module|plugin|extension|image)",
        r"failed to pull (?:and unpack )?image .{0,200}not found",
        r"manifest (?:for \S+ not found|unknown)",
        r"image \S+ not found",
        r"\b(?:ErrImagePull|ImagePullBackOff)\b",
        r"pull access denied",
    ),
    # -- who may not ---------------------------------------------------------------
    _row(
        "permission_error",
        ERROR,
        "the system, ssh, git",
        _SYSTEM,
        r"permission denied",
        r"operation not permitted",
        r"read-only file system",
        r"\bE(?:ACCES|PERM|ROFS)\b",
        r"access (?:is |was |to .{0,80})?denied",
        r"host key verification failed",
        r"authentication fail(?:ed|ure)",
        r"invalid username or (?:password|token)",
        r"could not read (?:username|password) for",
        r"password is required",
        r"is not in the sudoers file",
        r"must be run as root",
        r"are you root\?",
        r"unprotected private key",
        r"insufficient (?:permissions|privileges|scope)",
        r"not have permission|no permission to|lacks? permission",
        r"no (?:valid credential|signing certificate)|non-existent authentication",
        r"protected branch|\(40[13]\) when calling",
        r"secret keys? .{0,60}(?:expired|invalid)",
        r"dubious ownership",
    ),
    _row(
        "permission_error",
        ERROR,
        "HTTP, clouds, registries",
        "https://www.rfc-editor.org/rfc/rfc9110",
        r"\b401 unauthorized\b",
        r"\b403 forbidden\b",
        _NUMBERED + r"40[13]\b(?! \w+s\b)|client error '40[137]\b",
        r"\(forbidden\)",
        r"\b(?:forbidden|unauthorized): ",
        r"\bPERMISSION_DENIED\b",
        r"not authorized to perform",
        r"\b(?:AccessDenied|UnauthorizedOperation|ExpiredToken)\b",
        r"\b(?:InvalidClientTokenId|SignatureDoesNotMatch|AuthorizationFailed)\b",
        r"unauthorized: authentication required",
        r"requested access to the resource is denied",
        r"(?:token|credentials?|session) (?:has |have |is |are )?"
        r"(?:expired|invalid|revoked)",
        r"unable to locate credentials",
        r"bad credentials",
        r"resource not accessible by integration",
        r"password authentication failed",
        r"\bE40[13]\b|\bENEEDAUTH\b",
        r"no basic auth credentials",
    ),
    # -- how far others are --------------------------------------------------------
    _row(
        "network_error",
        ERROR,
        "the system",
        _SYSTEM,
        r"connection (?:was )?(?:refused|reset|aborted|closed|timed out|terminated)",
        r"connection (?:un)?expectedly closed|closed the connection unexpectedly",
        r"\bE(?:CONNREFUSED|CONNRESET|CONNABORTED|TIMEDOUT|SOCKETTIMEDOUT|NOTFOUND"
        r"|AI_AGAIN|HOSTUNREACH|NETUNREACH|ADDRINUSE|PIPE)\b",
        r"network is (?:unreachable|down)",
        r"no route to host",
        r"address already in use",
        r"(?:could not|unable to|failed to|can(?:'t|not)) (?:resolve|lookup) "
        r"(?:host|hostname|proxy|the host)",
        r"unable to resolve host",
        r"could not resolve '",
        r"name or service not known",
        r"temporary failure (?:in name resolution|resolving)",
        r"name could not be resolved|port is already allocated",
        r"temporary error|try again later",
        r"nodename nor servname",
        r"no such host",
        r"server misbehaving",
        r"unknownhostexception",
        r"broken pipe",
        r"remote end hung up",
        r"unexpected disconnect",
        r"socket hang up",
        r"early eof",
        r"host is (?:down|unreachable)",
        r"connect(?:ion)? ?error\b(?!s)|connection broken",
        r"certificate .{0,60}(?:match|expired|not yet valid)",
    ),
    _row(
        "network_error",
        ERROR,
        "HTTP, TLS and their clients",
        "https://curl.se/libcurl/c/libcurl-errors.html",
        r"\b50[0234]\b[ :-]{1,3}(?:bad gateway|service (?:temporarily )?unavailable"
        r"|gateway time-?out|internal server error|upstream)",
        _NUMBERED + r"(?:429|50[0234])\b(?! \w+s\b)",
        r"(?:client error '429|server error '5\d\d)\b|\bratelimited\b",
        r"\b(?:currently|temporarily) unavailable\b",
        r"\btoo many requests\b|\btoomanyrequests\b|rate limit|rate exceeded"
        r"|throttl(?:ed|ing)|secondary rate",
        r"service unavailable",
        r"(?:couldn't|could not|cannot|can't|unable to|failed to) connect\b",
        r"curl: \((?:5|6|7|16|18|28|35|52|55|56|60|92)\)",
        r"curl error:? \(?(?:5|6|7|18|28|35|52|55|56|92)\b",
        r"\b(?:read|connect|connection|request|handshake|socket|i/o) time(?:d )?-?out",
        r"operation timed out",
        r"(?:tls|ssl) handshake|handshake failure",
        r"ssl certificate problem|certificate (?:verify failed|has expired)",
        r"(?<!:)unable to get local issuer certificate",
        r"client\.timeout exceeded",
        r"awaiting headers",
        r"dial tcp |https?://\S+ (?:context deadline exceeded|EOF)",
        r"timeout was reached|error sending request|recv failure",
        r"pkix path|certification path|ssl/tls|secure channel",
        r"50[0-4] server error|server error: 50\d|\b50[234] (?:get|post|put|head)\b",
        r"\bhttp(?:/[\d.]+)? (?:error|response|status)?(?: code)?:? ?"
        r"(?:429|50[0-4]|52\d)\b",
        r"server error \(5\d\d\)|\(5\d\d\) (?:internal |remote )?server",
        r"return code is:? 50\d|received status code 5\d\d",
        r"stream error: stream id|code = unavailable|transport is closing",
        r"(?:unable|failed) to make request|transferred a partial file",
        r"statuscode\.unavailable|no healthy upstream",
        r"server ?disconnected|servers? (?:is|are) (?:not available|unreachable)",
        r"max retries exceeded with url",
        r"connection failed\b",
        r"failed to establish a new connection",
        r"ssl(?:v3)?[_ :]\S{0,40} ?error",
        r"unexpected eof|eof occurred in violation",
        r"incomplete read|content-length mismatch|transfer closed with",
        r"rpc failed",
        r"fetch failed$",
    ),
    _row(
        "network_error",
        ERROR,
        "package managers, engines, databases",
        "https://docs.docker.com/engine/daemon/",
        r"could not transfer artifact",
        r"could not (?:get|head) 'https?:",
        r"unable to load the service index",
        r"network (?:failure|aborted|error|timeout)",
        r"net::ERR_(?!ABORTED)\w+",
        r"unable to fetch some archives|E: the repository .{0,200}signed",
        r"W: failed to fetch",
        r"retrying \(Retry\(|all mirrors were tried|cannot download repomd",
        r"error reading from server",
        r"failed to (?:fetch|download) (?:https?:|`https?:|metadata|repo)",
        r"cannot download repodata|failed to download metadata",
        r"could not reach host",
        r"cannot find a valid baseurl|mirror sync|no more mirrors",
        r"(?:can't|cannot|could not|unable to) (?:contact|reach)\b|server_down",
        r"no servers? (?:is |are )?available",
        r"failed to download",
        r"\bunreachable!?\b ?(?:=>|:)|\]: unreachable!|100% packet loss",
        r"cannot connect to the docker daemon",
        r"connection to the server \S+ was refused",
        r"can't connect to (?:local )?(?:\w+ )?server",
        r"could not connect to (?:server|the endpoint|redis)",
        r"lost connection to (?:mysql|the) ?\w*",
        r"no brokers available|leader not available",
        r"hash sum mismatch",
        r"unable to access 'https?:",
    ),
    # -- how long it took ----------------------------------------------------------
    _row(
        "timeout_error",
        ERROR,
        "test runners",
        "https://jestjs.io/docs/jest-object",
        r"test timed out (?:after|in)",
        r"timed out waiting for|time-?out (?:while )?(?:waiting|verifying|reading)",
        r"within the required time|exceeded timeout \d|\bRESULT_TIMED_OUT\b",
        r"timed out after",
        r"timed out receiving message",
        r"(?:exceeded timeout of|timeout of) \d+ ?m?s",
        r"(?:test )?timeout (?:of )?\d+m?s exceeded",
        r"failed: timeout",
        r"timeout \(?>\s?\d",
        r"\*\*\*timeout",
        r"\bTIMEOUT in \d",
        r"async callback was not invoked within",
        r"cypress.{0,60}timed out retrying",
        r"timed out retrying after",
        r"deadline exceeded|deadline_exceeded",
        r"time-?out (?:occurred|expired|was reached"
        r"|elapsed|reached)|within the allotted",
        r"time limit exceeded|cpu time limit",
        r"still waiting after|gave up waiting",
        r"watchdog (?:time|expired|detected|triggered|bit)",
        r"(?-i:\bTIMEOUT(?::? //| \[))",
        r"exceeded (?:its )?progress deadline|(?:is|are) unhealthy",
        r"did(?: not|n't) (?:complete|finish|respond|become ready) (?:within|in time)",
        r"async function did not complete",
        r"hit timeout|reached timeout|within the (?:time limit|timeout)",
    ),
    # -- numbers -------------------------------------------------------------------
    _row(
        "calculation_error",
        ERROR,
        "languages and libraries of numbers",
        "https://netlib.org/lapack/lug/",
        r"divi(?:sion|ded?) by zero",
        r"/ by zero",
        r"floating[- ]point exception",
        r"math (?:domain|range) error",
        r"singular(?:exception| matrix)|matrix is (?:exactly |numerically )?singular"
        r"|exactly singular",
        r"not positive[- ]definite",
        r"numerical (?:overflow|instability|result out of range)",
        r"attempt to .{0,20}with overflow",
        r"divide(?:d)? by zero|dividebyzero",
        r"returned nan|contains? nan|nan values",
        r"(?:arithmetic|integer|floating) overflow",
        r"did not converge|failed to converge|no convergence|convergence failure",
        r"\b(?:loss|value|gradient|input|result)s? (?:is|are|was|contains?) "
        r"(?:nan|inf|infinity)\b",
        r"contains nan",
        r"nan or inf",
        r"not equal to tolerance|comparison failed$|arrays are not almost equal",
        r"\d ± \d",
        r"timestep too small",
        r"step size (?:becomes|is) |integration failed|negative infinity|\blog\(0\)",
        r"values are different \(",
        r"^E +assert -?\d+(?:\.\d+)?(?:e[-+]?\d+)? == -?\d+\.\d",
    ),
    # -- the machine ---------------------------------------------------------------
    _row(
        "system_error",
        ERROR,
        "the system",
        _SYSTEM,
        r"too many open files",
        r"inotify (?:watch|instance|limit)|cannot connect to (?:x|display)"
        r"|could not connect to display"
        r"|no display name|no protocol specified|qt platform plugin",
        r"cuda error|cudnn|\bnvml\b|driver/library version mismatch",
        r"signal (?:11|6|7|4)\b|\bSIG(?:SEGV|BUS|ILL|ABRT)\b(?!.{0,40}code=)",
        r"\bE(?:MFILE|NFILE|IO|BUSY|TXTBSY|AGAIN|STALE)\b",
        r"input/output error",
        r"resource temporarily unavailable",
        _EXITED + r"(?:134|135|136|139)\b",
        r"failed to create new os thread|thread creation failed",
        r"can(?:'t|not) start new thread",
        r"cannot fork|fork failed|unable to create new native thread",
        r"(?:device or resource|target is|text file) busy",
        r"stale (?:nfs )?file handle",
        r"segmentation fault",
        r"bus error",
        r"illegal instruction",
        r"structure needs cleaning",
        r"being used by another process",
    ),
    _row(
        "system_error",
        ERROR,
        "locks, databases, browsers, machines of others",
        "https://www.postgresql.org/docs/current/errcodes-appendix.html",
        r"database is locked",
        r"lock wait timeout|deadlock(?:ed)? (?:victim"
        r"|on lock)|try restarting transaction",
        r"rerun the transaction|could not serialize access",
        r"trouble with our infrastructure|stopped responding",
        r"shallow file has changed|no locks available|dpkg was interrupted"
        r"|kernel panic|device offline"
        r"|no devices/|no more connections|early unexpected exit",
        r"\bcrashed (?:with|before|during|unexpectedly)",
        r"rpc client disassociated|node down:|executorlost",
        r"deadlock (?:detected|found)",
        r"too many (?:clients|connections)",
        r"remaining connection slots are reserved",
        r"could not get lock",
        r"unable to (?:acquire|lock)|error acquiring the state lock",
        r"index\.lock': file exists",
        r"another \w+ process (?:seems to be|is) running",
        r"chrome failed to start|failed to launch the browser",
        r"(?:browser|renderer|target|page)(?: has)? crashed",
        r"session not created",
        r"(?:internal|unexpected) (?:compiler )?error(?:: please|\b.{0,40}bug)",
        r"internal compiler error",
        r"^error: internal\b|internal error$",
        r"insufficient (?:cpu|capacity|resources)|failedscheduling",
        r"evicted\b",
        r"could not start daemon|daemon (?:disappeared|stopped)",
        r"container name .{0,120}is already in use",
        r"gradle build daemon disappeared",
        r"worker .{0,40}(?:crashed|died|was lost|exited unexpectedly)",
        r"the forked vm terminated",
        r"call to .{0,20}retries exhausted",
        r"unable to boot|failed to boot",
    ),
    _row(
        "memory_error",
        ERROR,
        "libraries",
        "https://numpy.org/doc/stable/reference/exceptions.html",
        r"out of memory",
        r"unable to allocate",
        r"not enough (?:memory|space' \(errno=12)",
        r"oom command not allowed|resource_exhausted: out of memory",
        r"memory (?:limit|exhausted)",
        r"\bENOMEM\b",
    ),
    # -- the code, its tests, its style, its settings --------------------------------
    _row(
        "logic_error",
        ERROR,
        "compilers",
        "https://gcc.gnu.org/onlinedocs/gcc/Diagnostic-Message-Formatting-Options.html",
        r"[\w)\]]:\d+(?::\d+)?:? (?:- )?(?:fatal )?error\b:?",
        r"\berror: -\[",
        r"\(\d+,\d+\): error\b",
        r"\berror (?:C|CS|TS|BC|FS|LNK|MSB|AL|NETSDK|CA|IDE|SA)\d{3,5}\b",
        r"^error(?:\[E\d{4}\])?: .{0,200}(?:mismatched|cannot find|unused"
        r"|borrow|lifetime|expected|unresolved|loop could|this )",
        r"^e: .{0,200}\.kts?:",
        r"undefined reference to|undefined symbols? |unresolved external symbol"
        r"|multiple definition of|duplicate symbol",
        r"cannot find symbol",
        r"incompatible types",
        r"unresolved reference",
        r"\.go:\d+:\d+: ",
        r"\.(?:hs|ml|scala|java|kt|swift|elm|erl|zig|nim|d|f90|vala|cs|rs):\d+.{0,40}"
        r"error",
        r"\[error\] \S+\.\w+:\d+",
        r"\*\* \(compileerror\)|== compilation error",
        r"syntax ?error|parse error\b|unexpected (?:token|end of|identifier|eof token)"
        r"|unterminated (?:string|regular)",
        r"(?:un)?declared (?:identifier|resource)|not declared in this scope",
        r"(?:is not|not) defined\b",
        r"undefined (?:variable|symbol|method|label|function|local)|undefined: ",
        r"type ?mismatch|mismatched types",
        r"module parse failed",
        r"does not (?:exist|have) (?:in the current context|on type|member)",
        r"has no (?:member|attribute)",
        r"isn't defined|not a known attribute|has no exported|is not exported by",
        r"expression has type|has already been (?:used|declared|defined)",
        r"undefined (?:control sequence|service|references?|function)|! latex error",
        r"cannot (?:borrow|be resolved|be assigned|convert|infer|assign)",
        r"could not find (?:method|property)",
        r"unknown (?:field|property|attribute|type|variable)",
        r"did you mean",
        r"unsupported (?:argument|operand|attribute|option|block)",
        r"argument of type|expected a value of type",
        r"variable not in scope",
        r"compilation (?:error|failed|failure)",
        r"cannot find source file|unapproved license",
        r"\{(?:badmatch|case_clause|badarg|function_clause|undef)\b",
        r"\bTS\d{4}: ",
    ),
    _row(
        "logic_error",
        ERROR,
        "linters and formatters",
        "https://docs.astral.sh/ruff/linter/",
        r"\b\d+ problems? \(\d+ errors?",
        r"code style issues (?:found|were found)",
        r"would reformat|would be reformatted|file[s]? would be (?:changed|reformat)",
        r"\.\w{1,9}: ?\d+:(?:\d+:)? ?[A-Z]{1,6}\d{2,5}\b",
        r":\d+:\d+: [CWEF]: ",
        r"\.rb:\d+:\d+: [CWEF]:",
        r"found \d+ (?:errors?|issues?|problems?|violations?)",
        r"\[ERROR\] found \d+",
        r"^\d+ (?:issues?|violations?):?$",
        r"\d+ offenses? detected",
        r"\d+:\d+ +error +\S",
        r"your code has been rated",
        r"imports are incorrectly sorted",
        r"\bSC\d{4}\b",
        r"^\s*diff in \S+",
        r"there (?:were|are) \d+ (?:errors?|violations?)"
        r"|checkstyle violations|violations "
        r"were found|you have \d+ checkstyle",
        r"lint(?:ing)? (?:errors?|failed|found)",
        r"\bDL\d{4}\b",
        r"files were modified by this hook",
        r"not formatted|run .{0,30}(?:fmt|format|--write|--fix)\b",
        r"too many (?:arguments|errors)",
        r"call to an undefined method|undefined method",
        r"quality gate (?:status: )?failed",
        r"trailing whitespace",
        r"severity: (?:low|medium|high|critical)\b",
        r"^\s*[✖\u00d7] +\S|\d+:\d+ +[✖\u00d7] ",
        r"^[1-9]\d* (?:errors?|problems?|issues? found)\b",
        r"^L: +\d+ \|",
        r"line length violation|violation, \d+ serious",
        r"strict mode|lint(?:ing)?\b.{0,40}\b(?:errors?|failed)",
        r"lint/\w+/\w+",
        r"not compliant|has exceeded by|unexpected key|is not a known",
        r"vulnerabilit(?:y|ies) found!?$|files? needs? (?:formatting|to be formatted)",
    ),
    _row(
        "logic_error",
        ERROR,
        "assertions",
        "https://docs.pytest.org/en/stable/how-to/assert.html",
        r"assert(?:ion)?\b.{0,200}\bfailed\b",
        r"assertion(?:failed)?error",
        r"failed asserting",
        r"XCTAssert\w* failed",
        r"expect\(.{0,80}\)\.(?:not\.|to|be)",
        r"^E +assert ",
        r"expected:? .{1,120}(?:but was|but got|, ?got|to (?:equal|be|eq|contain|match)"
        r"|received)",
        r"^\s*(?:got \S+, want|expected .{1,80} got )",
        r"panicked at",
        r"failed test '",
        r"mismatch(?:ed)? (?:snapshot|output)|snapshots? (?:failed|obsolete|does not)",
        r"comparison failed:|pixels .{0,60}are different",
        r"comparisonfailure",
        r"^ *(?:lists|dicts|sets|tuples|strings) differ",
        r"\bassertEqual\b",
        r"not equal to \S+ \(`expected`\)|^\s*(?:error:\s+)?not equal:",
        r"^\s*expected(?: string)?: |^\s*(?:got|actual|received): ",
        r"test failed at|failed example:|failure in test",
        r"data race|race detected",
        r"expected \S.{0,80} to (?:be|equal|contain|have)",
    ),
    _row(
        "logic_error",
        ERROR,
        "mistakes at run time",
        "https://developer.mozilla.org/docs/Web/JavaScript/Reference/Errors",
        r"null ?pointer",
        r"nil pointer dereference",
        r"nil pointer|nil value",
        r"error summary: [1-9]|invalid (?:read|write) of size|invalid free",
        r"invalid memory address",
        r"index out of (?:range|bounds)",
        r"cannot read propert(?:y|ies) of",
        r"is not a function",
        r"stack ?overflow|maximum call stack|stack level too deep",
        r"undefined method",
        r"(?:uncaught|unhandled) (?:typeerror|referenceerror|rangeerror)",
        r"addresssanitizer|undefinedbehaviorsanitizer|threadsanitizer|data race",
        r"use of uninitiali[sz]ed",
    ),
    _row(
        "logic_error",
        ERROR,
        "settings, arguments, schemas",
        "https://www.gnu.org/software/make/manual/html_node/Error-Messages.html",
        r"unrecognized (?:arguments?|option)|no such option|illegal option",
        r"unknown (?:keys?\b|config|option|command|flag|argument|instruction"
        r"|cmake command)",
        r"invalid (?:option|argument|choice|workflow|value|syntax|reference)",
        r"missing script|script not found|no rule to make target|no targets specified",
        r"unexpected (?:value|keyword|argument|property)",
        r"missing required|required (?:argument|option|input|property|field)"
        r"|input required and not supplied",
        r"are (?:not )?in sync\b|frozen-lockfile|lock ?file .{0,60}(?:out of date"
        r"|outdated|not up to date|needs to be updated)",
        r"(?:relation|table|column|function|database|schema) .{0,60}"
        r"does(?: not|n't) exist|\(notfound\)|\bis undefined\b"
        r"|no such (?:table|column)|unknown column|duplicate key|violates ",
        r"merge conflict|\[rejected\]|non-fast-forward|automatic merge failed"
        r"|not possible to fast-forward|pathspec '",
        r"treated as error",
        r"reference is not a tree|no tags can describe|no names found"
        r"|unable to auto-detect email|tell me who you are",
        r"no (?:rake|make|gem|docker|just|package)file found|please specify\b",
        r"no such (?:target|package|task|service|section|job)\b|no targets found",
        r"invalid \w+ (?:specification|format|id)\b|\bis not allowed$",
        r"couldn't find remote ref|would be overwritten|multiple head revisions",
        r"updates to go\.mod needed|go mod tidy",
        r"checksum mismatch|migrations? .{0,40}(?:failed|mismatch)",
        r"(?:4(?:0[04-9]|1\d|22)) client error|http 422|validation fail",
        r"client error '4\d\d\b|cursor (?:is |was )?(?:already )?closed",
        _NUMBERED + r"4(?:0[04-69]|1[0-8]|22)\b(?! \w+s\b)",
        r"sql syntax|cannot resolve (?:column|table)|unresolved_column",
        r"error validating|is invalid\b|invalid (?:compose|configuration|config|yaml)",
        r"file already exists|build finished with problems",
        r"yaml.{0,40}error|mapping values are not allowed|did not find expected",
        r"validation (?:failed|error)|invalid json|is not valid|schema .{0,40}invalid",
        r"failed to compute cache key|failed to parse|error parsing|parsing error"
        r"|cannot parse",
        r"required test coverage|coverage .{0,80}(?:below|not met|does not meet|less "
        r"than)|coverage threshold",
        r"file or directory not found|no such file or directory|file not found"
        r"|cannot stat '|does not exist$",
        r"no tests? (?:ran|were (?:found|executed)|found|files? found|collected)",
        r"already exists$|immutable",
        r"returned error: 40[04-9]|\b404 not found\b|\b400 bad request\b",
        r"usage: \S+ ",
    ),
    # -- summaries -----------------------------------------------------------------
    _row(
        "logic_error",
        SUMMARY,
        "test runners, builds",
        "https://docs.pytest.org/en/stable/how-to/output.html",
        r"(?<![:.\d])\b[1-9]\d* (?:tests? "
        r"|specs? )?(?:failed|failures?|failing|fails)\b",
        r"some tests (?:failed|did not pass)|test failed\*",
        r"\bfail(?:ed|ures)?: *[1-9]",
        r"\b(?:errors?|failures)[:=] *[1-9]",
        r"tests? failed|failing tests?|test failures",
        r"(?-i:^\s*(?:FAIL|FAILED|--- FAIL|not ok)\b"
        r"|: FAIL\b|FAILED$)|^\s*[✗✖\u00d7●] ",
        r"(?-i:^\s*(?:FAIL|FAILED|FAILURES?|FAILING)[:! ])",
        r"(?:tests?|scenarios?|specs?|checks?"
        r"|examples?|suites?) .{0,20}fail(?:ed|ing)\b",
        r"(?:failed|failing) (?:tests?|scenarios?|specs?|checks?|examples?|minimum)",
        r"(?-i:\| FAIL \|)|^[\w./@\\-]{1,200}\.[a-z]\w{0,5}:\d+(?::\d+)?: \S",
        r"session lint failed|\[ FAIL [1-9]|ERROR=[1-9]",
        r"\[ +FAILED +\]",
        r"result: FAIL",
        r"^not ok \d",
        r"^\d+ errors?(?: generated\.?)?$",
        r"\.{5,}failed$",
        r"looks like you failed",
        r"\*\* (?:BUILD|TEST|ARCHIVE) FAILED",
        r"(?-i:\[FAIL(?:ED)?\])|^diff --git a/|^(?:---|\+\+\+) [ab]/",
        r"linker command failed|returned \d+ exit status|aborting due to",
        r"(?:could not|failed to|cannot) compile",
    ),
    _row(
        "logic_error",
        SUMMARY,
        "what runs commands, and names one that tests or checks",
        "https://www.gnu.org/software/make/manual/html_node/Errors.html",
        rf"^the command .{_CHECKS}.{{0,300}}(?:exited with|returned a non-zero)",
        rf"(?:failed running|failed at the|invocationerror:?) .{_CHECKS}",
        rf"(?:execution failed for task|failed to execute goal) .{_CHECKS}",
        rf"\*\*\* \[.{_CHECKS}.{{0,80}} error \d",
    ),
    _row(
        "import_error",
        HINT,
        "all",
        "https://docs.docker.com/reference/cli/docker/image/pull/",
        r"\bnot (?:be )?found\b|no \S{1,60}(?: \w+)? (?:was |were )?found\b",
        r"(?:could not|couldn't|cannot|can't|unable to|fail(?:ed|ure) to|did not) "
        r"(?:find|locate|load|import|resolve|include|open shared)\b",
        r"(?:is|are|was|were) (?:not|un)(?: yet)? ?(?:available|installed)\b",
        r"(?:must|should|needs? to) be installed|(?:try|by) install(?:ing)?\b",
        r"missing (?:\w+ )?(?:module|package|dependenc|librar|program|command|tool"
        r"|header|prerequisite|requirement)",
        r"(?:is|are) (?:required|needed) (?:to|for|by|but)\b|unsatisfi|unmet\b",
        r"requires (?:at least |the )?\S{1,60} (?:>=?|version|package|module)",
        r"failed (?:to build|to run custom build)",
    ),
    _row(
        "timeout_error",
        HINT,
        "all",
        "https://www.gnu.org/software/coreutils/manual/html_node/timeout-invocation.html",
        r"\btimed out\b",
        r"\(timeout\)$",
    ),
    _row(
        "system_error",
        HINT,
        "the system",
        _SYSTEM,
        r"aborted \(core dumped\)",
        r"core dumped",
        r"the operation was canceled",
        r"internal error",
        r"terminated by signal|^Terminated$|received signal (?:15|sigterm)",
    ),
    _row(
        "network_error",
        HINT,
        "git, ansible",
        "https://git-scm.com/docs/git-fetch",
        r"could not read from remote repository",
        r"(?:unable to|could not|couldn't|cannot|can't|failed to) "
        r"(?:connect|reach|fetch|download|pull|push|clone)\b",
    ),
)
