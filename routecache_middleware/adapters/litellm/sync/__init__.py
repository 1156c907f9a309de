"""Calls that are not async: ``litellm.completion`` and the like, from any thread."""

from routecache_middleware.adapters.litellm.sync.part import create

__all__ = ["create"]
