"""Who is who, by the head of a request."""

import pytest

from routecache_middleware import CachePolicy, Settings
from routecache_middleware.adapters.litellm.fastlane.dialect import CHAT
from routecache_middleware.adapters.litellm.fastlane.heads import LaneHead, LaneHeads
from routecache_middleware.core.models import BypassReason
from tests.support.asgi import KEY, Pair, scope_of


def read(*headers: Pair, settings: Settings | None = None, **scope: object) -> LaneHead:
    heads = LaneHeads(settings or Settings(), CachePolicy())
    request = scope_of(headers=headers, **scope)  # type: ignore[arg-type]
    head = heads.read(CHAT, request)
    assert heads.read(CHAT, request) is head  # remembered
    assert isinstance(head, LaneHead)
    return head


@pytest.mark.parametrize(
    "name",
    [
        b"authorization",
        b"x-api-key",
        b"x-litellm-api-key",
        b"cookie",
        b"x-customer",  # nobody knows what an operator's own authentication looks at
        b"openai-organization",
        b"anthropic-beta",
        b"x-session-id",
    ],
)
def test_another_value_of_a_header_is_another_caller(name: bytes) -> None:
    one, other = read(KEY, (name, b"a")), read(KEY, (name, b"b"))
    assert one.tenant != other.tenant
    assert one.tenant != read(KEY).tenant


@pytest.mark.parametrize(
    "name",
    [b"traceparent", b"x-request-id", b"accept-encoding", b"x-stainless-retry-count"],
)
def test_a_header_of_no_consequence_makes_no_difference(name: bytes) -> None:
    one, other = read(KEY, (name, b"a")), read(KEY, (name, b"b"))
    assert (one.tenant, one.via) == (other.tenant, other.via)


@pytest.mark.parametrize("name", [b"user-agent", b"x-forwarded-for", b"x-real-ip", b"host"])
def test_another_way_is_the_same_caller_who_is_asked_anew(name: bytes) -> None:
    one, other = read(KEY, (name, b"a")), read(KEY, (name, b"b"))
    assert one.tenant == other.tenant
    assert one.via != other.via


def test_another_address_is_the_same_caller_who_is_asked_anew() -> None:
    one = read(KEY, client=("10.0.0.1", 5))
    other = read(KEY, client=("10.0.0.2", 5))
    assert one.tenant == other.tenant
    assert one.via != other.via
    assert read(KEY, client=("10.0.0.1", 6)).via == one.via
    assert read(KEY, client=None).via not in (one.via, other.via)


def test_a_credential_in_the_query_string_counts() -> None:
    one, other = read(KEY, query_string=b"key=a"), read(KEY, query_string=b"key=b")
    assert one.tenant != other.tenant


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ((b"x-litellm-tags", b"a"), BypassReason.DISABLED),
        ((b"x-litellm-timeout", b"1"), BypassReason.DISABLED),
        ((b"x-litellm-whatever-comes", b"1"), BypassReason.DISABLED),
        ((b"origin", b"https://example.org"), BypassReason.DISABLED),
    ],
)
def test_a_header_that_asks_for_more_than_an_answer_keeps_out(
    header: Pair, reason: BypassReason
) -> None:
    head = read(KEY, header)
    assert head.refusal is reason
    assert not head.is_plain


def test_who_shows_no_credential_is_nobody() -> None:
    head = read(settings=Settings(allow_anonymous=True))
    assert head.refusal is BypassReason.NO_PRINCIPAL
    assert head.tenant == ""


def test_a_caller_is_never_the_tenant_that_sharing_puts_together() -> None:
    """``tenancy="shared"`` is for headers whose tenant is their principal."""
    head = read(KEY)
    assert head.tenant != head.principal


def test_the_deployment_secret_goes_into_the_name() -> None:
    old, new = Settings(secret=b"a" * 16), Settings(secret=b"b" * 16, previous_secrets=(b"a" * 16,))
    assert read(KEY, settings=old).tenant != read(KEY, settings=new).tenant
    assert read(KEY, settings=new).former_tenants == (read(KEY, settings=old).tenant,)


def test_lists_in_the_place_of_pairs_are_understood() -> None:
    heads = LaneHeads(Settings(), CachePolicy())
    scope = scope_of()
    lists = {**scope, "headers": [list(pair) for pair in scope["headers"]]}
    assert heads.read(CHAT, lists) is heads.read(CHAT, scope)


def test_a_storm_of_heads_is_forgotten() -> None:
    heads = LaneHeads(Settings(), CachePolicy())
    for number in range(5000):
        heads.read(CHAT, scope_of(headers=[(b"authorization", b"%d" % number)]))
    assert len(heads._heads) <= 4096
