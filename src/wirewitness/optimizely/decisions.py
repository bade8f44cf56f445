"""
The client's decisions, as its notification centre tells them.
"""

from __future__ import annotations

import functools
import itertools

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from optimizely.helpers.enums import NotificationTypes

from wirewitness._guard import fail_open
from wirewitness.optimizely.patches import Patches
from wirewitness.telemetry.counters import LabelledCounter
from wirewitness.telemetry.decisions import FlagDecision


_MOST_KEPT: Final = 4096
# Far less than are let through to metrics: what isn't ever decided must not crowd out what is.
_MOST_DECLARED: Final = 500
# OpenTelemetry's values: a split of the traffic is random, a targeted delivery goes by the audience.
_REASONS: Final = {"feature-test": "split", "holdout": "split", "rollout": "targeting_match"}
_NOTHING: Final[Mapping[str, Any]] = {}


class _Made(NamedTuple):
    """What of a notification makes it the same decision as another."""

    kind: str
    flag: str | None
    variation: str | None
    rule: str | None
    source: str | None


class DecisionListener:
    """
    Counts what the client decides, and puts it on the current span. Visitors and their attributes are no part of it.

    Args:
        client: An Optimizely client.
        counted: Where its decisions are counted.
        patches: What is put into place.
    """

    def __init__(self, client: Any, counted: LabelledCounter, patches: Patches) -> None:
        self._client = client
        self._counted = counted
        self._kept: dict[_Made | tuple[Any, ...], FlagDecision] = {}
        self._declared = False
        centre = client.notification_center
        for kind, listener in (
            (NotificationTypes.DECISION, self.decided),
            (NotificationTypes.OPTIMIZELY_CONFIG_UPDATE, self.renewed),
        ):
            number = centre.add_notification_listener(kind, listener)
            patches.later(functools.partial(centre.remove_notification_listener, number))

    @fail_open("optimizely")
    def decided(self, kind: str, _user_id: str, _attributes: Any, told: Mapping[str, Any]) -> None:
        """
        Listens to ``DECISION``.
        """
        if kind == "flag":
            made: Any = (kind, told["flag_key"], told["variation_key"], told["rule_key"], None)
        else:
            made = _made(kind, told)
        (self._kept.get(made) or self._decision(made)).made()

    @fail_open("optimizely")
    def renewed(self, *_: Any) -> None:
        """
        Listens to ``OPTIMIZELY_CONFIG_UPDATE``: what a rule's key means is the datafile's to say.
        """
        self._kept = {}
        self._declared = False

    def _decision(self, made: tuple[Any, ...]) -> FlagDecision:
        if not self._declared:
            self._declare()
        decision = self._of(*made)
        if len(self._kept) < _MOST_KEPT:
            self._kept[made] = decision
        return decision

    def _of(
        self, kind: str, flag: str | None, variation: str | None, rule: str | None, source: str | None
    ) -> FlagDecision:
        reason = self._reason(flag, variation, rule) if source is None else _REASONS.get(source, "unknown")
        return FlagDecision.of(kind, flag or "", variation or "", rule or "", reason, self._counted)

    def _reason(self, flag: str | None, variation: str | None, rule: str | None) -> str:
        if variation is None:
            return "default"
        if rule is None:
            return "static"  # a forced decision
        return "targeting_match" if rule in _targeted(self._config(), flag) else "split"

    def _config(self) -> Any:
        # While a decision is made, the client has its datafile: this waits for nothing.
        return self._client.config_manager.get_config()

    @fail_open("optimizely")
    def _declare(self) -> None:
        self._declared = True
        config = self._config()
        flags = config.feature_key_map.values()
        each = ((flag.key, *outcome) for flag in flags for outcome in _outcomes(config, flag))
        for flag, variation, rule in itertools.islice(each, _MOST_DECLARED):
            self._of("flag", flag, variation, rule, None).declare()


def _made(kind: str, told: Mapping[str, Any]) -> _Made:
    experiment = told.get("experiment_key")
    if experiment is not None or "feature_key" not in told:
        return _Made(kind, experiment, told.get("variation_key"), experiment, None)
    source = told.get("source_info") or _NOTHING
    named = told.get("source")
    return _Made(kind, told["feature_key"], source.get("variation_key"), source.get("experiment_key"), str(named))


def _deliveries(config: Any, flag: Any) -> list[Any]:
    rollout = config.rollout_id_map.get(flag.rolloutId)
    return [] if rollout is None else list(config.get_rollout_experiments(rollout))


def _targeted(config: Any, key: str | None) -> set[str]:
    """
    The keys of a flag's rules that are targeted deliveries.
    """
    flag = config.feature_key_map.get(key)
    return set() if flag is None else {rule.key for rule in _deliveries(config, flag)}


def _outcomes(config: Any, flag: Any) -> Iterator[tuple[str | None, str | None]]:
    """
    The variations that a flag can get, each with its rule.
    """
    yield None, None
    rules = [config.experiment_id_map.get(number) for number in flag.experimentIds]
    for rule in (*rules, *_deliveries(config, flag)):
        if rule is None:
            continue
        for variation in rule.variations:
            yield variation["key"] if isinstance(variation, dict) else variation.key, rule.key
