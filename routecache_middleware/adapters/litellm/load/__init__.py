"""Load and metadata of deployments."""

from routecache_middleware.adapters.litellm.load.part import LoadPart, create

__all__ = ["LoadPart", "create"]
