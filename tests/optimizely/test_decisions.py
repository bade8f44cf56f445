"""
Decisions are counted by flag, variation, rule and reason, and are on the request's span; nobody's visitor is in either.
"""

from __future__ import annotations

import json
import threading

import pytest

from optimizely.helpers.enums import NotificationTypes
from optimizely.optimizely import Optimizely

from wirewitness._guard import INTERNAL_ERRORS
from wirewitness.optimizely import instrument, uninstrument


WITHOUT_EVENT = ["DISABLE_DECISION_EVENT"]


class Nowhere:
    def dispatch_event(self, event):
        pass


def named(project, name):
    """
    The project with a flag and an experiment of this name, for a test's own series.
    """
    text = json.dumps(project).replace("new_checkout", f"{name} flag").replace("checkout_test", f"{name} rule")
    return text.replace("search_test", f"{name} search")


@pytest.fixture
def name(request):
    return request.node.name


@pytest.fixture
def make(project, seen, name, close):
    made = []

    def make(change=lambda project: None):
        change(project)
        client = Optimizely(named(project, name), event_dispatcher=Nowhere())
        made.append(client)
        return instrument(client, **seen.options)

    yield make
    for client in made:
        uninstrument(client)
        close(client)


@pytest.fixture
def counted(seen):
    return lambda **labels: sum(point.value for point in seen.points("wirewitness.decisions", **labels))


def decide(client, flag, visitor="ada"):
    return client.create_user_context(visitor, {"plan": "gold"}).decide(flag, [*WITHOUT_EVENT])


def targeted(project):
    """
    A targeted delivery, by a rule that holds for everybody.
    """
    on = {"id": "9400000000499", "key": "on", "featureEnabled": True, "variables": []}
    rule = {
        "id": "9400000000399",
        "key": "delivery",
        "status": "Running",
        "layerId": "9400000000299",
        "audienceIds": [],
        "forcedVariations": {},
        "variations": [on],
        "trafficAllocation": [{"entityId": on["id"], "endOfRange": 10000}],
    }
    project["rollouts"] = [{"id": "9400000000299", "experiments": [rule]}]
    project["featureFlags"][0].update(rolloutId="9400000000299", experimentIds=[])


def test_a_decision_is_counted_by_flag_variation_rule_and_reason(make, name, counted):
    client = make()

    chosen = [decide(client, f"{name} flag", f"visitor {number}").variation_key for number in range(20)]

    for variation in ("one_page", "three_pages"):
        labels = {"flag": f"{name} flag", "variation": variation, "rule": f"{name} rule", "reason": "split"}
        assert 0 < counted(type="flag", **labels) == chosen.count(variation)


def test_what_a_flag_can_be_decided_to_is_counted_from_zero(make, name, seen):
    client = make()
    decide(client, f"{name} flag")

    values = [point.value for point in seen.points("wirewitness.decisions", flag=f"{name} flag")]
    assert sorted(values) == [0, 0, 1]


def test_a_targeted_delivery_s_reason_is_its_targeting(make, name, counted):
    client = make(targeted)
    decide(client, f"{name} flag")

    labels = {"flag": f"{name} flag", "variation": "on", "rule": "delivery"}
    assert counted(**labels, reason="targeting_match") == counted(**labels) == 1


def test_a_flag_that_no_rule_applies_to_is_decided_by_default(make, counted, project, name):
    project["featureFlags"][1]["key"] = f"{name} off"
    decide(make(), f"{name} off")

    assert counted(flag=f"{name} off", variation="", rule="", reason="default") == 1


def test_the_older_methods_are_counted_by_their_own_types(make, name, counted):
    client = make()

    variation = client.get_variation(f"{name} search", "ada")
    client.is_feature_enabled(f"{name} flag", "ada")
    client.get_feature_variable_string(f"{name} flag", "title", "ada")
    client.get_all_feature_variables(f"{name} flag", "ada")

    assert counted(type="ab-test", flag=f"{name} search", variation=variation, rule=f"{name} search") == 1
    for kind in ("feature", "feature-variable", "all-feature-variables"):
        assert counted(type=kind, flag=f"{name} flag", rule=f"{name} rule", reason="split") == 1


def test_a_decision_is_an_event_on_the_current_span_by_the_conventions_for_feature_flags(make, name, seen):
    client = make()
    with seen.tracer_provider.get_tracer("application").start_as_current_span("request"):
        decision = decide(client, f"{name} flag", "a visitor's id")

    ((event,),) = [span.events for span in seen.spans if span.name == "request"]
    assert event.name == "feature_flag.evaluation"
    assert dict(event.attributes) == {
        "feature_flag.key": f"{name} flag",
        "feature_flag.provider.name": "optimizely",
        "feature_flag.result.reason": "split",
        "feature_flag.result.variant": decision.variation_key,
        "wirewitness.rule": f"{name} rule",
    }


def test_neither_the_visitor_nor_attributes_nor_variables_are_in_any_telemetry(make, name, seen):
    client = make()
    with seen.tracer_provider.get_tracer("application").start_as_current_span("request"):
        for number in range(10):
            client.create_user_context(f"secret visitor {number}", {"plan": "secret plan"}).decide(f"{name} flag")

    shown = " ".join(span.to_json() for span in seen.spans)
    shown += " ".join(str(dict(point.attributes)) for point in seen.points("wirewitness.decisions"))
    assert f"{name} flag" in shown
    assert not [word for word in ("secret", "Pay <here>") if word in shown]


def test_a_rule_s_key_means_what_the_newest_datafile_says(make, name, counted):
    client = make(targeted)
    told = {"flag_key": f"{name} flag", "variation_key": "on", "rule_key": "delivery"}
    tell = client.notification_center.send_notifications
    tell(NotificationTypes.DECISION, "flag", "ada", {}, told)
    client.config_manager.get_config().feature_key_map[f"{name} flag"].rolloutId = ""

    tell(NotificationTypes.DECISION, "flag", "ada", {}, told)
    tell(NotificationTypes.OPTIMIZELY_CONFIG_UPDATE)
    tell(NotificationTypes.DECISION, "flag", "ada", {}, told)

    assert [counted(flag=f"{name} flag", reason=reason) for reason in ("targeting_match", "split")] == [2, 1]


def test_a_forced_decision_is_static(make, name, counted):
    from optimizely.optimizely_user_context import OptimizelyUserContext

    client = make()
    user = client.create_user_context("ada")
    user.set_forced_decision(
        OptimizelyUserContext.OptimizelyDecisionContext(f"{name} flag", None),
        OptimizelyUserContext.OptimizelyForcedDecision("one_page"),
    )
    user.decide(f"{name} flag", [*WITHOUT_EVENT])

    assert counted(flag=f"{name} flag", variation="one_page", rule="", reason="static") == 1


def test_more_decisions_than_are_bounded_share_one_series(make, counted, monkeypatch):
    from wirewitness.telemetry import decisions
    from wirewitness.telemetry.attributes import CardinalityLimit

    monkeypatch.setattr(decisions, "_known", CardinalityLimit(most=0))
    before = counted(flag="_OTHER")
    client = make()
    decide(client, "dark_mode")

    assert counted(flag="_OTHER") == before + 1


def test_threads_lose_no_count(make, name, counted):
    client = make()

    def many():
        for number in range(200):
            decide(client, f"{name} flag", f"visitor {number}")

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counted(flag=f"{name} flag") == 800


def test_a_notification_that_nobody_expects_is_a_fault_that_reaches_nobody(make, name, counted):
    client = make()
    faults = INTERNAL_ERRORS.counts()["optimizely"]

    client.notification_center.send_notifications(NotificationTypes.DECISION, "flag", "ada", {}, {"no": "flag"})
    decide(client, f"{name} flag")

    assert INTERNAL_ERRORS.counts()["optimizely"] == faults + 1
    assert counted(flag=f"{name} flag") == 1
