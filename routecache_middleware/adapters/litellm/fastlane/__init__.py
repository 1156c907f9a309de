"""The fast lane: hits that are answered before LiteLLM's own stack."""

from routecache_middleware.adapters.litellm.fastlane.part import create

__all__ = ["create"]
