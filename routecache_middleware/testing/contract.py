"""The rules of the Coordinator port. Every backend subclasses this and passes, or does not ship.

A backend provides the fixture ``coordinator`` (opened, empty). One that cannot be driven by the
fake clock overrides ``clock`` with a real one, ``let_time_pass`` with a real wait, and ``tick_s``
with a duration that is worth waiting.

A log may begin with a row for ``all``. It says that nothing captured before is current, which a
backend needs whose log can be lost while its entries stay.
"""

from routecache_middleware.testing.contract_base import KEY, row
from routecache_middleware.testing.contract_entries import EntriesContract
from routecache_middleware.testing.contract_leases import LeasesContract
from routecache_middleware.testing.contract_life import LifeContract
from routecache_middleware.testing.contract_log import LogContract

__all__ = ["KEY", "CoordinatorContract", "row"]


class CoordinatorContract(EntriesContract, LogContract, LeasesContract, LifeContract):
    """Rules every coordinator keeps."""
