"""The administration app: statistics, explanations, invalidation and the dashboard, over HTTP."""

from routecache_middleware.admin.access import Principal
from routecache_middleware.admin.app import create_admin
from routecache_middleware.admin.settings import AdminSettings

__all__ = ["AdminSettings", "Principal", "create_admin"]
