"""Which paths the fast lane answers, and in which API."""

import pytest
from fastapi.routing import APIRoute

from routecache_middleware.adapters.litellm.fastlane.dialect import (
    CHAT,
    EMBEDDINGS,
    LANES,
    MESSAGES,
    RESPONSES,
    TEXT,
    LaneDialect,
)
from routecache_middleware.adapters.litellm.fastlane.paths import LanePaths
from routecache_middleware.adapters.litellm.options import Options
from routecache_middleware.errors import ConfigurationError

DEFAULT = LanePaths(Options().fast_lane_paths)


@pytest.mark.parametrize(
    ("path", "lane"),
    [
        ("/v1/chat/completions", CHAT),
        ("/chat/completions", CHAT),
        ("/engines/m/chat/completions", CHAT),
        ("/openai/deployments/m/chat/completions", CHAT),
        ("/openai/deployments/org/m/chat/completions", CHAT),
        ("/v1/completions", TEXT),
        ("/completions", TEXT),
        ("/engines/m/completions", TEXT),
        ("/openai/deployments/m/completions", TEXT),
        ("/v1/embeddings", EMBEDDINGS),
        ("/embeddings", EMBEDDINGS),
        ("/engines/m/embeddings", EMBEDDINGS),
        ("/openai/deployments/m/embeddings", EMBEDDINGS),
        ("/v1/responses", RESPONSES),
        ("/responses", RESPONSES),
        ("/openai/v1/responses", RESPONSES),
        ("/v1/messages", MESSAGES),
        ("/engines/chat/completions", TEXT),  # of a model called "chat"
        ("/openai/deployments//completions", None),
        ("/v1/responses/resp_1/cancel", None),
        ("/v1/responses/compact", None),
        ("/v1/messages/count_tokens", None),
        ("/v1/threads/t/messages", None),
        ("/queue/chat/completions", None),
        ("/anthropic/v1/messages", None),  # passed through, not understood
        ("/key/generate", None),
        ("/", None),
        ("", None),
    ],
)
def test_which_api_a_path_is_in(path: str, lane: LaneDialect | None) -> None:
    assert DEFAULT.match("POST", path) is lane
    assert DEFAULT.lane_of(path) is lane
    assert DEFAULT.match("GET", path) is None


def test_only_what_is_set_is_answered() -> None:
    paths = LanePaths({"/v1/embeddings"})
    assert paths.lane_of("/v1/embeddings") is EMBEDDINGS
    assert paths.lane_of("/v1/chat/completions") is None
    assert paths.lane_of("/engines/m/embeddings") is None


def test_litellm_serves_what_the_lane_answers() -> None:
    """Each default path is a route of the proxy, for the API that the lane takes it for."""
    from litellm.proxy import proxy_server  # noqa: PLC0415 - takes seconds
    from litellm.proxy.anthropic_endpoints import endpoints as anthropic  # noqa: PLC0415
    from litellm.proxy.response_api_endpoints import endpoints as responses  # noqa: PLC0415

    served: dict[str, object] = {}
    for router in (proxy_server.router, anthropic.router, responses.router):
        for route in router.routes:
            if isinstance(route, APIRoute) and "POST" in (route.methods or ()):
                served[route.path.replace("{model:path}", "{model}")] = route.endpoint
    expected = {
        CHAT: proxy_server.chat_completion,
        TEXT: proxy_server.completion,
        EMBEDDINGS: proxy_server.embeddings,
        RESPONSES: responses.responses_api,
        MESSAGES: anthropic.anthropic_response,
    }
    for path in Options().fast_lane_paths:
        lane = DEFAULT.lane_of(path.replace("{model}", "m"))
        assert lane is not None
        assert served[path] is expected[lane], path
    assert {DEFAULT.lane_of(path.replace("{model}", "m")) for path in served} >= set(LANES)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/rerank",
        "v1/chat/completions",
        "/v1/messages/count_tokens",
        "/anthropic/messages",
        "/engines/{model}",
        "/{model}/{model}/embeddings",
        "/engines/x{model}/embeddings",
        "/engines/{model}x/embeddings",
    ],
)
def test_a_path_that_the_lane_cannot_answer_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="fast_lane_paths names") as refused:
        LanePaths({"/v1/chat/completions", path})
    assert repr(path) in str(refused.value)
    assert "/v1/messages" in str(refused.value)
