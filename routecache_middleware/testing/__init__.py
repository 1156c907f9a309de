"""For people who write a coordinator: the rules it has to keep, as tests. Needs pytest.

Subclass :class:`CoordinatorContract`, override its fixture ``coordinator``, and run pytest. To see
what failed and not only that it did, let pytest rewrite the assertions, in a ``conftest.py``::

    pytest.register_assert_rewrite("routecache_middleware.testing")
"""

from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract import CoordinatorContract

__all__ = ["CoordinatorContract", "FakeClock"]
