"""What a blocking method of a bare store does when nothing is there to serve it.

Must not know: values, sessions.
"""

from __future__ import annotations

from typing import Any

from kvstore.errors import err


def refuse_for_ever(timeout: Any) -> None:
    """Nobody else can use the store meanwhile: a wait with a timeout is over at once, one without would
    never end. Raises ResponseError for the latter."""
    if not timeout:
        raise err("a blocking call without a timeout would wait for ever: nobody else can use this store")
