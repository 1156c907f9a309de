"""Our place in ``litellm.cache``, and what happens when somebody else is, or gets, in it."""

import logging
from typing import Any

import litellm

from routecache_middleware.adapters.litellm.options import Rival

__all__ = ["Place"]

_LOGGED = "cache"
"""In LiteLLM's list of sync callbacks it makes LiteLLM log the hits of calls that are not async."""

_logger = logging.getLogger("routecache")

_HOW_TO = (
    "LiteLLM's own cache is configured as well (litellm_settings.cache: true, or litellm.cache); %s"
)
_WIN = "it is not used. Remove that setting, or let ours stand back: rival: stand-back"
_STAND_BACK = "so answers are left to it. Remove that setting to let ours keep them, or: rival: win"


class Place:
    """One cache's place."""

    __slots__ = ("_before", "_has_warned", "_is_in", "_logs_sync_hits", "_mine", "_rival")

    def __init__(self, mine: Any, rival: Rival, *, logs_sync_hits: bool) -> None:
        """Prepare; nothing is taken yet.

        Args:
            mine: What to put there.
            rival: What to do about somebody else.
            logs_sync_hits: Whether LiteLLM's sync callbacks are to hear of hits.
        """
        self._mine = mine
        self._rival = rival
        self._before: Any = None
        self._is_in = False
        self._logs_sync_hits = logs_sync_hits and _LOGGED not in litellm.success_callback
        self._has_warned = False

    def take(self) -> None:
        """Get in, unless somebody else is there and we stand back."""
        self._is_in = True
        if self._logs_sync_hits:
            litellm.success_callback.append(_LOGGED)
        if litellm.cache is None:
            litellm.cache = self._mine
        else:
            self.is_mine()

    def leave(self) -> None:
        """Let whoever was there before in again; idempotent."""
        if self._is_in and litellm.cache is self._mine:
            litellm.cache = self._before
        if self._is_in and self._logs_sync_hits and _LOGGED in litellm.success_callback:
            litellm.success_callback.remove(_LOGGED)
        self._is_in = False
        self._before = None

    def is_mine(self) -> bool:
        """Whether answers are kept by us; settles it with a rival who came later."""
        other = litellm.cache
        if other is self._mine:
            return True
        if other is None:  # switched off: ``litellm.disable_cache()``
            return False
        if not self._has_warned:
            self._has_warned = True
            _logger.warning(_HOW_TO, _WIN if self._rival is Rival.WIN else _STAND_BACK)
        if self._rival is not Rival.WIN:
            return False
        self._before = other
        litellm.cache = self._mine
        return True
