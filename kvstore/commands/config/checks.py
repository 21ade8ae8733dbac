"""What some textual directives refuse: each function gives the reason, or None.

Must not know: the table of directives.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Final

_HOSTNAME: Final = re.compile(r"[a-zA-Z0-9.-]*")
_LONGEST_HOSTNAME: Final = 255
# The line of a node in the cluster's file is split at these.
_NODENAME_REFUSED: Final = frozenset("\0!#$%&()*+;<>?@[]^{|}~")
_TITLE_VARIABLES: Final = frozenset(
    {"title", "listen-addr", "server-mode", "port", "tls-port", "unixsocket", "config-file"}
)
# Variables that are nothing while the template is checked: they alone would leave the title empty.
_EMPTY_VARIABLES: Final = frozenset({"title", "server-mode"})
_VARIABLE: Final = re.compile(r"\{\{|\{([^{}]*)\}|\{")
_C_LOCALES: Final = frozenset({"", "C", "POSIX", "C.UTF-8", "C.utf8"})


def plain_name(directive: str, what: str | None) -> Callable[[str], str | None]:
    """A file's name: not empty and, unless ``what`` is None, without a directory."""

    def check(text: str) -> str | None:
        if not text:
            return f"{directive} can't be empty"
        if what is not None and "/" in text:
            return f"{directive} can't be a path, just a {what}"
        return None

    return check


def hostname(text: str) -> str | None:
    if len(text) > _LONGEST_HOSTNAME:
        return f"Hostnames must be less than {_LONGEST_HOSTNAME + 1} characters"
    if not _HOSTNAME.fullmatch(text):
        return "Hostnames may only contain alphanumeric characters, hyphens or dots"
    return None


def human_nodename(text: str) -> str | None:
    if _NODENAME_REFUSED.isdisjoint(text):
        return None
    return "Announced human node name contained invalid character"


def ipv4(text: str) -> str | None:
    return _address(text, ipaddress.IPv4Address, "IPv4")


def ipv6(text: str) -> str | None:
    return _address(text, ipaddress.IPv6Address, "IPv6") if "%" not in text else "Invalid IPv6 address"


def _address(text: str, parse: Callable[[str], object], name: str) -> str | None:
    if text:
        try:
            parse(text)
        except ValueError:
            return f"Invalid {name} address"
    return None


def title_template(text: str) -> str | None:
    """Known variables only, and something left when they are put in."""

    def expand(match: re.Match[str]) -> str:
        if match[0] == "{{":
            return "{"
        if match[1] not in _TITLE_VARIABLES:
            raise LookupError
        return "" if match[1] in _EMPTY_VARIABLES else "x"

    try:
        if _VARIABLE.sub(expand, text).strip(" "):
            return None
    except LookupError:
        pass
    return "template format is invalid or contains unknown variables"


def locale_name(text: str) -> str | None:
    return None if text in _C_LOCALES else "Invalid locale name"


def shutdown_flags(flags: tuple[str, ...]) -> str | None:
    if "save" in flags and "nosave" in flags:
        return "shutdown options SAVE and NOSAVE can't be used simultaneously"
    return None
