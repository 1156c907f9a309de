"""From the arguments of a LiteLLM call to its cache key. Pure, and usable from any thread.

    result:<tenant>@H(api, namespace, form, arguments that count):<model>

H is BLAKE2b, keyed with the deployment secret. The model is the group that really answers: what
the Router has picked in the end, also after a fallback. So an answer is never found under a model
that did not make it, and all deployments of a group share theirs.
"""

from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from routecache_middleware.adapters.litellm.options import Options
from routecache_middleware.adapters.litellm.results.apis import Api
from routecache_middleware.adapters.litellm.results.embeddings import may_be_apart
from routecache_middleware.adapters.litellm.results.fields import Counts, counted, counts
from routecache_middleware.adapters.litellm.results.seen import (
    Whereabouts,
    requested_model,
    requested_path,
    seen,
)
from routecache_middleware.adapters.litellm.results.values import plain, size_of
from routecache_middleware.adapters.litellm.tenancy import Tenancy, Tenant
from routecache_middleware.core.body_directives import BodyDirectives
from routecache_middleware.core.canonical import DoubtfulJSONError, encode
from routecache_middleware.core.dialect import ParsedRequest
from routecache_middleware.core.fingerprint import Domain, new_hash
from routecache_middleware.core.keys import CacheKey, result_key
from routecache_middleware.core.models import BypassReason
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.request import LLMRequest
from routecache_middleware.core.settings import Settings

__all__ = ["Identified", "Keyer", "Keys", "is_routed"]

_INPUT = "input"
_FORM_FIELDS = ("stream", "stream_options")


class Keys(msgspec.Struct, frozen=True):
    """Where an answer is kept: its key, and those that it had under former secrets."""

    key: CacheKey
    former: tuple[CacheKey, ...] = ()


class Identified(msgspec.Struct, frozen=True):
    """A call that can be cached.

    Attributes:
        api: Its API.
        parsed: What it asks for; it may say why it cannot be cached after all.
        tenant: Whose it is.
        model: The model in its key.
        models: All names of that model; each of them invalidates its answers.
        hashes: One per secret; complete, but for the input when each input has an entry.
        requested: The model that was asked for, by which the policy goes.
        path: Where, likewise; empty where that is not known.
        request: What the policy's ``decide`` is shown; None where there is none.
    """

    api: Api
    parsed: ParsedRequest
    tenant: Tenant
    model: str
    models: tuple[str, ...]
    hashes: tuple[blake2b, ...]
    requested: str = ""
    path: str = ""
    request: LLMRequest | None = None

    def keys(self) -> Keys:
        """Where the answer is kept."""
        return self._keys([state.hexdigest() for state in self.hashes])

    def keys_of(self, item: Any) -> Keys:
        """Where the answer for one of several inputs is kept.

        Raises:
            DoubtfulJSONError: The input is no JSON.
        """
        packed, digests = encode(plain(item)), []
        for state in self.hashes:
            whole = state.copy()
            whole.update(packed)
            digests.append(whole.hexdigest())
        return self._keys(digests)

    def _keys(self, digests: list[str]) -> Keys:
        if len(digests) == 1:  # nearly always
            return Keys(result_key(digests[0], self.model, self.tenant.name))
        tenants = (self.tenant.name, *self.tenant.former)
        pairs = zip(digests, tenants, strict=True)
        key, *former = (result_key(digest, self.model, tenant) for digest, tenant in pairs)
        return Keys(key, tuple(former))


class Keyer:
    """Identifies calls."""

    __slots__ = ("_ignored", "_is_proxy", "_is_shown", "_secrets", "_settings", "tenancy")

    def __init__(
        self, settings: Settings, policy: CachePolicy, options: Options, *, is_proxy: bool
    ) -> None:
        self._settings = settings
        self._ignored = policy.ignored_fields
        self._is_proxy = is_proxy
        self._is_shown = policy.decide is not None
        self._secrets = (settings.secret, *settings.previous_secrets)
        self.tenancy = Tenancy(settings, options.isolation, is_proxy=is_proxy)

    def size_of(self, kwargs: Mapping[str, Any]) -> int:
        """Return about how many bytes a call's arguments have; no more than what is cached."""
        return _size(kwargs, self._settings.max_request_bytes)

    def is_large(self, size: int) -> bool:
        """Whether hashing so many bytes would hold up an event loop."""
        return size > self._settings.hash_in_thread_bytes

    def identify(
        self,
        api: Api,
        kwargs: Mapping[str, Any],
        controls: BodyDirectives,
        own_key: object = None,
        *,
        size: int | None = None,
        inputs: object = None,
    ) -> Identified | BypassReason:
        """Find out what a call asks for, and for whom; nothing in it makes this raise.

        Args:
            api: Its API.
            kwargs: All of its arguments.
            controls: What it asks of the cache.
            own_key: The caller's own ``cache_key``: a field like any other.
            size: What :meth:`size_of` has said; None: not asked yet.
            inputs: All inputs, where ``kwargs`` has one of several.
        """
        if size is None:
            size = self.size_of(kwargs)
        if size > self._settings.max_request_bytes:
            return BypassReason.BODY_TOO_LARGE
        tenant = self.tenancy.of(kwargs)
        if tenant is None:
            return BypassReason.NO_PRINCIPAL
        routed = _routed(api, kwargs)
        endpoint = None if routed is None else _chosen(kwargs, routed)
        try:
            fields = plain(counted(kwargs, api, ignored=self._ignored, endpoint=endpoint))
            parsed = api.parse({**fields, **_form(kwargs), "model": kwargs.get("model")})
            if parsed is None:
                return BypassReason.INVALID_JSON
            fields = {**api.keyed(fields)}
            if api.is_per_input:
                if not may_be_apart(inputs, fields):
                    return BypassReason.DISABLED
                fields.pop(_INPUT, None)
            form = parsed.mode.value if api.is_per_form else ""
            packed = encode([api.name, controls.namespace, form, plain(own_key)]) + encode(fields)
            requested = requested_model(kwargs, routed)
            path = requested_path(kwargs, api) if self._is_proxy else ""
            whole = kwargs if inputs is None else {**kwargs, _INPUT: inputs}
            where = Whereabouts(requested, path, tenant.name, self._settings.secret)
            request = seen(whole, api, parsed, where) if self._is_shown else None
        except DoubtfulJSONError:
            return BypassReason.INVALID_JSON
        model, models = _models(kwargs, routed)
        hashes = tuple(_hashed(packed, secret) for secret in self._secrets)
        return Identified(api, parsed, tenant, model, models, hashes, requested, path, request)


def _hashed(packed: bytes, secret: bytes) -> blake2b:
    state = new_hash(Domain.LITELLM, secret)
    state.update(packed)
    return state


def is_routed(api: Api, kwargs: Mapping[str, Any]) -> bool:
    """Whether a Router makes the call."""
    return _routed(api, kwargs) is not None


def _routed(api: Api, kwargs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what the Router has noted of the call; None when there is no Router.

    Only the one place that it writes to is looked at: the other one is the client's.
    """
    metadata = kwargs.get(api.metadata)
    if isinstance(metadata, Mapping) and isinstance(metadata.get("deployment_model_name"), str):
        return metadata
    return None


def _chosen(kwargs: Mapping[str, Any], routed: Mapping[str, Any]) -> Collection[str] | None:
    """Return which arguments of the endpoint are not the deployment's; None: all of them."""
    info = routed.get("model_info")
    if isinstance(info, Mapping) and info.get("original_model_id") is not None:
        return None  # the deployment was made for this call, from the caller's own arguments
    base = kwargs.get("api_base")
    if base is not None and base != routed.get("api_base"):
        return None
    request = kwargs.get("proxy_server_request")
    body = request.get("body") if isinstance(request, Mapping) else None
    return body.keys() if isinstance(body, Mapping) else ()


def _models(
    kwargs: Mapping[str, Any], routed: Mapping[str, Any] | None
) -> tuple[str, tuple[str, ...]]:
    """Return the model in the key, and all names of it."""
    asked = str(kwargs.get("model") or "")
    if routed is None:
        return asked, (asked,)
    group = str(routed["deployment_model_name"])
    info = routed.get("model_info")
    deployment = info.get("id") if isinstance(info, Mapping) else None
    # A deployment for many models: which one it was stands in the model alone.
    named = asked if "*" in group else group
    names = dict.fromkeys((named, group, asked, str(deployment or "")))
    return _caching_group(routed, group) or named, tuple(filter(None, names))


def _caching_group(routed: Mapping[str, Any], group: str) -> str:
    """Return the name of the groups that share answers with this one, or empty."""
    groups = routed.get("caching_groups")
    for names in groups if isinstance(groups, list | tuple) else ():
        if isinstance(names, list | tuple) and group in names:
            return str(tuple(names))
    return ""


def _form(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: kwargs[name] for name in _FORM_FIELDS if kwargs.get(name) is not None}


def _size(kwargs: Mapping[str, Any], limit: int) -> int:
    total = 0
    for name, value in kwargs.items():
        if counts(name) is _ALWAYS:
            total += size_of(value, limit - total)
            if total > limit:
                break
    return total


_ALWAYS = Counts.ALWAYS
