"""The fast lane as a part of the cache inside LiteLLM."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

from routecache_middleware.adapters.asgi.types import ASGIApp
from routecache_middleware.adapters.litellm.fastlane import place
from routecache_middleware.adapters.litellm.fastlane.below import Below, current_visit
from routecache_middleware.adapters.litellm.fastlane.eligibility import accepted, objection
from routecache_middleware.adapters.litellm.fastlane.lane import FastLane
from routecache_middleware.adapters.litellm.fastlane.leases import Accepted, Leases
from routecache_middleware.adapters.litellm.fastlane.logged import log_hits
from routecache_middleware.adapters.litellm.fastlane.paths import LanePaths
from routecache_middleware.adapters.litellm.fastlane.report import Report
from routecache_middleware.adapters.litellm.fastlane.surroundings import Surroundings
from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.adapters.litellm.part import Kwargs, Part
from routecache_middleware.adapters.litellm.tenancy import tenant_of

__all__ = ["FastLanePart", "create"]

_logger = logging.getLogger("routecache")


def create(hub: Hub) -> "FastLanePart | None":
    """Return the fast lane of a proxy; None where it is off or there is no proxy.

    Raises:
        ConfigurationError: It cannot answer one of ``fast_lane_paths``.
    """
    if not hub.options.fast_lane or not hub.is_proxy:
        return None
    return FastLanePart(hub)


class FastLanePart(Part):
    """Leases are written here; the lane itself stands before the proxy's app.

    Attributes:
        leases: Who may be answered in LiteLLM's place.
        report: What LiteLLM is told of it.
    """

    def __init__(self, hub: Hub) -> None:
        import litellm

        self._hub = hub
        self._clock = hub.engine.clock
        self._ttl_s = hub.engine.settings.auth_ttl_s
        self._surroundings = Surroundings(litellm, hub.callback)
        self._told: set[str] = set()
        self._paths = LanePaths(hub.options.fast_lane_paths)
        self.report = Report(log_hits, on_tick=self._look_around)
        self.leases = Leases(self._clock, self._ttl_s, self.report.add, self._tenant_of)

    def install(self) -> None:
        """Stand before the proxy's app."""
        module: Any = sys.modules.get("litellm.proxy.proxy_server")
        if module is not None:
            place.stand_before(module.app, self.around)

    def uninstall(self) -> None:
        """Step aside; idempotent."""
        module: Any = sys.modules.get("litellm.proxy.proxy_server")
        if module is not None:
            place.step_aside(module.app)
        self.leases.clear()

    def around(self, app: ASGIApp) -> FastLane:
        """Put the lane around an app."""
        policy = self._hub.engine.policy
        below = Below(
            app,
            self.leases,
            self._hub.outcomes,
            self._paths,
            self.objection,
            goes_by_model=bool(policy.overrides or policy.decide),
        )
        return FastLane(below, self._hub.cache, self.leases, self._paths, self._hub.warn)

    def figures(self) -> dict[str, object]:
        """What the administration API says of it."""
        return {
            "leases": len(self.leases),
            "reported_hits": self.report.reported,
            "dropped_hits": self.report.dropped,
            "stands_aside_for": self.objection(),
        }

    async def aclose(self) -> None:
        """Report what is left."""
        await self.report.aclose()

    async def before_request(self, principal: Any, data: Kwargs, call_type: str) -> None:
        """LiteLLM has let a request in; whether that is worth a lease."""
        visit = current_visit.get()
        if visit is None or visit.is_over:
            return
        visit.call_id = str(data.get("litellm_call_id") or "")
        visit.tenant = self._tenant(data)
        now_s = self._clock.now_s()
        found = None
        if call_type == visit.lane.call_type:
            found = accepted(principal, data, visit.lane, now_s=now_s, ttl_s=self._ttl_s)
        visit.judge(found)
        if found is None:
            field = objection(principal, now_s=now_s, ttl_s=self._ttl_s)
            _logger.debug("no lease for this request: %s", field or "the request")

    def objection(self) -> str | None:
        """Name what every request has to pass, or None; each is logged once."""
        found = self._surroundings.objection()
        if found is not None and found not in self._told:
            self._told.add(found)
            _logger.warning("the fast lane stands aside: every request has to pass %s", found)
        return found

    def _tenant_of(self, accepted: Accepted) -> str:
        return self._tenant({accepted.lane.metadata: accepted.metadata})

    def _tenant(self, data: Mapping[str, Any]) -> str:
        """For whom our cache inside LiteLLM keeps answers, or empty."""
        isolation, secret = self._hub.options.isolation, self._hub.engine.settings.secret
        return tenant_of(data, isolation=isolation, is_proxy=True, secret=secret) or ""

    def _look_around(self) -> None:
        """A guardrail may have been added while leases were out."""
        if self.objection() is not None:
            self.leases.clear()
