"""Changing the deployment secret: what was stored under the former one is still found."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from routecache_middleware import RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.core.keys import CacheKey, Layer, parse_key
from routecache_middleware.core.models import Entry
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import Options, fetch, settle
from tests.support.chat import ask, completion
from tests.support.fleets import Process, new_store
from tests.support.virtual_time import LoopClock, in_virtual_time

OLD, NEW, OLDER = b"the former secret", b"the present secret", b"the secret before it"
USER: Options = {"headers": [(b"authorization", b"Bearer user")]}
OTHER: Options = {"headers": [(b"authorization", b"Bearer other")]}


class Rotation:
    """A gateway before and after the change of its secret, on one store."""

    def __init__(self, *, former: tuple[bytes, ...] = (OLD,), **options: object) -> None:
        self.store = new_store()
        self.app = ScriptedApp()
        self.before = Process(self.store, self.app, secret=OLD, **options)  # type: ignore[arg-type]
        self.after = Process(
            self.store,
            self.app,
            secret=NEW,
            previous_secrets=former,
            **options,  # type: ignore[arg-type]
        )

    async def outcome(self, process: Process, **options: object) -> str | None:
        answer = await fetch(process.app, **{**USER, **options})
        await settle()  # what is stored is stored behind the answer
        return answer.outcome

    async def stored(self) -> list[tuple[CacheKey, Entry]]:
        await settle()
        return list(await self.store.sample(Layer.RESULT, 10))


@in_virtual_time
async def test_an_answer_stored_before_is_a_hit_after() -> None:
    rotation = Rotation()
    assert await rotation.outcome(rotation.before) == "MISS"
    answer = await fetch(rotation.after.app, **USER)
    assert (answer.outcome, answer.body) == ("HIT", completion())
    assert await rotation.outcome(rotation.after, body=ask(stream=True)) == "HIT"
    assert rotation.after.cache.stats().result.hits == 2
    assert len(rotation.app.calls) == 1


@in_virtual_time
async def test_a_repeat_is_a_hit_as_well() -> None:
    """The short way knows one key only, so it is not taken."""
    store, app = new_store(), ScriptedApp()
    secrets: list[dict[str, Any]] = [
        {"secret": OLD},
        {"secret": NEW, "previous_secrets": (OLD,)},
    ]
    before, after = (
        RouteCacheMiddleware(
            app,
            cache=RouteCache(
                coordinator=store, settings=Settings(**one), observers=[], clock=LoopClock()
            ),
        )
        for one in secrets
    )
    assert (await fetch(before, **USER)).outcome == "MISS"
    assert [(await fetch(after, **USER)).outcome for _ in range(3)] == ["HIT"] * 3


@in_virtual_time
async def test_both_keys_are_looked_up_in_one_round_trip() -> None:
    rotation = Rotation(former=(OLD, OLDER))
    await rotation.outcome(rotation.before)
    link = rotation.after.link
    link.calls.clear()
    assert await rotation.outcome(rotation.after) == "HIT"
    assert link.calls == {"fetch": 1}


@in_virtual_time
async def test_without_the_former_secret_nothing_of_it_is_found() -> None:
    rotation = Rotation(former=())
    await rotation.outcome(rotation.before)
    assert await rotation.outcome(rotation.after) == "MISS"


@in_virtual_time
async def test_several_former_secrets_are_all_tried() -> None:
    rotation = Rotation(former=(OLDER, OLD))
    await rotation.outcome(rotation.before)
    assert await rotation.outcome(rotation.after) == "HIT"


@in_virtual_time
async def test_what_is_made_after_is_stored_under_the_present_secret_and_preferred() -> None:
    rotation = Rotation()
    rotation.app.answers = [json_answer(completion("old")), json_answer(completion("new"))]
    await rotation.outcome(rotation.before)
    refresh = [*USER["headers"], (b"cache-control", b"no-cache")]
    assert await rotation.outcome(rotation.after, headers=refresh) == "MISS"
    assert (await fetch(rotation.after.app, **USER)).body == completion("new")
    assert (await fetch(rotation.before.app, **USER)).body == completion("old")


@in_virtual_time
async def test_another_principal_finds_nothing() -> None:
    rotation = Rotation()
    await rotation.outcome(rotation.before)
    assert await rotation.outcome(rotation.after, **OTHER) == "MISS"


async def _by_old_key(cache: RouteCache, key: str) -> None:
    parts = parse_key(key)
    await cache.invalidate_query_result(parts.query_hash, parts.model_id, tenant=parts.tenant)


async def _by_model(cache: RouteCache, _: str) -> None:
    await cache.invalidate_model("m")


async def _by_old_tenant(cache: RouteCache, key: str) -> None:
    await cache.invalidate_tenant(parse_key(key).tenant)


async def _by_old_tenants_share_of_the_model(cache: RouteCache, key: str) -> None:
    await cache.invalidate_model("m", tenant=parse_key(key).tenant)


async def _by_layer(cache: RouteCache, _: str) -> None:
    await cache.invalidate_layer("result")


INVALIDATIONS = [
    _by_old_key,
    _by_model,
    _by_old_tenant,
    _by_old_tenants_share_of_the_model,
    _by_layer,
]


@pytest.mark.parametrize("invalidate", INVALIDATIONS)
@pytest.mark.parametrize("names_are_new", [False, True])
def test_an_invalidation_by_old_or_new_names_drops_it(
    invalidate: Callable[[RouteCache, str], Awaitable[None]], *, names_are_new: bool
) -> None:
    """Whoever invalidates after the change knows only the new hash and the new tenant."""

    @in_virtual_time
    async def test() -> None:
        rotation = Rotation()
        await rotation.outcome(rotation.before)
        ((key, _),) = await rotation.stored()
        if names_are_new:  # learn them from an answer that is stored under them
            probe = Rotation()
            await probe.outcome(probe.after)
            ((key, _),) = await probe.stored()
        assert await rotation.outcome(rotation.after) == "HIT"
        await invalidate(rotation.after.cache, key)
        answer = await fetch(rotation.after.app, **USER)
        assert answer.get("cache-status") == "routecache; fwd=miss; detail=invalidated"
        assert answer.outcome == "MISS"

    test()


@in_virtual_time
async def test_an_invalidation_of_somebody_else_spares_it() -> None:
    rotation = Rotation()
    await rotation.outcome(rotation.before)
    await rotation.after.cache.invalidate_tenant("somebody")
    await rotation.after.cache.invalidate_model("other")
    await rotation.after.cache.invalidate_model("m", tenant="somebody")
    assert await rotation.outcome(rotation.after) == "HIT"


@pytest.mark.parametrize(
    "options",
    [
        {"tenant": lambda scope: "acme"},
        {"tenancy": "shared", "authenticated_upstream": True},
        {"allow_anonymous": True},
    ],
    ids=["tenant callable", "shared tenancy", "anonymous"],
)
def test_tenants_that_no_secret_goes_into_find_theirs(options: dict[str, object]) -> None:
    @in_virtual_time
    async def test() -> None:
        rotation = Rotation(**options)  # type: ignore[arg-type]
        headers: Options = {"headers": []} if "allow_anonymous" in options else {}
        assert await rotation.outcome(rotation.before, **headers) == "MISS"
        assert await rotation.outcome(rotation.after, **headers) == "HIT"

    test()


@in_virtual_time
async def test_an_authenticated_user_finds_its_own() -> None:
    class User:
        is_authenticated = True

        def __init__(self, identity: str) -> None:
            self.identity = identity

    rotation = Rotation()
    assert await rotation.outcome(rotation.before, user=User("a")) == "MISS"
    assert await rotation.outcome(rotation.after, user=User("b")) == "MISS"
    assert await rotation.outcome(rotation.after, user=User("a")) == "HIT"


@in_virtual_time
async def test_an_old_answer_respects_max_age() -> None:
    rotation = Rotation()
    await rotation.outcome(rotation.before)
    strict = [*USER["headers"], (b"cache-control", b"max-age=0")]
    await asyncio.sleep(5)
    answer = await fetch(rotation.after.app, headers=strict)
    assert answer.get("cache-status") == "routecache; fwd=request"


@in_virtual_time
async def test_decisions_are_made_anew_and_lead_to_the_old_answers() -> None:
    asked: list[str] = []

    async def router(request: object) -> str:
        asked.append("router")
        return "chosen"

    rotation = Rotation(router=router)
    assert await rotation.outcome(rotation.before) == "MISS"
    answer = await fetch(rotation.after.app, **USER)
    assert (answer.outcome, answer.get("x-routecache-decision")) == ("HIT", "MISS")
    assert asked == ["router"] * 2
