"""Commands as somebody types them, with a store that has something in it."""

import asyncio
import json
from typing import Any

from click.testing import CliRunner, Result

from routecache_middleware import RouteCache, RoutingDecision, Settings
from routecache_middleware.cli.commands import routecache

__all__ = ["CANARY", "fill", "run", "told"]

CANARY = "canary-of-a-prompt"
ENVIRONMENT = {
    "ROUTECACHE_URL": None,
    "ROUTECACHE_CONFIG": None,
    "ROUTECACHE_ADMIN_TOKEN": None,
    "ROUTECACHE_ADMIN_READ_TOKEN": None,
    "ROUTECACHE_SECRET": None,
}


def run(*arguments: str, given: str | None = None, **environ: str) -> Result:
    """Run ``routecache`` in this process, as if in a pipe."""
    done = CliRunner().invoke(
        routecache, arguments, input=given, env={**ENVIRONMENT, **environ}, catch_exceptions=False
    )
    assert CANARY not in done.output
    return done


def told(*arguments: str, **options: Any) -> Any:
    """Return the JSON that a command which succeeds writes."""
    done = run(*arguments, "--json", **options)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def fill(url: str) -> None:
    """Put five answers, two decisions and a model's metadata into a store; ten lookups."""

    async def decide() -> RoutingDecision:
        return RoutingDecision("gpt-4o", score=0.5)

    async def use() -> None:
        async with RouteCache(url=url, settings=Settings(), observers=[]) as cache:
            for number in range(5):
                body = json.dumps({"said": CANARY}).encode()
                await cache.cache_query_result(
                    f"{number:032x}", "gpt-4o", body, 1200.0, tenant="acme", tags=("blue",)
                )
            for number in range(10):
                await cache.route(f"{number % 2:032x}", decide)
            await cache.cache_model_metadata("gpt-4o", {"vision": True}, 0, 1.0)

    asyncio.run(use())
