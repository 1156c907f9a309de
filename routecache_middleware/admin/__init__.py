"""The administration API: statistics, the state of the cluster, and invalidation, over HTTP."""

from routecache_middleware.admin.app import create_admin

__all__ = ["create_admin"]
