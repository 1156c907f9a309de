import pytest

from routecache_middleware import errors
from routecache_middleware.errors import ConfigurationError, RouteCacheError


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_has_one_root_and_says_when_it_is_raised(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, RouteCacheError)
    assert kind.__doc__


def test_nothing_but_errors_is_defined_and_all_of_them_are_exported() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined == set(errors.__all__)


def test_a_wrong_setting_is_a_value_error_as_well() -> None:
    """Whoever validates configuration with ``except ValueError`` catches it."""
    assert issubclass(ConfigurationError, ValueError)
