"""What becomes of a flight: who leads it reports here, and what is whole is stored from here."""

import asyncio
from time import perf_counter

from routecache_middleware.adapters.asgi.app_call import AppCall
from routecache_middleware.adapters.asgi.boarding import Boarding
from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.leader import Leader
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.settle import settle
from routecache_middleware.core.models import DiscardReason, Entry
from routecache_middleware.core.plan import Serve
from routecache_middleware.engine.claims import Claim
from routecache_middleware.engine.leases import Lease, after_discard_s

__all__ = ["Landing"]

_HUNG_UP_S = 0.25
"""For how long others wait for an app to end whose client has hung up, seconds."""


class Landing:
    """The :class:`.LeaderHost` of one flight."""

    __slots__ = ("_boarding", "_call", "_case", "_flight", "_late", "_lease", "_parts")

    def __init__(
        self,
        parts: Parts,
        case: Case,
        call: AppCall,
        *,
        flight: str,
        lease: Lease | None,
        late: Claim | None,
    ) -> None:
        """Begin.

        Args:
            parts: The middleware's.
            case: The leader's request.
            call: Its call of the app.
            flight: Under which name others may join; empty: they may not.
            lease: The lease under which the answer is made, if any.
            late: The claim of a request that waited too long for the lease.
        """
        self._parts = parts
        self._case = case
        self._call = call
        self._flight = flight
        self._lease = lease
        self._late = late
        self._boarding: Boarding | None = None

    def closed(self, leader: Leader) -> None:
        """Nobody may join any more."""
        self._parts.engine.live.close(self._flight, leader)
        self._land(None)
        lease = self._lease
        if lease is not None and leader.discard is not None:  # nor will there be anything to find
            if leader.relay.is_client_gone:  # no fault of the answer's
                lease.give_back()
            else:
                is_promoted = lease.is_promoted
                lease.give_back(after_discard_s(leader.discard, is_promoted=is_promoted))

    def hung_up(self, leader: Leader) -> None:
        """Its client left when all of the answer may have been there; idempotent.

        Nobody can follow that, but whoever asks now had better wait for a moment: the entry is as
        good as stored.
        """
        flights, proceed = self._parts.engine.live, self._case.proceed
        if flights.find(self._flight) is not leader:
            return
        if proceed is None or not proceed.may_store or self._call.state.is_vetoed:
            flights.close(self._flight, leader)
            return
        self._boarding = Boarding(leader.position)
        flights.open(self._flight, self._boarding)
        asyncio.get_running_loop().call_later(_HUNG_UP_S, self._land, None)

    def refused(self, leader: Leader, reason: DiscardReason) -> None:
        """The response's head says that nobody else can have it."""
        flights, now_s = self._parts.engine.live, self._parts.engine.clock.monotonic_s()
        if reason is DiscardReason.STATUS:
            flights.failed(self._flight, had_followers=leader.followers > 0, now_s=now_s)
        else:
            flights.unshareable(self._flight, now_s)

    def completed(self, leader: Leader) -> None:
        """The last byte was passed on: store it. The flight stays open until that is done."""
        self._parts.engine.background.run(self._settle(leader, perf_counter() - self._call.began_s))

    def failed(self, leader: Leader) -> None:
        """The app raised, was cancelled or returned early; who shares the answer hears it next."""
        live, now_s = leader.live, self._parts.engine.clock.monotonic_s()
        reason = leader.discard or DiscardReason.INCOMPLETE
        self._parts.engine.recorder.discarded(reason, self._case.key)
        if not live.total_bytes and not live.is_refused:
            had_followers = leader.followers > 0
            self._parts.engine.live.failed(self._flight, had_followers=had_followers, now_s=now_s)

    async def _settle(self, leader: Leader, duration_s: float) -> None:
        parallel_s, lease = 0.0, self._lease
        try:
            parallel_s = await settle(
                self._parts,
                self._case,
                leader,
                self._call.state,
                duration_s,
                lease=lease,
                late=self._late,
            )
        finally:
            flights = self._parts.engine.live
            flights.close(self._flight, leader)
            self._land(leader.kept)
            if leader.discard is None:
                flights.succeeded(self._flight)
            leader.capture.release()
            if lease is not None:
                lease.give_back(parallel_s)

    def _land(self, entry: Entry | None) -> None:
        boarding, self._boarding = self._boarding, None
        if boarding is not None:
            self._parts.engine.live.close(self._flight, boarding)
            boarding.landed.set_result(None if entry is None else Serve(entry, 0.0, 0.0))
