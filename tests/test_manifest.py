"""The manifest of a log: what is read, what is refused as the real servers refuse it, and how it changes."""

from __future__ import annotations

import errno

import pytest

from kvstore.errors import FormatError, PersistenceError
from kvstore.persist.manifest import (
    LogFile,
    Manifest,
    base_name,
    file_of,
    increment_name,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from tests.memfs import MemFS

INCREMENT = b"file a.aof.1.incr.aof seq 1 type i"


def test_it_names_base_increments_and_history() -> None:
    text = (
        b"# a comment\n"
        b"file a.aof.2.base.rdb seq 2 type b\n"
        b"file a.aof.1.incr.aof seq 1 type h\n"
        b"file a.aof.3.incr.aof seq 3 type i startoffset 0\n"
        b'FILE "a.aof.4.incr.aof"  SEQ 4 TYPE i\r\n'
    )
    found = parse_manifest(text)
    assert found.base == LogFile("a.aof.2.base.rdb", 2, "b")
    assert [file.seq for file in found.increments] == [3, 4]
    assert found.history == (LogFile("a.aof.1.incr.aof", 1, "h"),)
    assert [file.name for file in found.files] == [
        "a.aof.2.base.rdb",
        "a.aof.3.incr.aof",
        "a.aof.4.incr.aof",
    ]


# As redis-server 7.0 and valkey-server 8.0 start or do not start with them.
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        INCREMENT,
        INCREMENT + b"\n\n",
        b"file a.1.incr.aof seq 1\n",
        b"file a.1.incr.aof seq 1 type\n",
        b"file a.1.incr.aof seq 1 type z\n",
        b"file a.1.incr.aof seq 0 type i\n",
        b"file a.1.incr.aof seq -1 type i\n",
        b"file a.1.incr.aof seq x type i\n",
        b"file x/a.1.incr.aof seq 1 type i\n",
        b'file "a.1.incr.aof seq 1 type i\n',
        b"file a\0b seq 1 type i\n",
        b"file a seq 2 type i\nfile b seq 2 type i\n",
        b"file a seq 1 type b\nfile b seq 2 type b\n",
        (INCREMENT + b" more ").ljust(1024, b"x") + b"\n",
    ],
)
def test_what_the_servers_refuse_is_refused_with_file_and_line(text: bytes) -> None:
    with pytest.raises(FormatError, match="/d/m: ") as caught:
        parse_manifest(text, "/d/m")
    assert text == b"" or "line" in str(caught.value)


def test_the_longest_line_that_the_servers_read_is_read() -> None:
    line = (INCREMENT + b" more ").ljust(1023, b"x") + b"\n"
    assert len(parse_manifest(line).increments) == 1


@pytest.mark.parametrize("name", ["my log.aof", 'quo"te', "back\\slash", "línea", "a\nb\x01", "plain.aof"])
def test_any_name_survives_writing_and_reading(name: str) -> None:
    manifest = Manifest(LogFile(base_name(name, 1, True), 1, "b")).with_increment(increment_name(name, 1), 1)
    assert parse_manifest(manifest.text()) == manifest


def test_every_byte_flipped_is_refused_or_read() -> None:
    text = Manifest(LogFile("a.1.base.rdb", 1, "b")).with_increment("a.1.incr.aof", 1).text()
    for at in range(len(text)):
        for bit in range(8):
            changed = bytearray(text)
            changed[at] ^= 1 << bit
            try:
                parse_manifest(bytes(changed))
            except FormatError:
                pass


def test_numbers_go_on_behind_all_files_that_are_named() -> None:
    manifest = Manifest(LogFile("a.4.base.rdb", 4, "b"), (LogFile("a.7.incr.aof", 7, "i"),))
    changed = manifest.with_base(LogFile("a.5.base.aof", 5, "b"), (LogFile("a.8.incr.aof", 8, "i"),))
    assert {file.name for file in changed.history} == {"a.4.base.rdb", "a.7.incr.aof"}
    assert (changed.next_base(), changed.next_increment()) == (6, 9)
    assert changed.without_history({"a.7.incr.aof"}).history == (LogFile("a.4.base.rdb", 4, "h"),)
    assert (Manifest().next_base(), Manifest().next_increment()) == (1, 1)


def test_a_name_says_what_a_file_is() -> None:
    assert file_of("a.aof", "a.aof.12.incr.aof") == LogFile("a.aof.12.incr.aof", 12, "i")
    assert file_of("a.aof", "a.aof.3.base.rdb") == LogFile("a.aof.3.base.rdb", 3, "b")
    for other in ("a.aof", "a.aof.manifest", "b.aof.1.incr.aof", "a.aof.01.incr.aof", "a.aof.1.incr.aof.bak"):
        assert file_of("a.aof", other) is None


def test_a_new_manifest_is_there_whole_or_not_at_all() -> None:
    old, new = Manifest().with_increment("a.1.incr.aof", 1), Manifest().with_increment("a.2.incr.aof", 2)
    for operation in range(1, 6):
        fs = MemFS("/d")
        write_manifest(fs, "/d", "a", old)
        fs.fail_at(fs.operations + operation, errno.ENOSPC)
        with pytest.raises(PersistenceError, match=r"cannot write /d/a\.manifest"):
            write_manifest(fs, "/d", "a", new)
        assert read_manifest(fs, "/d", "a") in (old, new)
        assert fs.open_files == 0


def test_one_that_cannot_be_read_is_an_error_that_names_it() -> None:
    fs = MemFS("/d")
    assert read_manifest(fs, "/d", "a") is None
    fs.put("/d/a.manifest", INCREMENT + b"\n")
    fs.make_unreadable("/d/a.manifest")
    with pytest.raises(PersistenceError, match=r"cannot read /d/a\.manifest"):
        read_manifest(fs, "/d", "a")
