"""When cold values are packed: the directive ``pack-cold-after``, and slices of the work between commands.

Must not know: what is packed, and how.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvstore.commands.tables import LOADING
from kvstore.engine.packing import Packer

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub

# Passes in the time after which an unused value is to be packed: one before which it must have been there, one
# that packs it, and one to spare, as a pass takes its time.
_PASSES: Final = 3
# A slice, and the pause until the next one: a tenth of one CPU at most, and no command waits for longer.
_SLICE_NS: Final = 300_000
_PAUSE_MS: Final = 3


class Packing:
    """Has a hub's timers pack what is cold."""

    def __init__(self, hub: Hub):
        self._hub = hub
        self._packer = Packer(hub.ctx)
        self._epoch = 0  # timers of an earlier one do nothing
        self._due_ms = 0  # when the next pass is to begin
        hub.config.on_change("pack-cold-after", self._follow)
        self._follow()

    @property
    def _period_ms(self) -> int:
        seconds: int = self._hub.config["pack-cold-after"]
        return seconds * 1000 // _PASSES

    def _follow(self) -> None:
        self._epoch += 1
        self._due_ms = 0
        if not self._period_ms:
            self._packer.stop()
        else:
            self._at(self._hub.ctx.now() + self._period_ms)

    def _at(self, at_ms: int) -> None:
        epoch = self._epoch

        def call() -> None:
            if epoch == self._epoch:
                self._go_on()

        self._hub.call_at(at_ms, call)

    def _go_on(self) -> None:
        now = self._hub.ctx.now()
        # What is being loaded is not whole, and a script that takes long has left its unit open.
        if LOADING in self._hub.features or self._hub.ctx.units:
            self._at(now + 1000)
            return
        self._due_ms = self._due_ms or now + self._period_ms
        if self._packer.step(_SLICE_NS):
            self._at(max(self._due_ms, now + _PAUSE_MS))
            self._due_ms = 0
        else:
            self._at(now + _PAUSE_MS)
