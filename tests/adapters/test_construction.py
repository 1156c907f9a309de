"""What is wrong with the arguments is said at once, not with the first request."""

import logging
from pathlib import Path

import pytest

from routecache_middleware import RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.errors import ConfigurationError
from tests.support.apps import ScriptedApp
from tests.support.asgi import fetch


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"router": 5}, "router is a int; it has to be a callable"),
        ({"tenant": "team"}, "tenant is a str; it has to be a callable"),
        ({"router": str, "eligible": []}, "eligible is a list; it has to be a callable"),
        ({"eligible": bool}, "eligible= was given without router="),
        ({"settings": {"result_ttl_s": 3}}, "settings is a dict; it has to be a Settings"),
        ({"policy": "all"}, "policy is a str; it has to be a CachePolicy"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], text: str) -> None:
    """Style 7: what was wrong, the value's kind, the remedy."""
    with pytest.raises(ConfigurationError, match=text):
        RouteCacheMiddleware(ScriptedApp(), **arguments)  # type: ignore[arg-type]


async def test_a_record_is_no_number_and_no_mapping() -> None:
    """Storing a whole record where its parts belong must not pass as success."""
    async with RouteCache(url="memory://") as cache:
        await cache.cache_load_metrics("m", in_flight=3)
        metrics = await cache.get_load_metrics("m")
        with pytest.raises(TypeError, match="a load metric is a LoadMetrics"):
            await cache.cache_load_metrics("m", metrics)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="capabilities is a LoadMetrics"):
            await cache.cache_model_metadata("m", metrics)  # type: ignore[arg-type]


async def test_without_our_fields_a_504_has_none_either() -> None:
    """``response_headers=False`` covers the answers that we make ourselves."""
    settings = Settings(response_headers=False, allow_anonymous=True)
    mw = RouteCacheMiddleware(ScriptedApp(), settings=settings)
    got = await fetch(mw, headers=[(b"cache-control", b"only-if-cached")])
    assert (got.status, got.outcome) == (504, None)


def test_a_wrong_configuration_is_one_line_of_the_log_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Frameworks build middleware late, and servers hide what an app raises in its lifespan."""
    with pytest.raises(ConfigurationError), caplog.at_level(logging.ERROR, "routecache"):
        RouteCacheMiddleware(ScriptedApp(), url="redis://u:s3cret@h?tiemout_ms=3")
    assert "cannot start" in caplog.text
    assert "no option 'tiemout_ms'" in caplog.text
    assert "s3cret" not in caplog.text


async def test_what_is_found_wrong_when_it_is_opened_is_told_with_its_remedy(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    app = ScriptedApp()
    response = await fetch(RouteCacheMiddleware(app, url=f"lmdb://{tmp_path}/open"))
    assert response.status == 200
    assert "chmod 700" in caplog.text
