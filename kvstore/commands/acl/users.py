"""The users of a hub: who they are, who logs in as whom, and what becomes of sessions when they change.

Invariants
- There is always a user ``default``, the same object all the time: what new connections are.
- A session's user is one of these, or ``owner``: that of the program that holds the store.
- A change of a user happens whole or not at all. Its sessions then have the table that fits; who listens to
  channels that the user may no longer hear, or is logged in as a user who is gone, is disconnected.

Costs: a change is O(sessions). Must not know: sockets, the words of commands.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

from kvstore.commands.acl.lines import read_users
from kvstore.commands.acl.log import AclLog
from kvstore.commands.acl.selector import COMMAND, REASONS, Refusal, RuleError, has_space
from kvstore.commands.acl.user import Unmatched, User, join_selectors
from kvstore.commands.client import describe, type_of
from kvstore.commands.config import ConfigError, Line
from kvstore.commands.config.rewrite import replace_file
from kvstore.commands.registry import COMMANDS, Argv, Command
from kvstore.errors import ResponseError, err

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session

log = logging.getLogger("kvstore")

DEFAULT: Final = b"default"
_NO_FILE: Final = (
    "This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER"
    " command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store"
    " users in the Redis configuration."
)
_NOT_SAVED: Final = (
    "There was an error trying to save the ACLs. Please check the server logs for more information"
)
_BOTH: Final = (
    "Cannot start with users in the configuration and an aclfile: describe users in one of the two, as what is in the"
    " other would be a security hole"
)


@cache
def _owner() -> User:
    """Whose sessions no rule restricts: those of the program that holds the store. Never changed."""
    return User.almighty(DEFAULT)


class Users:
    """All users of one hub."""

    def __init__(self, hub: Hub):
        self._hub = hub
        self.default = User.almighty(DEFAULT)
        self.owner = _owner()
        self._users: dict[bytes, User] = {DEFAULT: self.default}
        self._file: str | None = None
        self.log = AclLog()
        self.on_change: list[Callable[[], None]] = []  # called after any change

    def __iter__(self) -> Iterator[User]:
        """The users by name."""
        return (self._users[name] for name in sorted(self._users))

    def get(self, name: bytes) -> User | None:
        return self._users.get(name)

    # -- changes -----------------------------------------------------------------------------------

    def set_user(self, name: str | bytes, *rules: str | bytes) -> None:
        """Make a user, or change one, by rules as ACL SETUSER takes them: all or none.

            hub.users.set_user("ann", "on", ">secret", "~app:*", "&news", "+@read", "+set")

        Raises ResponseError, with the server's text. O(rules * commands + sessions).
        """
        raw = _raw(name)
        if has_space(raw):
            raise err("Usernames can't contain spaces or null characters")
        words = [_raw(rule) for rule in rules]
        user = self._users.get(raw)
        changed = self.new_user(raw) if user is None else user.copy()
        try:
            joined = join_selectors(words)
        except Unmatched as unmatched:
            raise err(
                f"Unmatched parenthesis in acl selector starting at '{_shown(words[unmatched.at])}'."
            ) from None
        for rule in joined:
            try:
                self.apply(changed, rule)
            except RuleError as error:
                raise err(f"Error in ACL SETUSER modifier '{_shown(rule)}': {error}") from None
        if user is None:
            self._users[raw] = changed
        else:
            self._replace(user, changed)
        self._changed()

    def delete(self, *names: str | bytes) -> int:
        """Delete users and disconnect who is logged in as one; how many there were. O(sessions) each.

        Raises ResponseError, before anything is done, if one of them is the default user.
        """
        raws = [_raw(name) for name in names]
        if DEFAULT in raws:
            raise err("The 'default' user cannot be removed")
        gone = [user for raw in dict.fromkeys(raws) if (user := self._users.get(raw)) is not None]
        self._remove(gone)
        self._changed()
        return len(gone)

    def _remove(self, users: list[User]) -> None:
        """Forget users; who is logged in as one is disconnected."""
        for user in users:
            del self._users[user.name]
        for session in list(self._hub.sessions.values()):
            if session.user in users:
                session.user = self.default
                session.authenticated = False
                session.kill()

    def set_default_password(self, password: bytes) -> None:
        """requirepass: the one password of the default user; none where it is empty."""
        if not password and self.default.nopass:
            return  # as it is from the start
        changed = self.default.copy()
        for rule in (b"resetpass", b">" + password if password else b"nopass"):
            self.apply(changed, rule)
        self._replace(self.default, changed)
        self._changed()

    def new_user(self, name: bytes) -> User:
        """A user as SETUSER makes it without rules, that is not yet one of these."""
        return User(name, self._all_channels)

    def apply(self, user: User, rule: bytes) -> None:
        """Change a user that is not yet one of these. Raises RuleError."""
        user.apply(rule, self.find_command, self._all_channels)

    @property
    def _all_channels(self) -> bool:
        return bool(self._hub.config["acl-pubsub-default"] == "allchannels")

    def find_command(self, name: bytes) -> Command | None:
        """The command, or subcommand ("config|get"), of that name, whatever rename-command says."""
        head, *tail = name.upper().decode("latin-1").split("|")
        command = COMMANDS.get(head)
        if command is not None and tail:
            command = command.subcommands.get(tail[0]) if len(tail) == 1 else None
        return command if command is not None and self._hub.is_visible(command) else None

    def _replace(self, user: User, changed: User) -> None:
        """Let a user become another; who listens to what it may no longer hear is disconnected."""
        before, after = user.channel_rules, changed.channel_rules
        user.take(changed)
        if after is None or (before is not None and before <= after):
            return
        for session in list(self._hub.sessions.values()):
            if session.user is user and _overhears(session):
                session.kill()

    def _changed(self) -> None:
        for session in self._hub.sessions.values():
            session.check_login()
        for call in self.on_change:
            call()

    # -- logging in ----------------------------------------------------------------------------------

    @property
    def needs_login(self) -> bool:
        """Whether new connections may do nothing before they log in."""
        return not self.default.nopass or not self.default.enabled

    def log_in(self, session: Session, name: bytes, password: bytes, word: bytes) -> None:
        """Log a session in. ``word``: the command that asks, for the log. O(passwords of the user).

        Raises WRONGPASS, which is the same whatever was wrong.
        """
        user = self._users.get(name)
        known = (self.default if user is None else user).knows(
            password
        )  # as long for a name that is not there
        if user is None or not user.enabled or not known:
            context = "multi" if session.in_multi else "toplevel"
            self._log(session, "auth", context, word, name)
            raise ResponseError("WRONGPASS invalid username-password pair or user is disabled.")
        session.log_in(user)

    # -- refusals --------------------------------------------------------------------------------------

    def refuse(self, session: Session, command: Command, argv: Argv, refusal: Refusal, context: str) -> str:
        """Log that a request was refused; what to tell. O(entries of the log)."""
        why, at = refusal
        what = command.full_name.encode() if why == COMMAND else argv[at]
        self._log(session, REASONS[why], context, what, session.user.name)
        if why == COMMAND:
            name = session.user.name.decode("utf-8", "surrogateescape")
            return f"User {name} has no permissions to run the '{command.full_name}' command"
        return f"No permissions to access a {REASONS[why]}"

    def _log(self, session: Session, reason: str, context: str, what: bytes, username: bytes) -> None:
        client = describe(session).encode("latin-1", "replace")
        self.log.add(reason, context, what, username, client, self._hub.ctx.now())

    # -- files -----------------------------------------------------------------------------------------

    def start(self, lines: list[Line]) -> None:
        """Take over the users of the configuration: its ``user`` lines, or those of its aclfile.

        Raises ConfigError, as nobody must find out later that a user may do more than was meant.
        """
        config = self._hub.config
        if config["aclfile"]:
            if lines:
                raise ConfigError(_BOTH)
            self._file = os.path.join(config["dir"], config["aclfile"])
            try:
                self.load()
            except ResponseError as error:
                text = str(error).removeprefix("ERR ")
                raise ConfigError(f"Aborting startup because of ACL errors: {text}") from None
            if config["requirepass"] and self.default.nopass:
                log.warning(
                    "requirepass is void, as the aclfile goes before it and gives the default user no password"
                )
            return
        named: set[bytes] = set()
        for line in lines:
            user = self._of_line(line, named)
            named.add(user.name)
            if user.name == DEFAULT:
                self.default.take(user)
            else:
                self._users[user.name] = user
            if not user.enabled:
                log.warning(
                    "The user '%s' is disabled (there is no 'on' modifier in the user description). Make sure this"
                    " is not a configuration error.",
                    _shown(user.name),
                )

    def _of_line(self, line: Line, named: set[bytes]) -> User:
        """The user of a line of the configuration. Raises ConfigError."""
        _, name, *words = line.words or [b"", b""]
        version = self._hub.config["compat-version"]
        if name in named:
            reason = "Duplicate user found. A user can only be defined once in config files"
            raise line.refuse(f"Error in user declaration '{_shown(name)}': {reason}", version)
        if has_space(name):
            raise line.refuse("Spaces not allowed in ACL usernames", version)
        user = self.new_user(name)
        try:
            for rule in join_selectors(words):
                try:
                    self.apply(user, rule)
                except RuleError as error:
                    raise line.refuse(
                        f"Error in user declaration '{_shown(rule)}': {error}", version
                    ) from None
        except Unmatched as unmatched:
            raise line.refuse(
                f"Error in user declaration '{_shown(words[unmatched.at])}': {unmatched}", version
            ) from None
        return user

    def load(self) -> None:
        """ACL LOAD: the users of the aclfile take the place of these, all or none. O(users + sessions).

        Raises ResponseError with all that is wrong with the file.
        """
        if self._file is None:
            raise err(_NO_FILE)
        users = read_users(self._file, self.new_user, self.apply)
        default = users.pop(DEFAULT, None) or User.almighty(DEFAULT)
        self._remove([user for name, user in self._users.items() if name not in users and name != DEFAULT])
        self._replace(self.default, default)
        for name, user in users.items():
            known = self._users.setdefault(name, user)
            if known is not user:
                self._replace(known, user)
        self._changed()

    def save(self) -> None:
        """ACL SAVE: write all users to the aclfile, in one step. O(users).

        Raises ResponseError where there is no such file, or it cannot be written.
        """
        if self._file is None:
            raise err(_NO_FILE)
        text = b"".join(b"user %b\n" % line for line in self.lines())
        try:
            replace_file(self._file, text)
        except OSError as error:
            log.warning("Saving ACLs to '%s': %s", self._file, os.strerror(error.errno or 0))
            raise err(_NOT_SAVED) from None

    def lines(self) -> list[bytes]:
        """What describes each user in a file, name first. O(users)."""
        return [b"%b %b" % (user.name, user.describe()) for user in self]

    def lines_for_config(self) -> list[bytes]:
        """What CONFIG REWRITE writes: nothing where there is an aclfile."""
        return [] if self._file is not None else self.lines()


def _overhears(session: Session) -> bool:
    """Whether the session listens to anything that its user may not hear."""
    if type_of(session) != "pubsub":
        return False
    allows = session.user.allows_channel
    return not (
        all(allows(pattern, True) for pattern in session.patterns)
        and all(allows(channel, False) for channel in (*session.channels, *session.shard_channels))
    )


def _raw(word: str | bytes) -> bytes:
    return word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word


def _shown(word: bytes) -> str:
    return word.partition(b"\0")[0].decode("utf-8", "surrogateescape")
