"""What ``routecache doctor`` looks at: each finding says what there is, and what to do about it."""

import platform
import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from routecache_middleware import __version__
from routecache_middleware.cli.reaching import Desk, Place
from routecache_middleware.cli.showing import period, size
from routecache_middleware.core.cluster import NodeState, NodeStats
from routecache_middleware.core.keys import Layer, model_key
from routecache_middleware.core.models import Entry
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.wiring.config import load_policy, load_settings

__all__ = ["Finding", "Verdict", "check_app", "check_here", "check_store"]

_PACKAGES = ("litellm", "lmdb", "opentelemetry-sdk", "redis", "starlette", "uvicorn", "zstandard")
_ROUNDS = 30
_MOST_SKEW_S = 2.0  # entries that are further in the future are misses
_NO_EVICTION = "noeviction"
_UNSET = "<not set>"  # what stands for a secret that is not there


class Verdict(StrEnum):
    """How grave a finding is."""

    GOOD = "good"
    ODD = "odd"
    """It works, but hardly as anybody wants it."""
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and what to do about it."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def check_here(place: Place) -> list[Finding]:
    """Look at versions, and at the configuration that is found here.

    Raises:
        ConfigurationError: It is wrong; the text says how to mend it.
    """
    findings = [Finding("versions", Verdict.GOOD, _versions())]
    if place.is_app:
        return findings
    settings = load_settings(toml_path=place.config)
    load_policy(toml_path=place.config)
    place.store()
    findings.append(Finding("configuration", Verdict.GOOD, "it can be read, and makes sense"))
    if settings.secret:
        findings.append(Finding("secret", Verdict.GOOD, "set"))
    else:
        findings.append(
            Finding(
                "secret",
                Verdict.ODD,
                "not set: who reads the store can try out which prompts were asked",
                "set ROUTECACHE_SECRET to 16 random bytes or more, the same for every gateway",
            )
        )
    return findings


async def check_app(desk: Desk) -> list[Finding]:
    """Look at a gateway through its admin app; errors as for :meth:`.Desk.get`."""
    began_s = time.perf_counter()
    found = await desk.get("/config")
    took_s = time.perf_counter() - began_s
    findings = [Finding("admin app", Verdict.GOOD, f"answers in {period(took_s)}")]
    theirs = found["version"]
    is_same = theirs == __version__
    findings.append(
        Finding(
            "gateway",
            Verdict.GOOD if is_same else Verdict.ODD,
            f"version {theirs}, mode {found['mode']}, store {found['coordinator']}",
            "" if is_same else f"this command is of version {__version__}; use the same",
        )
    )
    is_keyed = found["settings"]["secret"] != _UNSET
    if not is_keyed and found["coordinator"] != "memory":
        findings.append(
            Finding("secret", Verdict.ODD, "not set", "set ROUTECACHE_SECRET for every gateway")
        )
    state = await desk.get("/breakers")
    shut = [one["name"] for one in state["breakers"] if one["state"] != "closed"]
    findings.append(
        Finding(
            "breakers",
            Verdict.BAD if shut else Verdict.GOOD,
            f"no {' and no '.join(shut)} reach the store" if shut else "all closed",
            "look at the store: every request goes on without the cache" if shut else "",
        )
    )
    if state["errors"]:
        told = ", ".join(f"{name}: {count}" for name, count in sorted(state["errors"].items()))
        findings.append(Finding("errors", Verdict.ODD, f"since the gateway began: {told}"))
    findings.append(_skew("clock", await desk.clock_s(), time.time()))
    return findings


async def check_store(desk: Desk) -> list[Finding]:
    """Look at a store from here."""
    cache = desk.cache
    assert cache is not None  # noqa: S101 - who asks an app looks at that
    engine = cache.engine
    where, budget_s = desk.where, cache.settings.coordinator_timeout_s
    key = model_key(Layer.LOAD, secrets.token_hex(8), "routecache.doctor")
    took_s = []
    try:
        for _ in range(_ROUNDS):
            began_s = time.perf_counter()
            await engine.inspect((key,))
            took_s.append(time.perf_counter() - began_s)
        findings = [_latency(where, took_s, budget_s)]
        stored = Entry(Layer.LOAD, b"{}", engine.clock.now_s(), 1.0, position=engine.table.position)
        await engine.coordinator.store(key, stored)
        findings.append(Finding("writes", Verdict.GOOD, "taken"))
    except Exception as error:  # noqa: BLE001 - a third party's may raise anything; it is what is looked for
        name = type(error.__cause__ or error).__name__
        return [
            Finding(
                "store",
                Verdict.BAD,
                f"{where} does not do what it is asked ({name}: {error})",
                "check address, credentials, and that this machine may connect to it",
            )
        ]
    try:
        cluster = await cache.cluster_stats()
    except CoordinatorError as error:
        return [*findings, Finding("nodes", Verdict.ODD, str(error))]
    for node in cluster.nodes:
        findings += _of_node(node)
    return findings


def _latency(where: str, took_s: list[float], budget_s: float) -> Finding:
    worst_s, usual_s = max(took_s), median(took_s)
    told = f"{where} answers in {period(usual_s)}, at worst {period(worst_s)} of {_ROUNDS}"
    if usual_s > budget_s / 2:
        return Finding(
            "latency",
            Verdict.BAD,
            f"{told}; a request waits for {period(budget_s)} at most",
            "move the store nearer, or raise coordinator_timeout_s",
        )
    return Finding("latency", Verdict.GOOD, told)


def _of_node(node: NodeStats) -> list[Finding]:
    name = f"node {node.name}"
    if node.state is not NodeState.UP:
        return [Finding(name, Verdict.BAD, node.state.value, "start it, or take it out")]
    facts = node.server
    if facts is None:
        return [Finding(name, Verdict.GOOD, f"{node.state.value}, {node.keys:,} keys")]
    told = f"{facts.version}, {node.role}, {node.keys:,} keys, {size(node.bytes)}"
    findings = [Finding(name, Verdict.GOOD, told), _memory(name, node)]
    findings.append(_skew(f"{name}, clock", facts.clock_s, time.time()))
    return findings


def _memory(name: str, node: NodeStats) -> Finding:
    facts, remedy = node.server, "set maxmemory, and maxmemory-policy allkeys-lfu"
    assert facts is not None  # noqa: S101 - asked before
    if not facts.memory_limit_bytes:
        return Finding(f"{name}, memory", Verdict.ODD, "no limit: it may fill the machine", remedy)
    told = f"{size(node.bytes)} of {size(facts.memory_limit_bytes)}, {facts.memory_policy}"
    if facts.memory_policy == _NO_EVICTION:
        return Finding(
            f"{name}, memory", Verdict.BAD, f"{told}: when full it refuses writes", remedy
        )
    return Finding(f"{name}, memory", Verdict.GOOD, told)


def _skew(name: str, theirs_s: float, ours_s: float) -> Finding:
    ahead_s = theirs_s - ours_s
    if abs(ahead_s) <= _MOST_SKEW_S:
        return Finding(name, Verdict.GOOD, f"within {period(_MOST_SKEW_S)} of this machine's")
    return Finding(
        name,
        Verdict.BAD,
        f"{period(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'} this machine's",
        "let both keep time with the same servers (NTP)",
    )


def _versions() -> str:
    found: list[Any] = [f"routecache {__version__}", f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
