"""What telemetry is told of a lookup."""

import pytest

from routecache_middleware.core.keys import CacheKey, Layer, model_key, result_key, route_key
from routecache_middleware.engine.lookup import told_hash

HASH, TENANT, SECRET = "0f" * 16, "ab" * 16, b"secret of the deployment"


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (route_key(HASH), HASH),
        (route_key(HASH, TENANT), HASH),
        (result_key(HASH, "a:b@c"), HASH),
        (result_key(HASH, "m", TENANT), HASH),
        (result_key(HASH, "m", "acme"), HASH),
        (result_key("what a client asked", "m", TENANT), ""),
        (result_key(HASH + "0", "m"), ""),
        (model_key(Layer.METADATA, "m", TENANT), ""),
    ],
)
def test_only_what_is_a_hash_is_told_and_never_a_tenants(key: CacheKey, told: str) -> None:
    assert told_hash(key, SECRET) == told


def test_without_a_secret_no_hash_is_told() -> None:
    assert told_hash(result_key(HASH, "m"), b"") == ""
