"""What has to happen before any test module is imported."""

import pytest

pytest.register_assert_rewrite("routecache_middleware.testing")

pytest_plugins = ["tests.support.fixtures"]
