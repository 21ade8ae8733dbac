"""The syntax of every command that takes arguments, and a parser of it into what COMMAND DOCS tells.

``SYNTAX`` has a line a command or subcommand, in the notation of manuals: words in capitals are
tokens, others arguments; ``[...]`` may be left out, of ``<a | b>`` one is chosen, ``key [key ...]``
stands for one or more. Three additions: ``min:double`` says the type where the name does not
(``pattern:keys``: a pattern that gives keys),
``@7.0.0`` since when something is there (``@-7.0.0``: since when it is out of use), and ``...``
behind a ``<choice>`` repeats it. A token takes the arguments that follow it up to the end of its
brackets; an indented line goes on with the one before. A command that is not here takes no arguments.

Nothing is parsed before it is asked for. Must not know: the commands themselves, how answers are sent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

SYNTAX = """\
ACL CAT [category]
ACL DELUSER username [username ...]
ACL DRYRUN username command [arg [arg ...]]
ACL GENPASS [bits:integer]
ACL GETUSER username
ACL LOG [count | RESET]
ACL SETUSER username [rule [rule ...]]
AUTH [username@6.0.0] password
CLIENT CACHING <YES | NO>
CLIENT KILL <ip:port@-2.8.12
    | <[ID client-id]@2.8.12
    | [TYPE <NORMAL | MASTER@3.2.0 | SLAVE | REPLICA@5.0.0 | PUBSUB>]@2.8.12
    | [USER username] | [ADDR ip:port] | [LADDR ip:port]@6.2.0 | [SKIPME <YES | NO>]
    | [MAXAGE maxage]@7.4.0> ...>
CLIENT LIST [TYPE <NORMAL | MASTER | REPLICA | PUBSUB>]@5.0.0 [ID client-id [client-id ...]]@6.2.0
CLIENT NO-EVICT <ON | OFF>
CLIENT NO-TOUCH <ON | OFF>
CLIENT PAUSE timeout [WRITE | ALL]@6.2.0
CLIENT REPLY <ON | OFF | SKIP>
CLIENT SETINFO <LIB-NAME libname | LIB-VER libver>
CLIENT SETNAME connection-name
CLIENT TRACKING <ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]
CLIENT UNBLOCK client-id [TIMEOUT | ERROR]
ECHO message
HELLO [protover [AUTH username password] [SETNAME clientname]]
PING [message]
SELECT index

COPY source destination [DB destination-db] [REPLACE]
DEL key [key ...]
DUMP key
EXISTS key [key ...]
EXPIRE key seconds [NX | XX | GT | LT]@7.0.0
EXPIREAT key unix-time-seconds [NX | XX | GT | LT]@7.0.0
EXPIRETIME key
KEYS pattern
MIGRATE host port:integer <key | ""> destination-db timeout [COPY]@3.0.0 [REPLACE]@3.0.0
    [AUTH password@4.0.7 | AUTH2 <username password>@6.0.0] [KEYS key [key ...]]@3.0.6
MOVE key db
OBJECT ENCODING key
OBJECT FREQ key
OBJECT IDLETIME key
OBJECT REFCOUNT key
PERSIST key
PEXPIRE key milliseconds [NX | XX | GT | LT]@7.0.0
PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]@7.0.0
PEXPIRETIME key
PTTL key
RENAME key newkey
RENAMENX key newkey
RESTORE key ttl:integer serialized-value [REPLACE]@3.0.0 [ABSTTL]@5.0.0 [IDLETIME seconds]@5.0.0 [FREQ frequency:integer]@5.0.0
RESTORE-ASKING key ttl:integer serialized-value [REPLACE]@3.0.0 [ABSTTL]@5.0.0 [IDLETIME seconds]@5.0.0 [FREQ frequency:integer]@5.0.0
SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]@6.0.0
SORT key [BY pattern:keys] [LIMIT offset count] [GET pattern:keys [GET pattern:keys ...]]
    [ASC | DESC] [ALPHA] [STORE destination]
SORT_RO key [BY pattern:keys] [LIMIT offset count] [GET pattern:keys [GET pattern:keys ...]]
    [ASC | DESC] [ALPHA]
TOUCH key [key ...]
TTL key
TYPE key
UNLINK key [key ...]
WAIT numreplicas timeout
WAITAOF numlocal numreplicas timeout

APPEND key value
DECR key
DECRBY key decrement
DELEX key [IFEQ value | IFNE value | IFDEQ digest | IFDNE digest]
DELIFEQ key value
DIGEST key
GET key
GETDEL key
GETEX key
    [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]
GETRANGE key start end
GETSET key value
INCR key
INCRBY key increment
INCRBYFLOAT key increment:double
INCREX key [BYINT increment | BYFLOAT increment:double] [LBOUND lower-bound:double]
    [UBOUND upper-bound:double] [SATURATE]
    [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] [ENX]
LCS key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]
MGET key [key ...]
MSET key value [key value ...]
MSETEX numkeys key value [key value ...] [NX | XX] [EX seconds | PX milliseconds
    | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]
MSETNX key value [key value ...]
PSETEX key milliseconds value
SET key value
    [NX | XX | IFEQ value@8.4.0 | IFNE value@8.4.0 | IFDEQ digest@8.4.0 | IFDNE digest@8.4.0]@2.6.12
    [GET]@6.2.0
    [EX seconds@2.6.12 | PX milliseconds@2.6.12 | EXAT unix-time-seconds@6.2.0
    | PXAT unix-time-milliseconds@6.2.0 | KEEPTTL@6.0.0]
SETEX key seconds value
SETNX key value
SETRANGE key offset value
STRLEN key
SUBSTR key start end

HDEL key field [field ...]
HEXISTS key field
HEXPIRE key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
HEXPIREAT key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
HEXPIRETIME key FIELDS numfields field [field ...]
HGET key field
HGETALL key
HGETDEL key FIELDS numfields field [field ...]
HGETEX key
    [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]
    FIELDS numfields field [field ...]
HINCRBY key field increment
HINCRBYFLOAT key field increment:double
HKEYS key
HLEN key
HMGET key field [field ...]
HMSET key field value [field value ...]
HPERSIST key FIELDS numfields field [field ...]
HPEXPIRE key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
HPEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
HPEXPIRETIME key FIELDS numfields field [field ...]
HPTTL key FIELDS numfields field [field ...]
HRANDFIELD key [count [WITHVALUES]]
HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]
HSET key field value [field value ...]
HSETEX key [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds
    | PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]
HSETNX key field value
HSTRLEN key field
HTTL key FIELDS numfields field [field ...]
HVALS key

BLMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout:double
BLMPOP timeout:double numkeys key [key ...] <LEFT | RIGHT> [COUNT count]
BLPOP key [key ...] timeout:double
BRPOP key [key ...] timeout:double
BRPOPLPUSH source destination timeout:double
LINDEX key index
LINSERT key <BEFORE | AFTER> pivot element
LLEN key
LMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT>
LMPOP numkeys key [key ...] <LEFT | RIGHT> [COUNT count]
LPOP key [count]@6.2.0
LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]
LPUSH key element [element ...]
LPUSHX key element [element ...]
LRANGE key start stop
LREM key count element
LSET key index element
LTRIM key start stop
RPOP key [count]@6.2.0
RPOPLPUSH source destination
RPUSH key element [element ...]
RPUSHX key element [element ...]

SADD key member [member ...]
SCARD key
SDIFF key [key ...]
SDIFFSTORE destination key [key ...]
SINTER key [key ...]
SINTERCARD numkeys key [key ...] [LIMIT limit]
SINTERSTORE destination key [key ...]
SISMEMBER key member
SMEMBERS key
SMISMEMBER key member [member ...]
SMOVE source destination member
SPOP key [count]@3.2.0
SRANDMEMBER key [count]@2.6.0
SREM key member [member ...]
SSCAN key cursor [MATCH pattern] [COUNT count]
SUNION key [key ...]
SUNIONSTORE destination key [key ...]

BZMPOP timeout:double numkeys key [key ...] <MIN | MAX> [COUNT count]
BZPOPMAX key [key ...] timeout:double
BZPOPMIN key [key ...] timeout:double
ZADD key [NX | XX]@3.0.2 [GT | LT]@6.2.0 [CH]@3.0.2 [INCR]@3.0.2 score member [score member ...]
ZCARD key
ZCOUNT key min:double max:double
ZDIFF numkeys key [key ...] [WITHSCORES]
ZDIFFSTORE destination numkeys key [key ...]
ZINCRBY key increment:double member
ZINTER numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]
ZINTERCARD numkeys key [key ...] [LIMIT limit]
ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]]
    [AGGREGATE <SUM | MIN | MAX>]
ZLEXCOUNT key min max
ZMPOP numkeys key [key ...] <MIN | MAX> [COUNT count]
ZMSCORE key member [member ...]
ZPOPMAX key [count]
ZPOPMIN key [count]
ZRANDMEMBER key [count [WITHSCORES]]
ZRANGE key start:string stop:string [BYSCORE | BYLEX]@6.2.0 [REV]@6.2.0
    [LIMIT offset count]@6.2.0 [WITHSCORES]
ZRANGEBYLEX key min max [LIMIT offset count]
ZRANGEBYSCORE key min:double max:double [WITHSCORES]@2.0.0 [LIMIT offset count]
ZRANGESTORE dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]
ZRANK key member [WITHSCORE]
ZREM key member [member ...]
ZREMRANGEBYLEX key min max
ZREMRANGEBYRANK key start stop
ZREMRANGEBYSCORE key min:double max:double
ZREVRANGE key start stop [WITHSCORES]
ZREVRANGEBYLEX key max min [LIMIT offset count]
ZREVRANGEBYSCORE key max:double min:double [WITHSCORES] [LIMIT offset count]
ZREVRANK key member [WITHSCORE]
ZSCAN key cursor [MATCH pattern] [COUNT count]
ZSCORE key member
ZUNION numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]
ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]]
    [AGGREGATE <SUM | MIN | MAX>]

XACK key group id [id ...]
XADD key [NOMKSTREAM]@6.2.0 [<MAXLEN | MINID@6.2.0> [= | ~] threshold [LIMIT count]@6.2.0] <* | id>
    field value [field value ...]
XAUTOCLAIM key group consumer min-idle-time start:string [COUNT count] [JUSTID]
XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms:integer] [TIME unix-time-milliseconds]
    [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]
XDEL key id [id ...]
XGROUP CREATE key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read:integer]
XGROUP CREATECONSUMER key group consumer
XGROUP DELCONSUMER key group consumer
XGROUP DESTROY key group
XGROUP SETID key group <id | $> [ENTRIESREAD entries-read:integer]
XINFO CONSUMERS key group
XINFO GROUPS key
XINFO STREAM key [FULL [COUNT count]]
XLEN key
XPENDING key group [[IDLE min-idle-time:integer]@6.2.0 start:string end:string count [consumer]]
XRANGE key start:string end:string [COUNT count]
XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]
XREADGROUP <GROUP group consumer> [COUNT count] [BLOCK milliseconds] [NOACK]
    STREAMS key [key ...] id [id ...]
XREVRANGE key end:string start:string [COUNT count]
XSETID key last-id [ENTRIESADDED entries-added:integer]@7.0.0 [MAXDELETEDID max-deleted-id]@7.0.0
XTRIM key <<MAXLEN | MINID@6.2.0> [= | ~] threshold [LIMIT count]@6.2.0>

BITCOUNT key [start:integer end:integer [BYTE | BIT]@7.0.0]
BITFIELD key [<GET encoding offset:integer | [OVERFLOW <WRAP | SAT | FAIL>]
    <SET encoding offset:integer value:integer | INCRBY encoding offset:integer increment:integer>> ...]
BITFIELD_RO key [GET encoding offset:integer [GET encoding offset:integer ...]]
BITOP <AND | OR | XOR | NOT | DIFF@8.2.0 | DIFF1@8.2.0 | ANDOR@8.2.0 | ONE@8.2.0> destkey:key key [key ...]
BITPOS key bit:integer [start:integer [end:integer [BYTE | BIT]@7.0.0]]
GETBIT key offset
SETBIT key offset value:integer

PFADD key [element [element ...]]
PFCOUNT key [key ...]
PFDEBUG subcommand key
PFMERGE destkey:key [sourcekey:key [sourcekey:key ...]]

GEOADD key [NX | XX]@6.2.0 [CH]@6.2.0 longitude:double latitude:double member
    [longitude:double latitude:double member ...]
GEODIST key member1 member2 [M | KM | FT | MI]
GEOHASH key [member [member ...]]
GEOPOS key [member [member ...]]
GEORADIUS key longitude:double latitude:double radius:double <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH]
    [COUNT count [ANY]@6.2.0] [ASC | DESC] [STORE key | STOREDIST key]
GEORADIUSBYMEMBER key member radius:double <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH]
    [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]
GEORADIUSBYMEMBER_RO key member radius:double <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH]
    [COUNT count [ANY]] [ASC | DESC]
GEORADIUS_RO key longitude:double latitude:double radius:double <M | KM | FT | MI>
    [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]@6.2.0] [ASC | DESC]
GEOSEARCH key <FROMMEMBER member | FROMLONLAT longitude:double latitude:double>
    <<BYRADIUS radius:double> <M | KM | FT | MI> | <BYBOX width:double> height:double <M | KM | FT | MI>>
    [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]
GEOSEARCHSTORE destination source <FROMMEMBER member | FROMLONLAT longitude:double latitude:double>
    <<BYRADIUS radius:double> <M | KM | FT | MI> | <BYBOX width:double> height:double <M | KM | FT | MI>>
    [ASC | DESC] [COUNT count [ANY]] [STOREDIST]

PSUBSCRIBE pattern [pattern ...]
PUBLISH channel message
PUBSUB CHANNELS [pattern]
PUBSUB NUMSUB [channel [channel ...]]
PUBSUB SHARDCHANNELS [pattern]
PUBSUB SHARDNUMSUB [shardchannel [shardchannel ...]]
PUNSUBSCRIBE [pattern [pattern ...]]
SPUBLISH shardchannel message
SSUBSCRIBE shardchannel [shardchannel ...]
SUBSCRIBE channel [channel ...]
SUNSUBSCRIBE [shardchannel [shardchannel ...]]
UNSUBSCRIBE [channel [channel ...]]

EVAL script numkeys [key [key ...]] [arg [arg ...]]
EVALSHA sha1 numkeys [key [key ...]] [arg [arg ...]]
EVALSHA_RO sha1 numkeys [key [key ...]] [arg [arg ...]]
EVAL_RO script numkeys [key [key ...]] [arg [arg ...]]
FCALL function numkeys [key [key ...]] [arg [arg ...]]
FCALL_RO function numkeys [key [key ...]] [arg [arg ...]]
FUNCTION DELETE library-name
FUNCTION FLUSH [ASYNC | SYNC]
FUNCTION LIST [LIBRARYNAME library-name-pattern] [WITHCODE]
FUNCTION LOAD [REPLACE] function-code
FUNCTION RESTORE serialized-value [FLUSH | APPEND | REPLACE]
SCRIPT DEBUG <YES | SYNC | NO>
SCRIPT EXISTS sha1 [sha1 ...]
SCRIPT FLUSH [ASYNC | SYNC]@6.2.0
SCRIPT LOAD script
WATCH key [key ...]

BGSAVE [SCHEDULE]@3.2.2
COMMAND DOCS [command-name [command-name ...]]
COMMAND GETKEYS command [arg [arg ...]]
COMMAND GETKEYSANDFLAGS command [arg [arg ...]]
COMMAND INFO [command-name [command-name ...]]
COMMAND LIST [FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]
CONFIG GET parameter [parameter ...]
CONFIG SET parameter value [parameter value ...]
DEBUG subcommand [arg [arg ...]]
FLUSHALL [ASYNC@4.0.0 | SYNC@6.2.0]
FLUSHDB [ASYNC@4.0.0 | SYNC@6.2.0]
INFO [section [section ...]]
LATENCY GRAPH event
LATENCY HISTOGRAM [command [command ...]]
LATENCY HISTORY event
LATENCY RESET [event [event ...]]
LOLWUT [VERSION version]
MEMORY USAGE key [SAMPLES count]
MODULE LOAD path [arg [arg ...]]
MODULE LOADEX path [CONFIG name value [CONFIG name value ...]] [ARGS args [args ...]]
MODULE UNLOAD name
FAILOVER [TO <host port [FORCE]>] [ABORT] [TIMEOUT milliseconds]
REPLICAOF <host port | NO ONE>
SHUTDOWN [[NOSAVE | SAVE] [NOW]@7.0.0 [FORCE]@7.0.0 | ABORT@7.0.0]
SLAVEOF <host port | NO ONE>
SLOWLOG GET [count]
SWAPDB index1 index2

CLUSTER ADDSLOTS slot [slot ...]
CLUSTER ADDSLOTSRANGE start-slot end-slot [start-slot end-slot ...]
CLUSTER COUNT-FAILURE-REPORTS node-id
CLUSTER COUNTKEYSINSLOT slot
CLUSTER DELSLOTS slot [slot ...]
CLUSTER DELSLOTSRANGE start-slot end-slot [start-slot end-slot ...]
CLUSTER FAILOVER [FORCE | TAKEOVER]
CLUSTER FORGET node-id
CLUSTER GETKEYSINSLOT slot count
CLUSTER KEYSLOT key:string
CLUSTER MEET ip port [cluster-bus-port]@4.0.0
CLUSTER REPLICAS node-id
CLUSTER REPLICATE node-id
CLUSTER RESET [HARD | SOFT]
CLUSTER SET-CONFIG-EPOCH config-epoch
CLUSTER SETSLOT slot <IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE>
CLUSTER SLAVES node-id
"""

# The type that an argument's name tells; all others are strings.
_NAMES_OF_TYPES = {
    "key": "key key1 key2 newkey source destination src dst",
    "integer": "client-id cluster-bus-port config-epoch count cursor db decrement destination-db end end-slot"
    " increment index index1 index2 len limit maxage milliseconds min-match-len num-matches numfields"
    " numkeys numlocal numreplicas offset port protover rank seconds slot start start-slot stop timeout"
    " version",
    "double": "score weight",
    "unix-time": "unix-time-seconds unix-time-milliseconds",
    "pattern": "pattern",
}
# Tokens that are no words, and their names.
_SYMBOLS = {"*": "auto-id", "$": "new-id", "=": "equal", "~": "approximately", '""': "empty-string"}
# The names of choices, by the name of all of it or of what is offered first; otherwise all of it names them.
_CHOICES = {
    "asc": "order",
    "async": "flush-type",
    "and": "operation",
    "auto-id": "id-selector",
    "before": "where",
    "byscore": "sortby",
    "byte": "unit",
    "client-id": "new-format",
    "equal": "operator",
    "flush": "policy",
    "fnx": "condition",
    "force": "options",
    "gt": "comparison",
    "hard": "reset-type",
    "host-port": "args",
    "id": "id-selector",
    "increment": "amount",
    "ip:port": "filter",
    "key": "store",
    "key-empty-string": "key-selector",
    "left": "where",
    "libname": "attr",
    "m": "unit",
    "maxlen": "strategy",
    "member": "from",
    "min": "where",
    "node-id": "subcommand",
    "nosave": "save-selector",
    "nx": "condition",
    "on": "enabled",
    "radius-unit": "by",
    "save-selector-now-force": "abort-selector",
    "seconds": "expiration",
    "timeout": "unblock-type",
    "value": "condition",
    "write": "mode",
    "yes": "mode",
}


class Argument(NamedTuple):
    """An argument as COMMAND DOCS tells it. ``key_index``: the how-many-th key of the command it is;
    patterns that give keys are one together."""

    name: str
    type: str
    token: str = ""
    since: str = ""
    until: str = ""
    optional: bool = False
    multiple: bool = False
    multiple_token: bool = False
    arguments: tuple[Argument, ...] = ()
    key_index: int = 0
    shown: str = ""  # the name as manuals show it


@cache
def _lines() -> dict[str, str]:
    """The syntax of each command by its full name ("client|kill"). O(n) commands."""
    found: dict[str, str] = {}
    for line in re.sub(r"\n\s+", " ", SYNTAX.replace("\n\n", "\n")).splitlines():
        match = re.match(r"((?:[A-Z][A-Z0-9_-]*(?: |$))+)(.*)", line)
        assert match is not None, line
        found[match[1].strip().lower().replace(" ", "|")] = match[2]
    return found


def names() -> set[str]:
    """The commands that take arguments ("get", "client|kill"). O(n) commands."""
    return set(_lines())


@cache
def arguments_of(full_name: str, version: tuple[int, ...]) -> tuple[Argument, ...]:
    """The arguments of a command as a version knows them. O(n) words of its syntax, once."""
    line = _lines().get(full_name)
    return _known(parse(line), version) if line is not None else ()


def _known(arguments: tuple[Argument, ...], version: tuple[int, ...]) -> tuple[Argument, ...]:
    """Without those that are newer than the version."""
    return tuple(
        each._replace(arguments=_known(each.arguments, version))
        for each in arguments
        if not each.since or tuple(map(int, each.since.split("."))) <= version
    )


def parse(line: str) -> tuple[Argument, ...]:
    """The arguments that a syntax describes. O(n) words. ValueError: it is none."""
    parser = _Parser(line)
    arguments = parser.sequence()
    if parser.words:
        raise ValueError(f"unexpected {parser.words[-1]!r} in {line!r}")
    return _numbered(arguments, [0, 0])


def _numbered(arguments: Sequence[Argument], keys: list[int]) -> tuple[Argument, ...]:
    """Keys numbered through ``keys``: the next number, and that of the patterns, 0 while there was none. Of
    siblings with one name the later ones are named after their token, or get a number.
    """
    numbered: list[Argument] = []
    seen: Counter[str] = Counter()
    for each in arguments:
        seen[each.name] += 1
        name = each.name
        if seen[name] > 1:
            name = each.token.lower() or f"{name}-{seen[name]}"
        key_index = 0
        if each.type == "key":
            key_index = keys[0]
            keys[0] += 1
        elif each.key_index:  # a pattern
            if not keys[1]:
                keys[1] = keys[0]
                keys[0] += 1
            key_index = keys[1]
        inner = _numbered(each.arguments, keys)
        numbered.append(each._replace(name=name, shown=each.name, arguments=inner, key_index=key_index))
    return tuple(numbered)


class _Parser:
    """Recursive descent; ``words`` has what is still to come, the next one last."""

    def __init__(self, line: str) -> None:
        self.words = re.findall(r"\.\.\.|@[^\s\]>|]+|[][<>|]|[^][<>|@\s]+", line)[::-1]

    def sequence(self) -> list[Argument]:
        """What follows one another, up to a bar or a closing bracket."""
        items: list[Argument] = []  # those that are complete
        taken: list[Argument] = []  # the token last met and what it takes so far
        while self.words and self.words[-1] not in ("|", "]", ">", "..."):
            word = self.words.pop()
            if word == "[":
                group, repeats = self._group("]")
                if repeats and _fold(taken, group):
                    continue
                items, taken = [*items, *_joined(taken)], []
                if not repeats:
                    name = "options" if group.type == "block" and not group.token else group.name
                    items.append(group._replace(name=name, optional=True))
                elif not _fold(items, group):
                    raise ValueError(f"{group.name} repeats nothing")
            elif word == "<":
                group = self._group(">")[0]
                repeats = self.words[-1:] == ["..."]
                if repeats:
                    self.words.pop()
                (taken or items).append(group._replace(multiple=repeats))
            elif word[0].isupper() or word in _SYMBOLS:
                name = _SYMBOLS.get(word, word.lower())
                items, taken = [*items, *_joined(taken)], [Argument(name, "pure-token", word)]
            else:
                (taken or items).append(_plain(word))
            self._marks(taken or items)
        return [*items, *_joined(taken)]

    def _group(self, end: str) -> tuple[Argument, bool]:
        """What is in brackets, and whether dots say that it repeats what is before them."""
        choices = [self.sequence()]
        while self.words and self.words[-1] == "|":
            self.words.pop()
            choices.append(self.sequence())
        repeats = bool(self.words) and self.words[-1] == "..."
        if repeats:
            self.words.pop()
        if not self.words or self.words.pop() != end or not all(choices):
            raise ValueError(f"brackets without {end!r} or with nothing in them")
        several = tuple(_one(choice) for choice in choices)
        if len(several) == 1:
            return several[0], repeats
        name = _name(several)
        name = _CHOICES.get(name) or _CHOICES.get(several[0].name, name)
        return Argument(name, "oneof", arguments=several), repeats

    def _marks(self, items: list[Argument]) -> None:
        """Since when the last item is there, and whether it repeats."""
        if self.words and self.words[-1].startswith("@"):
            version = self.words.pop()[1:]
            items[-1] = items[-1]._replace(
                **{"until": version[1:]} if version.startswith("-") else {"since": version}
            )
        if self.words[-1:] == ["..."] and self.words[-2:-1] != ["]"]:
            self.words.pop()
            items[-1] = items[-1]._replace(multiple=True)


def _plain(word: str) -> Argument:
    name, colon, type_ = word.rpartition(":")
    if colon and type_ in ("string", *_NAMES_OF_TYPES):
        return Argument(name, type_)
    if type_ == "keys" and colon:
        return Argument(name, "pattern", key_index=1)
    types = (type_ for type_, words in _NAMES_OF_TYPES.items() if word in words.split())
    return Argument(word, next(types, "string"))


def _name(arguments: Sequence[Argument]) -> str:
    return "-".join(each.name for each in arguments)


def _one(items: list[Argument]) -> Argument:
    """The items as one."""
    return items[0] if len(items) == 1 else Argument(_name(items), "block", arguments=tuple(items))


def _joined(taken: list[Argument]) -> list[Argument]:
    """A token with what it takes, as one argument; a token that takes nothing is one by itself."""
    if len(taken) < 2:
        return taken
    token, *values = taken
    value = _one(values)
    name = value.name if value.type not in ("oneof", "block") else token.name
    return [value._replace(name=name, token=token.token)]


def _fold(items: list[Argument], group: Argument) -> bool:
    """Let the last items be one that repeats, if they are what the group is."""
    several = list(group.arguments) if group.type == "block" and not group.token else [group]
    count = len(several)
    if items[-count:] != several:
        return False
    if count == 1:
        items[-1] = group._replace(multiple=True, multiple_token=bool(group.token))
    else:
        items[-count:] = [Argument("data", "block", multiple=True, arguments=tuple(several))]
    return True
