"""Answers: LiteLLM's cache, replaced by ours."""

from routecache_middleware.adapters.litellm.results.part import create

__all__ = ["create"]
