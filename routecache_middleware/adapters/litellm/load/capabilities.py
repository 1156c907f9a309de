"""What LiteLLM's model map and the user's configuration say of a deployment."""

from collections.abc import Iterable, Mapping

__all__ = ["capabilities", "common"]

_NAMES = frozenset({"max_input_tokens", "max_output_tokens", "max_tokens", "mode"})
_PROVIDER = "litellm_provider"

Capabilities = dict[str, object]


def capabilities(
    model: str,
    provider: str,
    model_map: Mapping[str, object],
    configured: Mapping[str, object],
) -> Capabilities:
    """Return limits, prices, mode, provider and ``supports_*`` flags, as far as they are known.

    Looked up in LiteLLM's map and nowhere else: its own function asks servers, for some providers.

    Args:
        model: Name at the provider, or ``base_model`` where the user has set it.
        provider: The provider's name.
        model_map: ``litellm.model_cost``.
        configured: ``model_info`` of the deployment; it wins.
    """
    base = configured.get("base_model")
    names = [base] if isinstance(base, str) and base else [f"{provider}/{model}", model]
    listed = next(
        (found for name in names if isinstance(found := model_map.get(name), Mapping)), {}
    )
    known: Capabilities = {
        name: value
        for source in (listed, configured)
        for name, value in source.items()
        if _is_wanted(name) and isinstance(value, bool | int | float | str)
    }
    known["provider"] = provider or str(listed.get(_PROVIDER, ""))
    known["model"] = model
    return known


def common(deployments: Iterable[Mapping[str, object]]) -> Capabilities:
    """Return what a caller can rely on whichever of the deployments serves it.

    Flags that all have, the smallest limits, the highest prices, and texts that are the same.
    """
    several = list(deployments)
    names = set().union(*several) if several else set()
    return {
        name: value
        for name in sorted(names)
        if (value := _common(name, [one.get(name) for one in several])) is not None
    }


def _common(name: str, values: list[object]) -> object:
    if name.startswith("supports_"):
        return all(value is True for value in values)
    if all(value == values[0] for value in values):
        return values[0]
    numbers = [value for value in values if isinstance(value, int | float)]
    if not numbers:
        return None
    return min(numbers) if name.startswith("max_") else max(numbers)


def _is_wanted(name: object) -> bool:
    return isinstance(name, str) and (
        name in _NAMES or name.startswith("supports_") or "_cost_per_" in name
    )
