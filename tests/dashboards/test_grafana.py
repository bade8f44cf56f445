"""
What people see in Grafana: the dashboards as they are generated, and their queries on real servers.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
import urllib.parse
import warnings

import pytest
import yaml

from servers import DASHBOARDS, Prometheus, eventually, fetched, require, stack

from wirewitness import Outcome, Verdict
from wirewitness.ledger import Stage, process_ledger


sys.path.insert(0, str(DASHBOARDS / "grafana"))

import panels
import traffic


BARE_ON_PURPOSE = {"The book's remainder"}
"""Panels that subtract counters of one instant: a restart sets all of them back at once."""

PAGES = panels.dashboards()
PANELS = {
    f"{name.removesuffix('.json')}: {panel['title']}": panel
    for name, page in PAGES.items()
    for panel in panels.panels(page)
}
RUNBOOKS = {path.stem for path in (DASHBOARDS / "runbooks").glob("*.md")}

each_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
each_panel = pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)


def generate():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import generate as module
    return module


@pytest.mark.parametrize("name", PAGES)
def test_what_is_generated_is_what_is_committed(name):
    assert generate().generated()[name] == (DASHBOARDS / "grafana" / name).read_text()


def test_every_page_is_committed():
    assert set(generate().generated()) == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_dashboard_survives_a_round_trip_through_grafana_s_own_types(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from grafana_foundation_sdk.cog.encoder import JSONEncoder
        from grafana_foundation_sdk.cog.plugins import register_default_plugins
        from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    assert json.loads(json.dumps(Dashboard.from_json(panels.dashboard(name)), cls=JSONEncoder)) == PAGES[name]


def test_other_addresses_can_be_generated(tmp_path):
    addresses = {"jaeger": "https://jaeger.example", "runbooks": "https://wiki.example/runbooks"}
    arguments = [f"--{name}={value}" for name, value in addresses.items()]
    assert generate().main([*arguments, f"--output={tmp_path}"]) == 0
    for name in PAGES:
        made = json.loads((tmp_path / name).read_text())
        assert {name: variables(made)[name]["query"] for name in addresses} == addresses


def variables(page):
    return {variable["name"]: variable for variable in page["templating"]["list"]}


@each_page
def test_a_page_has_the_variables_that_its_panels_links_and_alerts_use(page):
    known = {"__rate_interval", "__range", "__from", "__to", "__field"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(page["panels"])))
    assert used - known <= set(variables(page))
    for link in alert_links():
        where = urllib.parse.urlsplit(link)
        if where.path.endswith(f"/d/{page['uid']}"):
            asked = {name.removeprefix("var-") for name in urllib.parse.parse_qs(where.query)}
            assert asked <= set(variables(page))


def alerts():
    files = [yaml.safe_load(path.read_text()) for path in (DASHBOARDS / "rules").glob("*.yml")]
    return [rule for file in files for group in file["groups"] for rule in group["rules"] if "alert" in rule]


def alert_links():
    return [re.sub(r"\{\{.*?\}\}", "x", alert["annotations"]["dashboard_url"]) for alert in alerts()]


def test_every_alert_leads_to_a_page_that_there_is():
    linked = {urllib.parse.urlsplit(link).path.rpartition("/d/")[2] for link in alert_links()}
    assert linked <= {page["uid"] for page in PAGES.values()}


@each_page
def test_job_and_dispatcher_can_be_chosen_many_at_a_time_or_all(page):
    chosen = [variable for variable in variables(page).values() if variable.get("multi")]
    assert [variable["name"] for variable in chosen][:1] == ["job"]
    assert len(chosen) == 2
    for variable in chosen:
        assert (variable["includeAll"], variable["allValue"]) == (True, ".*")


@each_page
def test_panels_are_numbered_and_do_not_overlap(page):
    ids = [panel["id"] for panel in page["panels"]]
    assert len(ids) == len(set(ids))
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in page["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23


@each_panel
def test_a_panel_says_what_it_shows_and_in_what_unit(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]


@each_panel
def test_a_panel_asks_the_data_source_that_is_chosen_above(panel):
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert sources
    assert {(source["type"], source["uid"]) for source in sources} == {("prometheus", "${datasource}")}


def links(panel, variable):
    return [link["url"] for link in panel["links"] if link["url"].startswith(f"${{{variable}}}/")]


@each_panel
def test_a_panel_leads_to_jaeger_and_to_runbooks_that_there_are(panel):
    searches, runbooks = links(panel, "jaeger"), links(panel, "runbooks")
    assert searches
    assert runbooks
    assert len(searches) + len(runbooks) == len(panel["links"])
    assert {re.fullmatch(r"\$\{runbooks\}/(\w+)\.md", link)[1] for link in runbooks} <= RUNBOOKS
    (series,) = [link["url"] for link in panel["fieldConfig"]["defaults"]["links"]]
    for link in (*searches, series):
        assert link.startswith("${jaeger}/search?service=${service:percentencode}&")


def test_every_alert_s_runbook_is_linked_from_a_panel():
    linked = {link.rpartition("/")[2] for panel in PANELS.values() for link in links(panel, "runbooks")}
    assert {f"{alert['alert']}.md" for alert in alerts()} <= linked


@each_panel
def test_ranges_follow_the_page_s_resolution_or_its_time_range(panel):
    for target in panel["targets"]:
        ranges = set(re.findall(r"\[(.+?)\]", target["expr"]))
        assert ranges <= {"$__range" if target.get("instant") else "$__rate_interval"}


COUNTER = re.compile(r"\bwirewitness_\w+_(?:total|bucket|count|sum)\b")


@each_panel
def test_no_panel_shows_a_bare_counter(panel):
    for target in panel["targets"]:
        grown = re.sub(r"\b(?:rate|increase)\([^()]*\)", "", target["expr"])
        assert bool(COUNTER.search(grown)) is (panel["title"] in BARE_ON_PURPOSE)


@each_panel
def test_every_query_is_limited_to_what_is_chosen(panel):
    for target in panel["targets"]:
        braces = re.findall(r"\{(.*?)\}", target["expr"])
        assert braces
        assert all('job=~"$job"' in inside for inside in braces)


@each_panel
def test_exactly_the_panels_of_single_durations_ask_for_exemplars(panel):
    asked = any(target["exemplar"] for target in panel["targets"])
    assert asked is any("_duration_seconds_bucket" in target["expr"] for target in panel["targets"])


class Run:
    """
    A real run that a Prometheus has seen from its begin, with every outcome and every verdict in it, twice.
    """

    def __init__(self, path, jaeger, prometheus):
        self.path = path
        self.name = f"grafana-{path}"
        self.jaeger = jaeger
        self.prometheus = prometheus
        self.began = time.time()

    @property
    def job(self):
        # By OTLP it's the application that names its job.
        return self.name if self.path == "otlp" else "applications"

    @property
    def book(self):
        return process_ledger.books()[self.name]

    def targets(self):
        chosen = {"job": self.job, "dispatcher": self.name}
        # Long, so that a slow machine's run lies in it.
        return panels.targets("10m", "10m", **chosen)

    def counted(self, what):
        return self.prometheus.query(f'sum({what}{{job="{self.job}", dispatcher_name="{self.name}"}})')

    def dispatch(self, shop):
        shop.one_of_each()
        eventually(lambda: self.book.open == 0)
        accepted = self.book.accepted
        settled = "wirewitness_ledger_settled_total"
        eventually(lambda: [value for _, value in self.counted(settled)] == [accepted])
        # The same collection has the histograms: their count is the sum of what was observed.
        histogram = "wirewitness_dispatch_duration_seconds_count"
        eventually(lambda: [value for _, value in self.counted(histogram)] == [accepted])


@pytest.fixture(scope="module", params=["scrape", "otlp"])
def run(request, jaeger, tmp_path_factory):
    require("prometheus")
    folder, ports = tmp_path_factory.mktemp("grafana"), stack.free_ports()
    made = Run(request.param, jaeger, Prometheus(ports))
    telemetry = {
        "scrape": lambda: traffic.by_scrape(made.name, jaeger.otlp),
        "otlp": lambda: traffic.by_otlp(made.name, jaeger.otlp, jaeger.collector),
    }[request.param]()
    with telemetry as to:
        file = folder / "prometheus.yml"
        rules = str(DASHBOARDS / "rules" / "*.yml")
        file.write_text(traffic.prometheus_configuration("applications", to.target, rules))
        server = stack.prometheus(ports, file, folder / "samples")
        with (
            stack.started([server], folder),
            traffic.shop(made.name, **to.providers) as shop,
            traffic.queues(made.name, **to.providers) as queues,
            traffic.site(made.name, **to.providers) as site,
        ):
            eventually(lambda: made.counted("wirewitness_ledger_settled_total"))
            for _ in range(2):
                queues.dispatch()
                site.visit()
                made.dispatch(shop)
            yield made


def test_the_run_has_every_outcome_and_every_verdict_in_it(run):
    assert {outcome: run.book.count(outcome) > 0 for outcome in Outcome} == dict.fromkeys(Outcome, True)
    assert {verdict: run.book.verdicts[verdict] > 0 for verdict in Verdict} == dict.fromkeys(Verdict, True)


def is_empty(run, target):
    return not any(not math.isnan(value) for _, value in run.prometheus.query(target.expr))


def test_every_panel_shows_something(run):
    # Recording rules are evaluated a moment after what they read.
    eventually(lambda: run.prometheus.query("job_dispatcher:wirewitness_dispatch_failures:burnrate6h"))
    assert empty(run) == set()


def empty(run):
    return {(one.panel["title"], one.expr) for one in run.targets() if is_empty(run, one)}


def test_every_metric_that_is_emitted_is_in_a_panel(run):
    emitted = {name for name in run.prometheus.get("label/__name__/values") if name.startswith("wirewitness_")}
    shown = " ".join(one.expr for one in run.targets())
    stems = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in emitted}
    assert {stem for stem in stems if stem not in shown} == set()


def totals(run, title, label):
    """
    What a panel's counters say, by a label.
    """
    (target,) = [one for one in run.targets() if one.panel["title"] == title]
    return {labels.get(label): value for labels, value in run.prometheus.query(panels.counted(target.expr))}


@pytest.mark.parametrize("title", ["Rate by outcome", "Payloads by outcome in this time range"])
def test_the_outcomes_of_a_panel_are_the_ledger_s(run, title):
    assert totals(run, title, "outcome") == {outcome.value: run.book.count(outcome) for outcome in Outcome}


def test_the_losses_of_a_panel_are_the_ledger_s(run):
    lost = (Outcome.REJECTED, Outcome.FAILED, Outcome.DROPPED)
    assert totals(run, "Losses by reason", "reason") == {
        reason.value: number for (outcome, reason), number in run.book.settled.items() if outcome in lost and number
    }


def test_the_verdicts_of_a_panel_are_the_ledger_s(run):
    assert totals(run, "Verdicts", "verdict") == {verdict.value: run.book.verdicts[verdict] for verdict in Verdict}
    altered = "Altered payloads"
    assert totals(run, altered, "verdict") == {None: run.book.verdicts[Verdict.ALTERED]}


def test_what_a_panel_shows_as_pending_is_the_ledger_s(run):
    assert totals(run, "Pending by stage", "stage") == {stage.value: run.book.pending[stage] for stage in Stage}


def test_the_requests_a_payload_of_a_panel_are_the_ledger_s(run):
    book = run.book
    expected = book.exchanges / sum(book.settled.values())
    assert totals(run, "HTTP requests a payload", "dispatcher_name") == {run.name: pytest.approx(expected)}


def test_the_success_ratio_of_a_panel_is_the_ledger_s(run):
    book = run.book
    known = sum(book.settled.values()) - book.count(Outcome.UNCONFIRMED)
    expected = pytest.approx(book.count(Outcome.DELIVERED) / known)
    assert totals(run, "Success ratio", "dispatcher_name") == {run.name: expected}
    assert totals(run, "Success ratio in this time range", "outcome") == {None: expected}


def test_the_answers_and_errors_of_panels_add_up_to_the_ledger_s_exchanges(run):
    answers = totals(run, "Answers", "http_response_status_code")
    errors = totals(run, "Top error types in this time range", "error_type")
    assert {"204", "403", "503"} == set(answers)
    unanswered = sum(number for kind, number in errors.items() if kind not in answers)
    assert sum(answers.values()) + unanswered == run.book.exchanges


def test_the_heatmap_s_dispatches_are_the_ledger_s(run):
    buckets = totals(run, "Dispatch durations", "le")
    assert buckets["+Inf"] == run.book.accepted


def test_the_book_s_remainder_is_nought(run):
    assert totals(run, "The book's remainder", "dispatcher_name") == {run.name: 0}


def of_outbox(run, kind, title):
    """
    What a panel's gauges and counters say of one of the run's Outboxes.
    """
    asked = panels.targets("10m", "10m", job=run.job, outbox=f"{run.name}-{kind}")
    found = [run.prometheus.query(panels.counted(one.expr)) for one in asked if one.panel["title"] == title]
    return [value for series in found for _, value in series]


def test_the_panels_of_outboxes_tell_which_is_well_which_is_down_and_which_is_full(run):
    depth, age, circuit, drops = "Depth and capacity", "Age of the oldest payload", "Circuit", "Drops by reason"
    # Twice ten were given to each, and the full one has room for five.
    eventually(lambda: of_outbox(run, "healthy", depth) == [0, 1000])
    eventually(lambda: of_outbox(run, "down", depth) == [20, 1000])
    eventually(lambda: of_outbox(run, "full", depth) == [5, 5])
    eventually(lambda: sum(of_outbox(run, "full", drops)) == 15)
    assert sum(of_outbox(run, "healthy", drops)) == sum(of_outbox(run, "down", drops)) == 0
    eventually(lambda: of_outbox(run, "down", circuit)[0] > 0)
    assert of_outbox(run, "healthy", circuit) == [0]
    assert of_outbox(run, "healthy", age) == [0]
    (first,) = of_outbox(run, "down", age)
    eventually(lambda: of_outbox(run, "down", age)[0] > first > 0)


def of_site(run, title):
    """
    What a panel of Optimizely's page says of the run's site, by its legend.
    """
    asked = [one for one in panels.targets("10m", "10m", job=run.job) if one.dashboard == "optimizely.json"]
    return {
        re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), one.target["legendFormat"]): value  # noqa: B023
        for one in asked
        if one.panel["title"] == title
        for labels, value in run.prometheus.query(panels.counted(one.expr))
    }


def test_the_panels_of_optimizely_tell_what_was_lost_what_was_decided_and_which_datafile_is_stale(run):
    # Twenty visitors were given two decisions each by one client, and bought something by another, whose queue takes one.
    eventually(lambda: of_site(run, "Events taken")["BatchEventProcessor"] >= 60)
    taken, ends = of_site(run, "Events taken"), of_site(run, "Events by their end")
    waiting = of_site(run, "Events waiting")["BatchEventProcessor"]
    assert taken["BatchEventProcessor"] == ends["dispatched"] + ends["dropped"] + ends["abandoned"] + waiting
    assert of_site(run, "Events lost in this time range")["BatchEventProcessor: dropped"] >= 19
    assert sum(of_site(run, "Decisions by variation").values()) >= 20
    served = of_site(run, "Variations served")
    assert served["checkout_in_one_page: three_pages, by sdk"] > 0
    slips = of_site(run, "Visits that did not get what was asked for")
    assert (
        served["checkout_in_one_page: three_pages, by primary"] == slips["checkout_in_one_page: unknown_variation"] > 0
    )
    faults, down = of_site(run, "Faults by reason"), f"{run.name}-down"
    assert faults[f"{down}: status"] > 0
    assert of_site(run, "Age").keys() == {run.name, down}
    assert of_site(run, "Instances by source") == {"cdn": 1, "fallback": 1}
    assert len(set(of_site(run, "Revision").values())) == 1


def test_the_variables_offer_the_run(run):
    page = variables(PAGES["overview.json"])
    label = re.compile(r"label_values\((.+), (\w+)\)")
    for name, value in (("job", run.job), ("dispatcher", run.name)):
        selector, wanted = label.fullmatch(panels.filled(page[name]["query"], job=run.job)).groups()
        assert value in {labels[wanted] for labels, _ in run.prometheus.query(selector)}


def test_the_service_in_jaeger_is_found_from_the_metrics(run):
    variable = variables(PAGES["overview.json"])["service"]
    (query,) = re.fullmatch(r"query_result\((.+)\)", panels.filled(variable["query"], job=run.job)).groups()
    assert [labels for labels, _ in run.prometheus.query(query)] == [{"service_name": run.name}]
    assert run.name in run.jaeger.services()
    # What Grafana matches is the series as text.
    pattern = variable["regex"].strip("/")
    assert re.search(pattern, f'{{service_name="{run.name}"}} 1 1700000000000')[1] == run.name


def found(run, url):
    """
    The traces that Jaeger's page finds by a link: /api/v3 can't search by tag.
    """
    now = int(time.time() * 1000) + 1000
    link = panels.filled(url, service=run.name, jaeger="", __from=str(int(run.began * 1000)), __to=str(now))
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(link).query))
    assert not re.search(r"\$\{?\w", link), link
    asked.pop("lookback")
    return fetched(f"{run.jaeger.url}/api/traces", **asked)["data"]


@each_panel
def test_a_panel_s_links_find_traces_in_jaeger(run, panel):
    for link in links(panel, "jaeger"):
        eventually(lambda link=link: found(run, link), 20)


@each_panel
def test_a_series_link_finds_traces_in_jaeger_where_it_has_grown(run, panel):
    (link,) = panel["fieldConfig"]["defaults"]["links"]
    wanted = set(re.findall(r"__field\.labels\.(\w+)", link["url"]))
    for target in run.targets():
        if target.panel["title"] != panel["title"]:
            continue
        for labels, value in run.prometheus.query(target.expr):
            # A process shows all its datafiles on every provider: other tests' too, whose spans went elsewhere.
            of_run = labels.get("datafile", run.name).startswith(run.name)
            if value > 0 and of_run and wanted <= set(labels):
                of = {f"__field.labels.{name}": labels[name] for name in wanted}
                eventually(lambda of=of: found(run, panels.filled(link["url"], **of)), 20)


@pytest.mark.parametrize("run", ["otlp"], indirect=True)
def test_exemplars_lead_to_traces_that_jaeger_has(run):
    # The scraped page has none: opentelemetry-exporter-prometheus does not write them.
    for target in run.targets():
        if target.target["exemplar"]:
            series = run.prometheus.get("query_exemplars", query=target.expr, start=run.began - 60, end=time.time())
            traces = {one["labels"]["trace_id"] for each in series for one in each["exemplars"]}
            assert traces
            for trace in traces:
                assert eventually(lambda trace=trace: run.jaeger.trace(trace))


def provisioned(name):
    return yaml.safe_load((DASHBOARDS / "grafana" / "provisioning" / name / "wirewitness.yaml").read_text())


def test_the_provisioned_data_sources_are_those_of_the_stack():
    usual = stack.Ports()
    sources = {source["type"]: source for source in provisioned("datasources")["datasources"]}
    addresses = {kind: urllib.parse.urlsplit(source["url"]).port for kind, source in sources.items()}
    assert addresses == {"prometheus": usual.prometheus, "jaeger": usual.jaeger}
    scraped = yaml.safe_load((DASHBOARDS / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert sources["prometheus"]["jsonData"]["timeInterval"] == scraped


@pytest.mark.parametrize("run", ["otlp"], indirect=True)
def test_the_provisioned_link_of_an_exemplar_opens_its_trace(run):
    (source,) = [one for one in provisioned("datasources")["datasources"] if one["type"] == "prometheus"]
    (leads,) = source["jsonData"]["exemplarTraceIdDestinations"]
    asked = "wirewitness_dispatch_duration_seconds_bucket"
    (first, *_) = run.prometheus.get("query_exemplars", query=asked, start=run.began - 60, end=time.time())
    value = first["exemplars"][0]["labels"][leads["name"]]
    url = urllib.parse.urlsplit(leads["url"].replace("$${__value.raw}", value))
    assert url.port == stack.Ports().jaeger
    page, _, trace = url.path.rpartition("/")
    assert page == "/trace"
    assert eventually(lambda: run.jaeger.trace(trace))


def test_the_provisioned_dashboards_are_in_a_folder_that_the_readme_names():
    (provider,) = provisioned("dashboards")["providers"]
    assert provider["options"]["path"] in (DASHBOARDS / "README.md").read_text()
