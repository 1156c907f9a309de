from pathlib import Path

from routecache_middleware.telemetry import names

README = Path(__file__).parents[2] / "README.md"


def test_every_name_is_exported_and_used_once() -> None:
    strings = {
        name: value
        for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str)
    }
    assert {*strings, "ATTRIBUTES"} == set(names.__all__)
    assert len(set(strings.values())) == len(strings)


def test_nothing_is_named_in_somebody_elses_namespace() -> None:
    """docs/general/naming.md: no new names below an existing OpenTelemetry prefix."""
    foreign = {name for name in names.ATTRIBUTES if not name.startswith("routecache.")}
    assert foreign == {
        "cache.hit",
        "cache.item_size",
        "cache.ttl",
        "cache.write",
        "error.type",
        "gen_ai.operation.name",
        "gen_ai.request.model",
        "gen_ai.response.model",
        "openinference.span.kind",
    }


def test_every_attribute_is_in_the_readmes_section_on_tracing() -> None:
    section = README.read_text("utf-8").partition("\n## Tracing\n")[2].partition("\n## ")[0]
    told = {
        *names.ATTRIBUTES,
        names.LINK_LEADER,
        names.LINK_ORIGIN,
        names.LINK_TRIGGER,
    }
    assert [name for name in sorted(told) if f"`{name}`" not in section] == []
