"""The table of configuration directives: all that Redis 7.4 and Valkey 8.0 know, and our own.

A directive has its kind, its default (Redis 7.4's) and a note of what it does here. One without effect is
accepted and kept, so that a configuration file written for another server loads and reads back.
``docs/configuration.md`` is generated from this table.

Must not know: what reads the values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from kvstore.commands.config.checks import (
    hostname,
    human_nodename,
    ipv4,
    ipv6,
    locale_name,
    plain_name,
    shutdown_flags,
    title_template,
)
from kvstore.commands.config.values import (
    INT_MAX,
    UINT_MAX,
    ULONG_MAX,
    Addresses,
    BufferLimit,
    BufferLimits,
    Directory,
    Enum,
    Flags,
    Integer,
    KeyspaceEvents,
    Kind,
    Memory,
    Octal,
    OomScores,
    OutputBufferLimits,
    Percentiles,
    ReplicaOf,
    SavePoints,
    Text,
    Version,
    YesNo,
)
from kvstore.numbers import INT64_MAX, INT64_MIN

# "used": it does here what it does there. "kept": accepted and shown, no effect. "not yet": kept until
# the part that it steers is there.
Effect = Literal["used", "kept", "not yet"]


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive, under its canonical name."""

    name: str
    kind: Kind
    default: Any
    effect: Effect
    note: str
    aliases: tuple[str, ...] = ()
    immutable: bool = False  # CONFIG SET refuses it
    hidden: bool = False  # CONFIG GET answers it to its exact name alone
    sensitive: bool = False  # its value is kept out of logs
    protected: bool = False  # CONFIG SET needs enable-protected-configs
    deny_loading: bool = False  # CONFIG SET refuses it while a file is being loaded
    volatile: bool = (
        False  # setting the value it has counts as a change (a certificate file renewed in place)
    )
    accumulates: bool = False  # several lines of a file add up
    since: tuple[int, int] = (7, 0)  # hidden from CONFIG where an older version's behaviour is kept


def _maker(effect: Effect) -> Callable[..., Directive]:
    """A function that makes rows; the first of ``names`` is canonical, ``flags`` are attributes."""

    def make(names: str, kind: Kind, default: Any, note: str, flags: str = "", **more: Any) -> Directive:
        name, *aliases = names.split()
        more |= dict.fromkeys(flags.split(), True)
        return Directive(name, kind, default, effect, note, tuple(aliases), **more)

    return make


_used = _maker("used")
_kept = _maker("kept")
_later = _maker("not yet")

_BOOL: Final = YesNo()
_NATURAL: Final = Integer(0, INT_MAX)
_POSITIVE: Final = Integer(1, INT_MAX)
_ANY_INT: Final = Integer(-INT_MAX - 1, INT_MAX)
_LONG: Final = Integer(0, INT64_MAX)
_PORT: Final = Integer(0, 65535)
_SIZE: Final = Memory()
_UNSIGNED_SIZE: Final = Memory(high=ULONG_MAX)
_LEAST_1MB: Final = Memory(1 << 20)
_TEXT: Final = Text()
_MAYBE_EMPTY: Final = Text(keep_empty=True)
_SECRET: Final = Text(binary=True)
_WHO: Final = Enum("no", "yes", "local")
_ON_SIGNAL: Final = Flags("default", "save", "nosave", "now", "force", check=shutdown_flags)

_MB: Final = 1 << 20
_NO_LIMIT: Final = BufferLimit(0, 0, 0)
_OUTPUT_LIMITS: Final = BufferLimits(
    _NO_LIMIT, BufferLimit(256 * _MB, 64 * _MB, 60), BufferLimit(32 * _MB, 8 * _MB, 60)
)

_V72: Final = (7, 2)
_V80: Final = (8, 0)
_ONE_THREAD: Final = "commands run on one thread"
_REPLICATION: Final = "replication"
_ALONE: Final = "a cluster has one node here"
_FREED: Final = "memory is freed at once, by reference counts"
_NO_DEFRAG: Final = "memory is not defragmented: CPython's allocator places objects"
_TLS: Final = "with tls-port"

SECTIONS: Final[dict[str, tuple[Directive, ...]]] = {
    "Our own": (
        _used(
            "compat-version",
            Version("7.0.15", "7.2.4", "7.4.0", "8.0.0", "8.2.0", "8.4.0", "8.6.0", "8.8.0", "9.0.0"),
            "7.4.0",
            "the version of Redis whose behaviour is kept and reported; what is newer is hidden (9.0 has Valkey's DELIFEQ, too)",
            "immutable",
        ),
        _used(
            "pack-cold-after",
            _NATURAL,
            60,
            "seconds without use after which small hashes, lists, sets and sorted sets are packed, until their next "
            "use, in databases of some thousand keys; 0: never",
        ),
        _used(
            "rdb-target",
            Enum("portable", "redis-7.0", "redis-7.2", "redis-7.4", "valkey-9"),
            "portable",
            "who is to read snapshots and see all of them: every server from Redis 5 on reads portable ones, where "
            "only kvstore sees deadlines of fields and counters of streams; Redis from 7.0 on sees the counters in "
            "its own, Redis from 7.2 on and Valkey times of consumers too, Redis 7.4 and Valkey 9 the deadlines too",
        ),
    ),
    "Network": (
        _used("bind", Addresses(), ("*", "-::*"), "addresses to listen on for TCP and TLS"),
        _used("port", _PORT, 6379, "TCP port; 0: none"),
        _used("tcp-backlog", _NATURAL, 511, "length of the queue of connections to accept", "immutable"),
        _used("unixsocket", _TEXT, "", "path of a Unix socket to listen on", "immutable"),
        _used("unixsocketperm", Octal(), 0, "permissions of the Unix socket; 0: by the umask", "immutable"),
        _used("unixsocketgroup", _TEXT, "", "group of the Unix socket", "immutable", since=_V72),
        _used("protected-mode", _BOOL, True, "without a password, only local clients get in"),
        _used("timeout", _NATURAL, 0, "seconds after which an idle client is closed; 0: never"),
        _used("tcp-keepalive", _NATURAL, 300, "seconds between TCP keep-alive probes; 0: none"),
        _kept("bind-source-addr", _TEXT, "", "the server opens no connection of its own"),
        _kept("socket-mark-id", Integer(0, UINT_MAX), 0, "sockets are not marked", "immutable"),
        _kept(
            "max-new-connections-per-cycle",
            Integer(1, 1000),
            10,
            "the loop accepts what the backlog holds",
            since=_V72,
        ),
        _kept(
            "max-new-tls-connections-per-cycle",
            Integer(1, 1000),
            1,
            "the loop accepts what the backlog holds",
            since=_V72,
        ),
    ),
    "TLS": (
        _used("tls-port", _PORT, 0, "port for TLS; 0: none"),
        _used("tls-cert-file", _TEXT, "", "the server's certificate", "volatile"),
        _used("tls-key-file", _TEXT, "", "its private key", "volatile"),
        _used("tls-key-file-pass", _TEXT, "", "the key's passphrase", "sensitive volatile"),
        _used("tls-ca-cert-file", _TEXT, "", "certificates that clients' must be signed by", "volatile"),
        _used("tls-ca-cert-dir", _TEXT, "", "a directory of such certificates", "volatile"),
        _used("tls-auth-clients", Enum("no", "yes", "optional"), "yes", "whether clients need a certificate"),
        _used("tls-protocols", _TEXT, "", "TLS versions allowed, such as TLSv1.2 TLSv1.3"),
        _used("tls-ciphers", _TEXT, "", "ciphers of TLS 1.2"),
        _kept("tls-ciphersuites", _TEXT, "", "Python's ssl module cannot choose ciphers of TLS 1.3"),
        _used("tls-prefer-server-ciphers", _BOOL, False, "the server's order of ciphers counts"),
        _used("tls-dh-params-file", _TEXT, "", "parameters of the Diffie-Hellman exchange", "volatile"),
        _used("tls-session-caching", _BOOL, True, "no: a session is not resumed"),
        _kept("tls-session-cache-size", _NATURAL, 20480, "OpenSSL's default size is kept"),
        _kept("tls-session-cache-timeout", _NATURAL, 300, "OpenSSL's default time is kept"),
        _later("tls-replication", _BOOL, False, _REPLICATION),
        _later("tls-client-cert-file", _TEXT, "", _REPLICATION, "volatile"),
        _later("tls-client-key-file", _TEXT, "", _REPLICATION, "volatile"),
        _later("tls-client-key-file-pass", _TEXT, "", _REPLICATION, "sensitive volatile"),
        _kept("tls-cluster", _BOOL, False, _ALONE),
    ),
    "Process and log": (
        _used("daemonize", _BOOL, False, "kvstore serve goes to the background", "immutable"),
        _used("pidfile", _TEXT, "", "file for the process id", "immutable"),
        _used(
            "loglevel",
            Enum("debug", "verbose", "notice", "warning", "nothing"),
            "notice",
            "the least important lines to log",
        ),
        _used("logfile", _MAYBE_EMPTY, "", "file to log to; empty: standard output", "immutable"),
        _used("databases", _POSITIVE, 16, "how many databases SELECT knows", "immutable"),
        _used(
            "dir",
            Directory(),
            "",
            "where files are; default: the working directory",
            "protected deny_loading",
        ),
        _used(
            "supervised",
            Enum("upstart", "systemd", "auto", "no"),
            "no",
            "whether systemd is told when the server is ready and when it stops; upstart is not",
            "immutable",
        ),
        _used("syslog-enabled", _BOOL, False, "whether the log goes to the system's log, too", "immutable"),
        _used("syslog-ident", _MAYBE_EMPTY, "redis", "the program's name there", "immutable"),
        _used(
            "syslog-facility",
            Enum("user", *(f"local{n}" for n in range(8))),
            "local0",
            "its facility there",
            "immutable",
        ),
        _kept("always-show-logo", _BOOL, False, "there is no logo", "immutable"),
        _kept("set-proc-title", _BOOL, True, "the process keeps its title", "immutable"),
        _kept(
            "proc-title-template",
            Text(title_template, keep_empty=True),
            "{title} {listen-addr} {server-mode}",
            "the process keeps its title",
        ),
        _kept(
            "locale-collate",
            Text(locale_name, keep_empty=True),
            "",
            "text sorts by its bytes, as in the locale C; others are refused",
            since=_V72,
        ),
        _kept("hide-user-data-from-log", _BOOL, True, "the log never holds keys or values", since=_V72),
        _kept("crash-log-enabled", _BOOL, True, "Python reports its own failures"),
        _kept("crash-memcheck-enabled", _BOOL, True, "as crash-log-enabled"),
        _kept("use-exit-on-panic", _BOOL, False, "as crash-log-enabled", "hidden"),
        _kept("enable-debug-assert", _BOOL, False, "there is no such DEBUG", "immutable hidden", since=_V72),
        _kept("debug-context", _TEXT, "", "it would go into a crash report", "hidden", since=_V72),
        _kept(
            "watchdog-period",
            Integer(0, INT_MAX, adjust=lambda n: max(n, 200) if n else 0),
            0,
            "there is no software watchdog",
            "hidden",
        ),
        _kept("ignore-warnings", _MAYBE_EMPTY, "", "the machine is not checked for kernel bugs"),
        _kept("availability-zone", Text(keep_empty=True, binary=True), "", "only shown", since=_V72),
        _kept("extended-redis-compatibility", _BOOL, False, "Redis's names are always given", since=_V72),
        _kept(
            "oom-score-adj",
            Enum("no", "yes", "relative", "absolute", same={"relative": "yes"}),
            "no",
            "the kernel's scores are left alone",
        ),
        _kept("oom-score-adj-values", OomScores(), (0, 200, 800), "as oom-score-adj"),
        _kept("disable-thp", _BOOL, True, "the process's memory settings are left alone", "immutable"),
        _kept("server_cpulist server-cpulist", _TEXT, "", "the process is not bound to CPUs", "immutable"),
        _kept("bio_cpulist bio-cpulist", _TEXT, "", "as server_cpulist", "immutable"),
        _kept("aof_rewrite_cpulist aof-rewrite-cpulist", _TEXT, "", "as server_cpulist", "immutable"),
        _kept("bgsave_cpulist bgsave-cpulist", _TEXT, "", "as server_cpulist", "immutable"),
    ),
    "Threads and timers": (
        _kept(
            "hz",
            Integer(0, INT_MAX, adjust=lambda n: min(max(n, 1), 500)),
            10,
            "timers fire when they are due",
        ),
        _kept("dynamic-hz", _BOOL, True, "as hz"),
        _kept("io-threads", Integer(1, 128), 1, _ONE_THREAD, "immutable"),
        _kept("io-threads-do-reads", _BOOL, False, _ONE_THREAD, "immutable"),
        _kept("events-per-io-thread", _NATURAL, 2, _ONE_THREAD, since=_V72),
        _kept("prefetch-batch-max-size", Integer(0, 128), 16, _ONE_THREAD, since=_V72),
        _kept("activerehashing", _BOOL, True, "a dict grows by itself"),
        _kept("jemalloc-bg-thread", _BOOL, True, "CPython has its own allocator"),
        _kept("active-expire-effort", Integer(1, 10), 1, "expiry is exact: every key goes when it is due"),
    ),
    "Security": (
        _used("requirepass", _SECRET, "", "password of the default user", "sensitive"),
        _used("enable-protected-configs", _WHO, "no", "who may set dir and dbfilename", "immutable"),
        _used("enable-debug-command", _WHO, "no", "who may call DEBUG", "immutable"),
        _used("enable-module-command", _WHO, "no", "who is told that there are no modules", "immutable"),
        _used(
            "aclfile",
            _MAYBE_EMPTY,
            "",
            "the file of users that ACL LOAD reads and ACL SAVE writes",
            "immutable",
        ),
        _used(
            "acl-pubsub-default",
            Enum("allchannels", "resetchannels"),
            "resetchannels",
            "which channels users begin with",
        ),
        _used("acllog-max-len", _LONG, 128, "entries of ACL LOG"),
    ),
    "Clients": (
        _used("maxclients", Integer(1, UINT_MAX), 10000, "most clients at once"),
        _used("client-query-buffer-limit", _LEAST_1MB, 1 << 30, "most bytes of a client's unread requests"),
        _used(
            "client-output-buffer-limit", OutputBufferLimits(), _OUTPUT_LIMITS, "most bytes of unread replies"
        ),
        _used("proto-max-bulk-len", _LEAST_1MB, 512 * _MB, "longest argument and string"),
        _used(
            "maxmemory-clients", Memory(percent=True), 0, "most bytes that all clients' buffers hold; 0: any"
        ),
        _used("tracking-table-max-keys", _LONG, 1000000, "most keys that CLIENT TRACKING remembers; 0: any"),
    ),
    "Memory": (
        _used("maxmemory", _UNSIGNED_SIZE, 0, "limit of the data's memory; 0: none"),
        _used(
            "maxmemory-policy",
            Enum(
                "volatile-lru",
                "volatile-lfu",
                "volatile-random",
                "volatile-ttl",
                "allkeys-lru",
                "allkeys-lfu",
                "allkeys-random",
                "noeviction",
            ),
            "noeviction",
            "which keys go when the limit is met",
        ),
        _used("maxmemory-samples", _POSITIVE, 5, "keys to choose a victim from"),
        _kept("maxmemory-eviction-tenacity", Integer(0, 100), 10, "eviction goes on until there is room"),
        _used("lfu-log-factor", _NATURAL, 10, "how slowly a counter of uses grows"),
        _used("lfu-decay-time", _NATURAL, 1, "minutes in which a counter of uses falls by one"),
        _kept("lazyfree-lazy-eviction", _BOOL, False, _FREED),
        _kept("lazyfree-lazy-expire", _BOOL, False, _FREED),
        _kept("lazyfree-lazy-server-del", _BOOL, False, _FREED),
        _kept("lazyfree-lazy-user-del", _BOOL, False, _FREED),
        _kept("lazyfree-lazy-user-flush", _BOOL, False, _FREED),
        _kept("replica-lazy-flush slave-lazy-flush", _BOOL, False, _FREED),
        _kept("activedefrag", _BOOL, False, _NO_DEFRAG),
        _kept("active-defrag-cycle-min", Integer(1, 99), 1, _NO_DEFRAG),
        _kept("active-defrag-cycle-max", Integer(1, 99), 25, _NO_DEFRAG),
        _kept("active-defrag-threshold-lower", Integer(0, 1000), 10, _NO_DEFRAG),
        _kept("active-defrag-threshold-upper", Integer(0, 1000), 100, _NO_DEFRAG),
        _kept("active-defrag-max-scan-fields", Integer(1, INT64_MAX), 1000, _NO_DEFRAG),
        _kept("active-defrag-ignore-bytes", Memory(1), 100 * _MB, _NO_DEFRAG),
    ),
    "Values": (
        _used("hash-max-listpack-entries hash-max-ziplist-entries", _LONG, 512, "OBJECT ENCODING of hashes"),
        _used("hash-max-listpack-value hash-max-ziplist-value", _SIZE, 64, "OBJECT ENCODING of hashes"),
        _used("list-max-listpack-size list-max-ziplist-size", _ANY_INT, -2, "OBJECT ENCODING of lists"),
        _kept("list-compress-depth", _NATURAL, 0, "lists are not compressed"),
        _used("set-max-intset-entries", _LONG, 512, "OBJECT ENCODING of sets of integers"),
        _used("set-max-listpack-entries", _LONG, 128, "OBJECT ENCODING of sets", since=_V72),
        _used("set-max-listpack-value", _LONG, 64, "OBJECT ENCODING of sets", since=_V72),
        _used(
            "zset-max-listpack-entries zset-max-ziplist-entries",
            _LONG,
            128,
            "OBJECT ENCODING of sorted sets",
        ),
        _used("zset-max-listpack-value zset-max-ziplist-value", _SIZE, 64, "OBJECT ENCODING of sorted sets"),
        _used("hll-sparse-max-bytes", _SIZE, 3000, "bytes of a HyperLogLog from which on it is dense"),
        _used("stream-node-max-bytes", _SIZE, 4096, "what XTRIM and XADD drop with ~"),
        _used("stream-node-max-entries", _LONG, 100, "what XTRIM and XADD drop with ~"),
    ),
    "Scripts": (
        _used(
            "busy-reply-threshold lua-time-limit",
            _LONG,
            5000,
            "milliseconds after which a script may be killed and others are told BUSY",
        ),
        _kept("lua-enable-deprecated-api", _BOOL, False, "scripts run in one sandbox", "immutable hidden"),
    ),
    "Observing": (
        _used(
            "notify-keyspace-events",
            KeyspaceEvents(),
            frozenset[str](),
            "which events are published",
        ),
        _used("slowlog-log-slower-than", Integer(-1, INT64_MAX), 10000, "microseconds; -1: nothing is slow"),
        _used("slowlog-max-len", _LONG, 128, "entries of the slow log"),
        _used("latency-monitor-threshold", _LONG, 0, "milliseconds; 0: no monitoring"),
        _used("latency-tracking", _BOOL, True, "whether INFO latencystats is filled"),
        _used(
            "latency-tracking-info-percentiles",
            Percentiles(),
            (50.0, 99.0, 99.9),
            "which percentiles INFO latencystats gives",
        ),
    ),
    "Snapshots": (
        _used(
            "save",
            SavePoints(),
            ((3600, 1), (300, 100), (60, 10000)),
            "save points: seconds and changes after which a snapshot is written; empty: none",
            "accumulates",
        ),
        _used(
            "dbfilename", Text(plain_name("dbfilename", "filename")), "dump.rdb", "the snapshot", "protected"
        ),
        _used("rdbcompression", _BOOL, True, "long strings are compressed, where there is a library for it"),
        _used("rdbchecksum", _BOOL, True, "a checksum ends the file", "immutable"),
        _used("stop-writes-on-bgsave-error", _BOOL, True, "writes are refused after a snapshot failed"),
        _kept("rdb-save-incremental-fsync", _BOOL, True, "the file is synced off the loop's thread"),
        _kept(
            "sanitize-dump-payload",
            Enum("no", "yes", "clients"),
            "no",
            "what is loaded is always checked",
        ),
        _kept("rdb-key-save-delay", _ANY_INT, 0, "a snapshot runs at its own pace", "hidden"),
        _kept("key-load-delay", _ANY_INT, 0, "a file loads at its own pace", "hidden"),
        _kept(
            "loading-process-events-interval-bytes",
            Integer(1024, INT_MAX),
            2 * _MB,
            "clients are answered every few milliseconds while a file loads",
            "hidden",
        ),
        _later("shutdown-timeout", _NATURAL, 10, _REPLICATION),
        _used("shutdown-on-sigint", _ON_SIGNAL, (), "how SIGINT ends the server, as options of SHUTDOWN"),
        _used("shutdown-on-sigterm", _ON_SIGNAL, (), "how SIGTERM ends the server, as options of SHUTDOWN"),
    ),
    "Append-only log": (
        _used("appendonly", _BOOL, False, "whether there is a log", "deny_loading"),
        _used(
            "appendfilename",
            Text(plain_name("appendfilename", "filename")),
            "appendonly.aof",
            "how names of its files begin",
            "immutable",
        ),
        _used(
            "appenddirname",
            Text(plain_name("appenddirname", "dirname")),
            "appendonlydir",
            "its directory, in dir",
            "immutable",
        ),
        _used(
            "appendfsync",
            Enum("everysec", "always", "no"),
            "everysec",
            "when it is synced: before replies leave, each second, or when the system likes",
        ),
        _used("no-appendfsync-on-rewrite", _BOOL, False, "it is not synced while a snapshot is written"),
        _used(
            "auto-aof-rewrite-percentage",
            _NATURAL,
            100,
            "it is written anew when it has grown by so much; 0: never",
        ),
        _used("auto-aof-rewrite-min-size", _SIZE, 64 * _MB, "but not while it is smaller"),
        _used("aof-load-truncated", _BOOL, True, "a torn end is cut off at the start; no: it is an error"),
        _used("aof-use-rdb-preamble", _BOOL, True, "its base is a snapshot; no: commands"),
        _used("aof-timestamp-enabled", _BOOL, False, "it has lines that tell the time"),
        _kept("aof-rewrite-incremental-fsync", _BOOL, True, "the base is synced off the loop's thread"),
        _kept("aof-disable-auto-gc", _BOOL, False, "files that are out of use are deleted", "hidden"),
    ),
    "Replication": (
        _later("replicaof slaveof", ReplicaOf(), None, _REPLICATION, "immutable"),
        _later("masterauth primaryauth", _SECRET, "", _REPLICATION, "sensitive"),
        _later("masteruser primaryuser", _TEXT, "", _REPLICATION, "sensitive"),
        _later("replica-serve-stale-data slave-serve-stale-data", _BOOL, True, _REPLICATION),
        _later("replica-read-only slave-read-only", _BOOL, True, _REPLICATION),
        _later("replica-ignore-maxmemory slave-ignore-maxmemory", _BOOL, True, _REPLICATION),
        _later("replica-ignore-disk-write-errors", _BOOL, False, _REPLICATION),
        _later("replica-priority slave-priority", _NATURAL, 100, _REPLICATION),
        _later("replica-announced", _BOOL, True, _REPLICATION),
        _later("replica-announce-ip slave-announce-ip", _TEXT, "", _REPLICATION),
        _later("replica-announce-port slave-announce-port", _PORT, 0, _REPLICATION),
        _later("repl-diskless-sync", _BOOL, True, _REPLICATION),
        _later("repl-diskless-sync-delay", _NATURAL, 5, _REPLICATION),
        _later("repl-diskless-sync-max-replicas", _NATURAL, 0, _REPLICATION),
        _later(
            "repl-diskless-load",
            Enum("disabled", "on-empty-db", "swapdb"),
            "disabled",
            _REPLICATION,
            "deny_loading",
        ),
        _later("repl-ping-replica-period repl-ping-slave-period", _POSITIVE, 10, _REPLICATION),
        _later("repl-timeout", _POSITIVE, 60, _REPLICATION),
        _later("repl-disable-tcp-nodelay", _BOOL, False, _REPLICATION),
        _later("repl-backlog-size", Memory(1, adjust=lambda size: max(size, 16384)), _MB, _REPLICATION),
        _later("repl-backlog-ttl", _LONG, 3600, _REPLICATION),
        _later("min-replicas-to-write min-slaves-to-write", _NATURAL, 0, _REPLICATION),
        _later("min-replicas-max-lag min-slaves-max-lag", _NATURAL, 10, _REPLICATION),
        _later(
            "propagation-error-behavior", Enum("ignore", "panic", "panic-on-replicas"), "ignore", _REPLICATION
        ),
        _later("rdb-del-sync-files", _BOOL, False, _REPLICATION),
        _kept("dual-channel-replication-enabled", _BOOL, False, "one connection a replica", since=_V72),
        _kept("repl-rdb-channel", _BOOL, False, "one connection a replica", since=_V80),
        _later("replica-full-sync-buffer-limit", _SIZE, 0, _REPLICATION, since=_V80),
    ),
    "Cluster": (
        _used(
            "cluster-enabled",
            _BOOL,
            False,
            "be a node of a cluster, the only one, with all slots",
            "immutable",
        ),
        _used(
            "cluster-config-file",
            Text(plain_name("cluster-config-file", None)),
            "nodes.conf",
            "file in dir that keeps the node's id; in a program only with dir or this",
            "immutable",
        ),
        _kept("cluster-node-timeout", _LONG, 15000, _ALONE),
        _used(
            "cluster-port",
            _PORT,
            0,
            "the port that is told for nodes to talk on, where nobody listens; 0: 10000 above the port",
            "immutable",
        ),
        _kept("cluster-replica-validity-factor cluster-slave-validity-factor", _NATURAL, 10, _ALONE),
        _kept("cluster-migration-barrier", _NATURAL, 1, _ALONE),
        _kept("cluster-allow-replica-migration", _BOOL, True, _ALONE),
        _kept("cluster-require-full-coverage", _BOOL, True, "all slots are there"),
        _kept("cluster-replica-no-failover cluster-slave-no-failover", _BOOL, False, _ALONE),
        _kept("cluster-allow-reads-when-down", _BOOL, False, "the cluster is never down"),
        _kept("cluster-allow-pubsubshard-when-down", _BOOL, True, "the cluster is never down"),
        _kept("cluster-link-sendbuf-limit", _UNSIGNED_SIZE, 0, _ALONE),
        _used(
            "cluster-announce-hostname",
            Text(hostname),
            "",
            "name told to clients beside the address, or for it",
        ),
        _kept(
            "cluster-announce-human-nodename",
            Text(human_nodename, binary=True),
            "",
            "only other nodes would be told",
            since=_V72,
        ),
        _used(
            "cluster-announce-ip",
            _TEXT,
            "",
            "address told to clients; empty: the one that they are connected to",
        ),
        _kept(
            "cluster-announce-client-ipv4",
            Text(ipv4),
            "",
            "cluster-announce-ip is told to all clients",
            since=_V72,
        ),
        _kept(
            "cluster-announce-client-ipv6",
            Text(ipv6),
            "",
            "cluster-announce-ip is told to all clients",
            since=_V72,
        ),
        _used("cluster-announce-port", _PORT, 0, "TCP port told to clients; 0: the real one"),
        _used("cluster-announce-tls-port", _PORT, 0, "TLS port told to clients; 0: the real one"),
        _used(
            "cluster-announce-bus-port", _PORT, 0, "port told for nodes to talk on; 0: as cluster-port says"
        ),
        _used(
            "cluster-preferred-endpoint-type",
            Enum("ip", "hostname", "unknown-endpoint"),
            "ip",
            "what clients are told to connect to: the address, the name, or where they are",
        ),
        _kept("cluster-blacklist-ttl", Integer(INT64_MIN, INT64_MAX), 60, _ALONE, since=_V72),
        _kept("cluster-slot-stats-enabled", _BOOL, False, "slots are not measured", since=_V72),
        _kept("cluster-ping-interval", _LONG, 0, _ALONE, "hidden", since=_V72),
        _kept("cluster-compatibility-sample-ratio", Integer(0, 100), 0, _ALONE, since=_V80),
    ),
}

DIRECTIVES: Final[dict[str, Directive]] = {
    directive.name: directive for section in SECTIONS.values() for directive in section
}
# Every name that a directive answers to. A name and its aliases are different parameters to CONFIG.
NAMES: Final[dict[str, Directive]] = {
    name: directive for directive in DIRECTIVES.values() for name in (directive.name, *directive.aliases)
}
# Directives of long ago that did what is now done always; a file may still have them, with one word.
DEPRECATED: Final = frozenset(
    {"list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"}
)
