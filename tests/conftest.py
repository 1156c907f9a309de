"""What has to happen before any test module is imported."""

import pytest
from hypothesis import HealthCheck, settings

# On a machine that is shared, how long it takes to draw an example says nothing.
settings.register_profile("shared", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("shared")

pytest.register_assert_rewrite("routecache_middleware.testing")

pytest_plugins = ["tests.support.fixtures"]
