"""Which requests are in which dialect."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.dialect import Dialect, Role, field_table, names
from routecache_middleware.dialects import table
from routecache_middleware.dialects.table import DIALECTS, load, match, path_model, register
from routecache_middleware.errors import ConfigurationError


@pytest.fixture
def scratch() -> Iterator[None]:
    """A table that is as it was after the test."""
    before = dict(DIALECTS)
    yield
    DIALECTS.clear()
    DIALECTS.update(before)
    table._refresh()


def found(path: str) -> str | None:
    dialect = match("POST", path)
    return None if dialect is None else dialect.name


@pytest.mark.parametrize("name", DIALECTS)
def test_every_row_leads_to_a_dialect_that_agrees_with_it(name: str) -> None:
    dialect = load(name)
    assert dialect.name == name
    assert dialect.path_suffixes == DIALECTS[name].suffixes
    assert all(suffix.startswith("/") for suffix in dialect.path_suffixes)
    assert dialect.verb


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_says_what_its_fields_mean(name: str) -> None:
    dialect = load(name)
    assert dialect.ignored_fields == names(dialect.fields, Role.IGNORED)
    assert dialect.sampling_fields == names(dialect.fields, Role.SAMPLING)
    for field, (role, note) in dialect.fields.items():
        assert note or role not in (Role.BYPASS, Role.IGNORED, Role.PARTITION), field
        assert not note.endswith("."), field
        assert not {"|", "\n"} & set(note), field


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_has_a_table_for_its_documentation(name: str) -> None:
    fields = load(name).fields
    head, rule, *rows = field_table(fields).splitlines()
    assert (head, rule) == ("| field | role | note |", "|---|---|---|")
    assert [row.split("`")[1] for row in rows] == sorted(
        fields, key=lambda field: (list(Role).index(fields[field].role), field)
    )
    assert all(row.count("|") == 4 for row in rows)


@pytest.mark.parametrize("prefix", ["", "/llm", "/a/b/c/openai"])
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "openai.chat"),
        ("/v1/completions", "openai.completions"),
        ("/openai/v1/chat/completions", "openai.chat"),
        ("/openai/v1/completions", "openai.completions"),
    ],
)
def test_a_dialect_is_found_under_any_prefix(prefix: str, path: str, name: str) -> None:
    assert match("POST", prefix + path) is load(name)
    assert path_model(prefix + path) == ""


@pytest.mark.parametrize("prefix", ["", "/llm"])
@pytest.mark.parametrize(
    ("path", "name", "model"),
    [
        ("/openai/deployments/gpt-4o/chat/completions", "openai.chat", "gpt-4o"),
        ("/openai/deployments/gpt-4o/completions", "openai.completions", "gpt-4o"),
        ("/engines/davinci/completions", "openai.completions", "davinci"),
        ("/v1/engines/davinci/completions", "openai.completions", "davinci"),
        # LiteLLM's {model:path}: names have slashes
        ("/engines/azure/gpt-4/chat/completions", "openai.chat", "azure/gpt-4"),
        ("/engines/a/engines/b/chat/completions", "openai.chat", "a/engines/b"),
        # Docker's model runner: an engine is no model
        ("/engines/llama.cpp/v1/chat/completions", "openai.chat", ""),
        ("/engines/v1/completions", "openai.completions", ""),
        ("/engines/chat/completions", "openai.completions", "chat"),
    ],
)
def test_a_path_may_name_the_model(prefix: str, path: str, name: str, model: str) -> None:
    assert found(prefix + path) == name
    assert path_model(prefix + path) == model


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1/chat/completions/",
        "/v1/chat/completions/chatcmpl-1",
        "/v1/chat/completionsx",
        "/v1/xchat/completions",
        "/v1/chatcompletions",
        "/V1/Chat/Completions",
        "chat/completions",
        "v1/chat/completions",
        "/xv1/chat/completions",
        "/shop/chat/completions",
        "/shop/completions",
        "/xengines/m/chat/completions",
        "/engines//chat/completions",
        "/openai/deployments//chat/completions",
        "/completions/",
        "/xv1/completions",
        "/engines/completions",
        "/engines//completions",
        "/openai/deployments/m/completions/extra",
    ],
)
def test_only_whole_trailing_segments_count(path: str) -> None:
    assert match("POST", path) is None
    assert path_model(path) == ""


def test_words_that_others_use_too_count_as_a_whole_path_only() -> None:
    assert found("/completions") == "openai.completions"
    assert found("/chat/completions") == "openai.chat"
    assert found("/x/completions") is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "post", "QUERY"])
def test_only_post_counts(method: str) -> None:
    assert match(method, "/v1/chat/completions") is None


@given(st.text(st.sampled_from("/v1engis{}model") | st.characters(), max_size=20))
def test_no_path_raises(path: str) -> None:
    for tail in ("", "/completions", "/chat/completions"):
        match("POST", path + tail)
        match("POST", "/engines/" + path + tail)


def test_a_dialect_is_loaded_only_when_a_request_is_in_it() -> None:
    code = (
        "import sys; from routecache_middleware.dialects.table import match;"
        "match('POST', '/other'); match('POST', '/x/completions');"
        "assert not [m for m in sys.modules if 'openai_' in m or 'anthropic_' in m];"
        "match('POST', '/v1/chat/completions');"
        "assert 'routecache_middleware.dialects.openai_chat' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_dialect_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        load("nothing")


class Mine:
    name = "mine"


def mine() -> Dialect:
    return Mine()  # type: ignore[return-value]


@pytest.mark.usefixtures("scratch")
def test_a_dialect_of_ones_own_is_registered_with_one_call() -> None:
    assert found("/v1/mine") is found("/mine") is None
    register("mine", mine, suffixes=("/v1/mine", "/of/{model}/mine"), paths=("/mine",))
    assert found("/x/v1/mine") == found("/of/m/mine") == found("/mine") == "mine"
    assert path_model("/of/m/mine") == "m"
    assert found("/v1/chat/completions") == "openai.chat"
    assert load("mine") is load("mine")


@pytest.mark.usefixtures("scratch")
def test_a_dialect_can_take_the_place_of_one_of_ours() -> None:
    assert found("/v1/completions") == "openai.completions"
    register("openai.completions", f"{__name__}:Mine", suffixes=("/v1/completions",))
    assert found("/v1/completions") == "mine"
    assert found("/engines/m/completions") is None


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize(
    ("places", "lesson"),
    [
        ({}, "is served nowhere"),
        ({"suffixes": ("/v1/completions",)}, "already served by openai.completions"),
        ({"paths": ("/completions",)}, "already served by openai.completions"),
        ({"suffixes": ("v1/mine",)}, "has to start with '/'"),
        ({"suffixes": ("/mine/",)}, "end with a whole segment"),
        ({"suffixes": ("/mine/{model}",)}, "end with a whole segment"),
        ({"suffixes": ("/{model}/{model}/mine",)}, "may have one"),
    ],
)
def test_a_place_that_makes_no_sense_is_refused(
    places: dict[str, tuple[str, ...]], lesson: str
) -> None:
    with pytest.raises(ConfigurationError, match=lesson):
        register("mine", mine, **places)
    assert "mine" not in DIALECTS
