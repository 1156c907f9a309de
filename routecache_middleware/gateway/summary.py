"""What the gateway says of itself when it has started: where all is, and what is missing."""

from dataclasses import dataclass

from routecache_middleware.admin import AdminSettings
from routecache_middleware.coordinators.url import mask_url
from routecache_middleware.core.choices import Mode
from routecache_middleware.gateway.app import Gateway
from routecache_middleware.gateway.beside import PATH

__all__ = ["Summary", "summary"]

_LOCAL_STORES = {
    "memory": "in this process alone, and gone when it ends",
    "lmdb": "on this machine's disk",
}
_UNKEYED = (
    "no secret is set: who can read the store can try out which prompts were asked; set "
    "ROUTECACHE_SECRET to 16 random bytes or more, the same for every gateway"
)
_ANYBODY = "requests that carry no credential share answers (allow_anonymous)"
_MODES = {
    Mode.OFF: "mode is off: nothing is cached",
    Mode.READ_ONLY: "mode is read_only: nothing is stored",
    Mode.WRITE_ONLY: "mode is write_only: nothing is served from the cache",
    Mode.SHADOW: "mode is shadow: nothing is served from the cache; it counts what would have been",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Where all is.

    Attributes:
        url: Where the gateway listens.
        upstreams: Hosts in front of which it is.
        workers: How many processes answer.
        store: The store's URL, without credentials.
        store_is: What that means, in words.
        clients: Whom it lets in, in words.
        dashboard: The dashboard's URL, or None.
        dashboard_is: To whom it is shown, or how it would be.
        notes: What an operator had better know.
    """

    url: str
    upstreams: tuple[str, ...]
    workers: int
    store: str
    store_is: str
    clients: str
    dashboard: str | None
    dashboard_is: str
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Return it as lines for people."""
        processes = f" ({self.workers} processes)" if self.workers > 1 else ""
        dashboard = "none" if self.dashboard is None else self.dashboard
        return "\n".join(
            [
                f"Listening on {self.url}, in front of {', '.join(self.upstreams)}{processes}",
                f"  clients:   {self.clients}",
                f"  store:     {self.store} ({self.store_is})",
                f"  dashboard: {dashboard} ({self.dashboard_is})",
                *(f"  note:      {note}" for note in self.notes),
            ]
        )

    def record(self, pid: int) -> dict[str, object]:
        """Return it for programs: what goes into a line of JSON."""
        return {
            "event": "listening",
            "url": self.url,
            "pid": pid,
            "upstreams": list(self.upstreams),
            "workers": self.workers,
            "store": self.store,
            "dashboard": self.dashboard,
            "notes": list(self.notes),
        }


def summary(gateway: Gateway, url: str) -> Summary:
    """Describe a gateway that listens on ``url``. Nothing of it is secret."""
    cache = gateway.cache
    coordinator = cache.engine.coordinator
    shared = "shared" if coordinator.is_shared else "in this process alone"
    notes = []
    if coordinator.is_shared and not cache.settings.secret:
        notes.append(_UNKEYED)
    if cache.settings.allow_anonymous:
        notes.append(_ANYBODY)
    if cache.mode in _MODES:
        notes.append(_MODES[cache.mode])
    is_shown = gateway.admin_settings is not None
    return Summary(
        url=url,
        upstreams=tuple(gateway.hosts),
        workers=gateway.settings.workers,
        store=mask_url(cache.url or ""),
        store_is=_LOCAL_STORES.get(coordinator.name, shared),
        clients=_clients(gateway),
        dashboard=f"{url}{PATH}/" if is_shown else None,
        dashboard_is=_shown_to(gateway.admin_settings, f"{url}{PATH}/metrics"),
        notes=tuple(notes),
    )


def _clients(gateway: Gateway) -> str:
    if gateway.has_client_keys:
        return "need one of the gateway's keys"
    if gateway.has_own_keys:
        return "programs of this machine only; the upstream is asked with the gateway's own key"
    return "their credentials are passed on to the upstream"


def _shown_to(admin: AdminSettings | None, metrics: str) -> str:
    if admin is None:
        return f"--admin serves it at {PATH}/"
    if admin.token:
        who = "asks for the admin token"
    elif admin.read_token:
        who = "asks for the read token; nobody may change anything: no ROUTECACHE_ADMIN_TOKEN"
    else:
        who = "for this machine only: there is no ROUTECACHE_ADMIN_TOKEN"
    return f"{who}; for Prometheus: {metrics}"
