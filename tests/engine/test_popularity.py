"""Which answers are served how often, about."""

from routecache_middleware import RouteCache
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.engine.popularity import Popularity


def test_keys_are_counted_and_ordered_by_how_often_they_were_served() -> None:
    popular = Popularity()
    for key, times in (("a", 1), ("b", 64), ("a", 1)):
        popular.seen(CacheKey(key), times)
    assert popular.top() == [("b", 64), ("a", 2)]


def test_who_knows_no_key_counts_nothing() -> None:
    popular = Popularity()
    popular.seen(None)
    popular.seen(CacheKey(""))
    assert popular.top() == []


def test_the_least_popular_half_is_forgotten_when_there_are_too_many() -> None:
    popular = Popularity()
    popular.seen(CacheKey("favourite"), 100)
    for number in range(2_000):
        popular.seen(CacheKey(f"key-{number}"))
    assert len(popular.top()) == 1_000
    assert popular.top()[0] == ("favourite", 100)


async def test_answers_of_the_library_are_counted_and_decisions_are_not() -> None:
    async def never() -> bytes:
        raise AssertionError

    async with RouteCache(url="memory://", observers=[]) as cache:
        await cache.cache_query_result("q", "m", b"{}", 1.0)
        await cache.cache_routing_decision("q", "m", 1.0)
        await cache.result("q", "m", never)
        await cache.route("q", never)  # type: ignore[arg-type]
        assert cache.engine.recorder.popular.top() == [("result:q:m", 1)]
