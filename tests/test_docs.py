"""The documents are true: their examples run, their links lead somewhere, their lists are complete.

- A ```python block runs after those before it on the same page, in an empty directory. A comment behind
  an expression is its value (compared by ``eval``), or ``raises X``, or, in words, what it is (``a redis.Redis``:
  an instance of it). Remarks stand on lines of their own or behind statements.
- ``kvstore serve`` lines of ```sh blocks are not run; the options that they name must be directives.
- docs/differences.md names every difference that the tests accept, and only those.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.commands.all import COMMANDS
from kvstore.commands.config.directives import NAMES
from tests import test_config_oracle
from tests.differential import grammar as grammars
from tests.differential.known import KNOWN
from tests.rawclient import parse
from tests.servers import Server

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
DIFFERENCES = ROOT / "docs" / "differences.md"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a language, each with the number of its first line."""
    text = page.read_text()
    return [
        (text.count("\n", 0, found.start(2)) + 1, found[2])
        for found in _FENCE.finditer(text)
        if found[1] == language
    ]


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


# -- examples ----------------------------------------------------------------------------------------------


def _comments(source: str) -> dict[int, str]:
    """The comments behind code, by line."""
    lines = source.splitlines()
    return {
        token.start[0]: token.string.lstrip("# ").rstrip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and lines[token.start[0] - 1][: token.start[1]].strip()
    }


class _Checked(ast.NodeTransformer):
    """Puts a check around every expression that has a comment behind it."""

    def __init__(self, comments: dict[int, str]):
        self._comments = comments
        self.count = 0

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        comment = self._comments.get(node.end_lineno or 0)
        if comment is None:
            return node
        self.count += 1
        arguments = f"({node.lineno}, {comment!r})"
        if comment.startswith("raises "):
            with_ = ast.parse(f"with _raises{arguments}:\n    pass").body[0]
            assert isinstance(with_, ast.With)
            with_.body = [node]
            return with_
        check = ast.parse(f"_check{arguments}").body[0]
        assert isinstance(check, ast.Expr) and isinstance(check.value, ast.Call)
        check.value.args.append(node.value)
        return check


def run_examples(page: Path) -> int:
    """Run a page's examples; how many results were compared."""
    names: dict[str, Any] = {"__name__": "__example__"}

    def check(line: int, comment: str, value: object) -> None:
        where = f"{_name(page)}, line {start + line - 1}"
        instance = re.match(r"an? ([\w.]+)(;|$)", comment)
        if instance is not None:
            assert isinstance(value, eval(instance[1], names)), f"{where}: {value!r}"
            return
        wanted = eval(comment, names)
        same = isinstance(value, type(wanted)) and isinstance(wanted, bool) == isinstance(value, bool)
        assert value == wanted and same, f"{where}: {value!r}"

    @contextlib.contextmanager
    def raises(line: int, comment: str) -> Iterator[None]:
        import kvstore

        with pytest.raises(getattr(kvstore, comment.split()[1])):
            yield

    names |= {"_check": check, "_raises": raises}
    count = 0
    for start, source in _blocks(page, "python"):
        checked = _Checked(_comments(source))
        tree = ast.fix_missing_locations(checked.visit(ast.parse(source)))
        count += checked.count
        code = compile(tree, f"{_name(page)}, after line {start - 1}", "exec")
        exec(code, names)
    return count


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page, "python")], ids=_name)
def test_the_examples_do_what_they_say(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.name == "store.md":
        pytest.importorskip("lupa")
    monkeypatch.chdir(tmp_path)
    run_examples(page)


def test_a_wrong_example_is_found(tmp_path: Path) -> None:
    for source in (
        "1 + 1  # 3",
        "1 + 1  # 2.0",
        "1  # raises StoreError",
        "[1,\n 2]  # [1]",
        "1  # some number",
    ):
        page = ROOT / "docs" / "wrong.md"
        text = f"```python\n{source}\n```\n"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "read_text", lambda self, text=text: text)
            with pytest.raises((AssertionError, SyntaxError, pytest.fail.Exception)):
                run_examples(page)


# -- links and command lines -------------------------------------------------------------------------------


def _anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make."""
    heads = re.findall(r"^#+ +(.*)$", _prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), target
        assert not anchor or anchor in _anchors(to), target


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_files_named_in_the_text_are_there(page: Path) -> None:
    for path in re.findall(r"`((?:tests|kvstore|docs|benchmarks)/[^` ]+)`", _prose(page)):
        assert any(ROOT.glob(path)), path


def _command_lines(page: Path) -> list[str]:
    """What follows ``kvstore serve`` in the blocks for a shell and in the text."""
    lines = "\n".join(source for _, source in _blocks(page, "sh")).replace("\\\n", " ").splitlines()
    quoted = re.findall(r"`([^`]+)`", _prose(page))
    found = [line.split("kvstore serve", 1)[1] for line in [*lines, *quoted] if "kvstore serve" in line]
    return [re.split(r" [&|;>]| #", line)[0] for line in found]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_options_of_kvstore_serve_are_directives(page: Path) -> None:
    for line in _command_lines(page):
        for word in shlex.split(line):
            if word.startswith("--") and word not in ("--unix", "--help", "--directive"):
                assert word[2:].split()[0].lower() in NAMES, line


# -- docs/differences.md -----------------------------------------------------------------------------------

Row = tuple[str, ...]
SERVERS = {"redis": "redis 7.0", "valkey": "valkey 8.0"}


def _table(*head: str) -> list[Row]:
    """The rows of the table that has this head."""
    lines = DIFFERENCES.read_text().split(f"\n| {' | '.join(head)} |\n")[1].splitlines()[1:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    return rows


def _names(cell: str) -> frozenset[str]:
    return frozenset(re.findall(r"`([^`]+)`", cell))


def _accepted() -> dict[Row, frozenset[str]]:
    """All differences between servers that the differential tests know: (server, reason) and commands."""
    known = [*KNOWN, *(entry for name in grammars.families() for entry in grammars.load(name).known)]
    found: dict[Row, frozenset[str]] = {}
    for entry in known:
        row = (SERVERS[entry.server], entry.reason)
        found[row] = found.get(row, frozenset()) | entry.commands
    return found


def test_the_table_of_accepted_differences_is_that_of_the_tests() -> None:
    rows = _table("Server", "Commands", "What the tests accept", "Who departs from 7.4")
    accepted = _accepted()
    assert {(server, what) for server, _, what, _ in rows} == accepted.keys()
    assert len(rows) == len(accepted)
    for server, commands, what, who in rows:
        if _names(commands):  # not in words
            assert _names(commands) == accepted[server, what], what
        assert who.split(":")[0] in ("the server", "kvstore"), what


def test_the_accepted_answers_of_config_set_are_those_of_the_tests() -> None:
    rows = _table("Server", "Directive", "Value", "Why", "Who departs from 7.4")
    told = {row[:4] for row in rows}
    otherwise = test_config_oracle.OTHERWISE.items()
    expected = {(SERVERS[kind], f"`{name}`", "any", why) for (kind, name), why in otherwise}
    expected |= {
        ("both", f"`{name}`", f"`{value.decode()}`", why)
        for (name, value), why in test_config_oracle.KNOWN.items()
    }
    assert told == expected


@pytest.mark.parametrize(
    ("opening", "names"),
    [
        ("Defaults that Valkey changed after 7.2:", test_config_oracle.VALKEY_DEFAULTS),
        ("Shown by 7.0 and hidden since:", test_config_oracle.HIDDEN_SINCE_7_0),
    ],
)
def test_directives_on_which_the_servers_differ_are_named(opening: str, names: set[str]) -> None:
    assert _names(DIFFERENCES.read_text().split(opening)[1].split(".\n")[0]) == names


def test_the_rewordings_of_scripts_errors_are_those_of_the_tests() -> None:
    pytest.importorskip("lupa")
    from tests.test_lua_differential import REWORDED

    told = _table("Valkey", "Redis and kvstore")
    assert told == [(theirs.decode(), ours.decode()) for theirs, ours in REWORDED]


def _missing_by_the_page() -> set[str]:
    return {name for _, cell in _table("What", "Commands") for name in _names(cell.split("(")[0])}


def test_commands_that_are_said_not_to_be_there_are_not_there() -> None:
    for name in _missing_by_the_page():
        head, _, sub = name.partition(" ")
        assert head not in COMMANDS or (sub and sub not in COMMANDS[head].subcommands), name


def _names_and_ages(server: Server) -> dict[str, tuple[int, ...]]:
    """All commands and subcommands ("CLIENT LIST"), with the version that brought them."""
    found: dict[str, tuple[int, ...]] = {}
    with server.client() as client:
        client.hello3()
        docs = parse(client.call("COMMAND", "DOCS")).items or ()
    todo = list(zip(docs[::2], docs[1::2], strict=True))
    while todo:
        name, node = todo.pop()
        items = node.items or ()
        parts = {key.text: value for key, value in zip(items[::2], items[1::2], strict=True)}
        since = parts[b"since"].text.decode()
        found[name.text.decode().upper().replace("|", " ")] = tuple(map(int, since.split(".")))
        if b"subcommands" in parts:
            below = parts[b"subcommands"].items or ()
            todo += zip(below[::2], below[1::2], strict=True)
    return found


def test_every_command_of_7_2_that_is_not_there_is_named(any_server: Server) -> None:
    told = _missing_by_the_page()
    for name, since in _names_and_ages(any_server).items():
        head, _, sub = name.partition(" ")
        here = head in COMMANDS and (not sub or sub in COMMANDS[head].subcommands)
        assert here or name in told or head in told or since > (7, 2, 99), name


def test_fields_of_info_that_are_not_there_are_named(kvstore_server: Server, redis_server: Server) -> None:
    def fields(server: Server) -> set[str]:
        with server.client() as client:
            lines = parse(client.call("INFO", "default")).text.decode().splitlines()
        names = {line.split(":")[0] for line in lines if ":" in line}
        return {name for name in names if not name.startswith(("errorstat_", "db", "listener"))}

    [line] = re.findall(r"^- \*\*INFO\*\* .*$", DIFFERENCES.read_text(), re.M)
    assert fields(redis_server) - fields(kvstore_server) <= _names(line)
