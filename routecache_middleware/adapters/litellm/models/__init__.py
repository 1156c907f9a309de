"""Invalidation when the models of a Router change."""

from routecache_middleware.adapters.litellm.models.part import ModelsPart, create

__all__ = ["ModelsPart", "create"]
