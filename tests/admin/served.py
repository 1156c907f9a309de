"""A process that serves the administration app with something in its cache; see ModuleChild.

Prints its port, and ends when its input does.
"""

import asyncio
import socket
import sys

import uvicorn

from routecache_middleware import ModelMetadata, RouteCache
from routecache_middleware.admin import door, live
from tests.admin.kit import Admin, explaining, quiet_cache


async def load(model_id: str) -> ModelMetadata:
    return ModelMetadata(model_id, {"tools": True})


async def fill(cache: RouteCache) -> None:
    for number in range(20):
        name, tenant = f"{number:032x}", f"tenant-{number % 3}"
        await cache.cache_routing_decision(name, f"model-{number % 2}", 0.5, tenant=tenant)
        await cache.cache_query_result(name, f"model-{number % 2}", b"{}", 9.0, tenant=tenant)


async def main() -> None:
    vars(door)["_FAILURES"] = 1e9  # Schemathesis leaves the token out again and again
    vars(live)["_LASTS"] = 1  # a stream that ends when it has said something
    async with quiet_cache() as cache:
        await fill(cache)
        middleware = explaining(cache)
        admin = Admin(cache, load=load, settings={"requests_per_s": 1e6})
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(admin.app, log_level="warning"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        print(listener.getsockname()[1], flush=True)  # noqa: T201 - ModuleChild reads it
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await serving
        del middleware


if __name__ == "__main__":
    asyncio.run(main())
