"""Deletes the files of a log that nobody needs any more: history, and what crashes have left.

Only what is surely a log's own goes: by the pattern of its name, and older than all that the manifest names.
A file that is newer may be all that is left of something, so it stays.

Must not know: what the files hold.
"""

from __future__ import annotations

import os

from kvstore.persist.fs import FileSystem
from kvstore.persist.manifest import TEMPORARY, Manifest, file_of, manifest_name


def leftovers(
    fs: FileSystem, directory: str, appendfilename: str, manifest: Manifest, *, temporary: bool
) -> set[str]:
    """Files that no manifest names: bases and increments before those that count, and ``temporary`` ones,
    where the caller knows that nobody is writing one. None where the directory cannot be read."""
    try:
        names = fs.listdir(directory)
    except OSError:
        return set()
    named = manifest.names()
    first_increment = min((file.seq for file in manifest.increments), default=0)
    oldest = {"b": 0 if manifest.base is None else manifest.base.seq, "i": first_increment}
    found = set()
    for name in names:
        if name in named:
            continue
        file = file_of(appendfilename, name)
        if file is not None:
            if file.seq < oldest[file.kind]:
                found.add(name)
        elif (
            temporary
            and name.startswith(TEMPORARY)
            and (name == TEMPORARY + manifest_name(appendfilename) or name.endswith((".rdb", ".aof")))
        ):
            found.add(name)
    return found


def delete_files(fs: FileSystem, directory: str, names: list[str]) -> None:
    """Delete files, those that are there. Raises OSError, after having tried all of them."""
    error: OSError | None = None
    for name in names:
        try:
            fs.unlink(os.path.join(directory, name))
        except FileNotFoundError:
            pass
        except OSError as raised:
            error = raised
    if error is not None:
        raise error
