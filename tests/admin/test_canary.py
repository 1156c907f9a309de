"""No prompt, answer, credential or tenant's name is in anything that the app says or logs."""

import json
import logging

import pytest

from routecache_middleware import RouteCache, RouteCacheMiddleware, Settings
from tests.admin.kit import READ_TOKEN, TOKEN, Admin
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import fetch, settle
from tests.support.chat import ask, completion

SECRET = "canary-deployment-secret"
PROMPT, ANSWER, KEY, TENANT = "canary-prompt", "canary-answer", "canary-key", "canary-tenant"
HIDDEN = (PROMPT, ANSWER, KEY, TENANT, SECRET, TOKEN, READ_TOKEN)


async def test_what_was_planted_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settings = Settings(secret=SECRET.encode(), allow_anonymous=True)
    async with RouteCache(url="memory://", settings=settings, observers=[]) as cache:
        app = ScriptedApp(json_answer(completion(ANSWER)))
        gateway = RouteCacheMiddleware(app, cache=cache)
        headers = [(b"authorization", f"Bearer {KEY}".encode())]
        for _ in range(2):
            await fetch(gateway, ask(PROMPT), headers=headers)
            await settle()
        await cache.cache_query_result("0" * 32, "m", ANSWER.encode(), 1.0, tenant=TENANT)
        admin = Admin(cache)
        said = [
            (await admin.get(path)).body
            for path in (
                *("/stats", "/metrics", "/savings", "/cluster", "/breakers", "/config", "/audit"),
                *("/entries", "/entries?layer=route", "/distribution", "/history"),
                "/openapi.json",
            )
        ]
        rows = json.loads((await admin.get("/entries")).body)["entries"]
        assert len(rows) == 2
        said += [(await admin.get(f"/entries/{row['id']}")).body for row in rows]
        asked = {"body": ask(PROMPT).decode(), "headers": {"authorization": f"Bearer {KEY}"}}
        explained = await admin.post("/explain", asked)
        assert json.loads(explained.body)["explanation"]["outcome"] == "hit"
        said += [explained.body, (await admin.post("/explain", {"path": PROMPT})).body]
        said += [(await admin.post("/invalidate", {"entry": row["id"]})).body for row in rows]
        said += [(await admin.get("/stats", token=KEY)).body]
        done = {"tenant": TENANT, "dry_run": False}
        assert (await admin.post("/invalidate", done)).status == 200
    text = b"\n".join(said).decode() + caplog.text
    assert [word for word in HIDDEN if word in text] == []
