"""Writes docs/configuration.md from the table of directives.

    python -m kvstore.commands.config.document > docs/configuration.md

Must not know: anything that the table does not say.
"""

from __future__ import annotations

import sys
from typing import Final

from kvstore.commands.config.directives import SECTIONS, Directive

_HEAD: Final = """\
# Configuration

A kvstore server reads Redis's configuration format and knows every directive of Redis 7.4 and Valkey 8.0, with
the defaults of Redis 7.4: in a file, as options (`kvstore serve redis.conf --maxmemory 100mb --save ""`), through
`CONFIG GET` and `CONFIG SET`, and back into the file by `CONFIG REWRITE`. An unknown directive stops the start.

- Options come after the file and count more than it does. All words up to the next `--name` belong to the option
  before. `-` as first or last argument reads more lines from standard input.
- `--unix PATH` is short for `--unixsocket PATH`; unless a port is given too, no port is listened on.
- `include` takes a path or a glob, relative to `dir`.
- `loadmodule` and the settings of modules are refused: kvstore has no modules. So is Sentinel mode.
- `dir` is where files go; unlike redis-server, kvstore never changes the process's working directory.
- Sizes may have a unit: `1k` is 1000 bytes, `1kb` 1024, and so on with `m`, `mb`, `g`, `gb`, in any case.

"Here" says what a directive does in kvstore: **used** as in Redis; **kept**: accepted and shown, without effect, for the
reason given; **not yet**: kept until the part that it steers is there. "Fixed" ones can only be set before the start;
those that are "protected" can be set later if `enable-protected-configs` says so; "hidden" ones are shown by
`CONFIG GET` to their exact name alone. "Since": hidden where `compat-version` is older.
"""


def _default(directive: Directive) -> str:
    shown = directive.kind.show(directive.default).decode()
    return f"`{shown}`" if shown else "empty"


def _change(directive: Directive) -> str:
    words = [
        word
        for word, holds in (
            ("fixed", directive.immutable),
            ("protected", directive.protected),
            ("hidden", directive.hidden),
            (f"since {'.'.join(map(str, directive.since))}", directive.since > (7, 0)),
        )
        if holds
    ]
    return ", ".join(words)


def _row(directive: Directive) -> str:
    names = ", ".join(f"`{name}`" for name in (directive.name, *directive.aliases))
    cells = (
        names,
        directive.kind.describe().replace("|", "\\|"),
        _default(directive),
        _change(directive),
        f"**{directive.effect}**: {directive.note}",
    )
    return f"| {' | '.join(cells)} |"


def document() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, directives in SECTIONS.items():
        rows = "\n".join(map(_row, directives))
        parts.append(
            f"## {title}\n\n| Directive | Value | Default | | Here |\n|---|---|---|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(document())
