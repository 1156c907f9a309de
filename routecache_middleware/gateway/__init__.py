"""A ready caching reverse proxy in front of OpenAI- and Anthropic-compatible APIs."""

from routecache_middleware.gateway.app import create_app

__all__ = ["create_app"]
