"""Which requests are in which dialect."""

import subprocess
import sys

import pytest

from routecache_middleware.dialects.table import DIALECTS, load, match


@pytest.mark.parametrize("name", DIALECTS)
def test_every_row_leads_to_a_dialect_that_agrees_with_it(name: str) -> None:
    dialect = load(name)
    assert dialect.name == name
    assert dialect.path_suffixes == DIALECTS[name].suffixes
    assert all(suffix.startswith("/") for suffix in dialect.path_suffixes)
    assert dialect.verb
    assert not dialect.ignored_fields & dialect.sampling_fields


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/llm/v1/chat/completions", "/a/b/c/openai/v1/chat/completions"],
)
def test_a_dialect_is_found_under_any_prefix(path: str) -> None:
    assert match("POST", path) is load("openai.chat")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1/chat/completions/",
        "/v1/chat/completions/chatcmpl-1",
        "/v1/chat/completionsx",
        "/xv1/chat/completions",
        "v1/chat/completions",
        "/v1/completions",
        "/V1/chat/completions",
    ],
)
def test_only_whole_trailing_segments_count(path: str) -> None:
    assert match("POST", path) is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "post", "QUERY"])
def test_only_post_counts(method: str) -> None:
    assert match(method, "/v1/chat/completions") is None


def test_a_dialect_is_loaded_only_when_a_request_is_in_it() -> None:
    code = (
        "import sys; from routecache_middleware.dialects.table import match;"
        "match('POST', '/other'); assert not [m for m in sys.modules if 'openai_' in m];"
        "match('POST', '/v1/chat/completions');"
        "assert 'routecache_middleware.dialects.openai_chat' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_dialect_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        load("nothing")
