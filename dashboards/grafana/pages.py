"""
The dashboards as tables: what ``generate.py`` makes Grafana's JSON of.

Where a recording rule of ``../rules`` is used, it keeps only the labels that both metrics paths have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Query:
    """
    One query of a panel.

    Attributes:
        expr: PromQL, with Grafana's variables.
        legend: The series' name, in Grafana's form.
        instant: Whether one value is asked for the whole time range, and not a value each step.
    """

    expr: str
    legend: str = ""
    instant: bool = False


@dataclass(frozen=True)
class Panel:
    """
    One panel.

    Attributes:
        title: What it shows.
        kind: How: ``timeseries``, ``stacked``, ``stat``, ``bargauge``, ``heatmap`` or ``states``.
        unit: Grafana's id of the unit.
        queries: Where the values come from.
        description: How to read it.
        runbooks: The alerts whose pages tell what to do.
        tags: Tags of the spans that its links to Jaeger find.
        ends: Outcomes; each has a link of its own then.
        drill: More tags, by the label of the clicked series that has the tag's value.
        width: In 24ths of the page.
        height: In Grafana's rows, of about 40 pixels.
        steps: Thresholds, each from which value on and its colour; the first has none.
        least: The axis's least value.
        most: Its greatest value.
        exemplars: Whether to ask for exemplars.
        decimals: Digits behind the point; None for as many as fit.
    """

    title: str
    kind: str
    unit: str
    queries: tuple[Query, ...]
    description: str
    runbooks: tuple[str, ...]
    tags: Mapping[str, str] = field(default_factory=dict)
    ends: tuple[str, ...] = ()
    drill: Mapping[str, str] = field(default_factory=dict)
    width: int = 12
    height: int = 8
    steps: tuple[tuple[float | None, str], ...] = ()
    least: float | None = 0
    most: float | None = None
    exemplars: bool = False
    decimals: int | None = None


@dataclass(frozen=True)
class Page:
    """
    One dashboard.

    Attributes:
        uid: Its id in links.
        title: Its title.
        description: What it's for.
        filters: Variables behind ``job``: name, label and the metric and label whose values they offer.
        rows: Panels by the title of their row.
    """

    uid: str
    title: str
    description: str
    filters: tuple[tuple[str, str, str, str], ...]
    rows: Mapping[str, tuple[Panel, ...]]


# Okabe and Ito's palette, which people of every colour vision tell apart: https://jfly.uni-koeln.de/color/
GREEN, BLUE, SKY, ORANGE = "#009E73", "#0072B2", "#56B4E9", "#E69F00"
VERMILION, PURPLE, GREY = "#D55E00", "#CC79A7", "#8C8C8C"

COLOURS: Final[Mapping[str, Mapping[str, str]]] = {
    "{{outcome}}": {
        "delivered": GREEN,
        "rejected": ORANGE,
        "failed": VERMILION,
        "dropped": PURPLE,
        "unconfirmed": GREY,
        # Of events in an event processor, and of fetches.
        "dispatched": GREEN,
        "abandoned": ORANGE,
        "unchanged": GREEN,
        "updated": BLUE,
    },
    "{{source}}": {"cdn": GREEN, "file": SKY, "fallback": ORANGE, "none": VERMILION},
    "{{verdict}}": {
        "identical": GREEN,
        "equivalent": SKY,
        "embedded": BLUE,
        "altered": VERMILION,
        "unobserved": GREY,
    },
    "{{stage}}": {"in_flight": BLUE, "awaiting_evidence": ORANGE},
    "{{outcome}}: {{reason}}": {"/^rejected/": ORANGE, "/^failed/": VERMILION, "/^dropped/": PURPLE},
    "{{http_response_status_code}}": {"/^2/": GREEN, "/^3/": SKY, "/^4/": ORANGE, "/^5/": VERMILION},
    "{{error_type}}": {"/./": VERMILION},
    "p50": {"p50": SKY},
    "p90": {"p90": BLUE},
    "p99": {"p99": VERMILION},
    "5m": {"5m": SKY},
    "1h": {"1h": BLUE},
    "6h": {"6h": PURPLE},
}
"""By legend, of its series: of one by its name, or in shades of all whose names fit a pattern. All others have Grafana's own."""

PAYLOADS_A_SECOND: Final = "suffix:payloads/s"
EVENTS_A_SECOND: Final = "suffix:events/s"
SETTLED: Final = "wirewitness_ledger_settled_total"
OF_JOB: Final = 'job=~"$job"'
OF: Final = 'job=~"$job", dispatcher_name=~"$dispatcher"'
OF_OUTBOX: Final = 'job=~"$job", outbox=~"$outbox"'


def _of(metric: str, *more: str, of: str = OF) -> str:
    return f"{metric}{{{', '.join([of, *more])}}}"


def _rate(metric: str, *more: str, of: str = OF) -> str:
    return f"rate({_of(metric, *more, of=of)}[$__rate_interval])"


def _in_range(metric: str, *more: str, of: str = OF) -> str:
    return f"increase({_of(metric, *more, of=of)}[$__range])"


def _quantiles(metric: str, of: str = OF) -> tuple[Query, ...]:
    return tuple(
        Query(f"histogram_quantile(0.{number}, sum by (le) ({_rate(f'{metric}_bucket', of=of)}))", f"p{number}")
        for number in (50, 90, 99)
    )


def _buckets(metric: str, of: str = OF) -> tuple[Query, ...]:
    return (Query(f"sum by (le) (increase({_of(f'{metric}_bucket', of=of)}[$__rate_interval]))", "{{le}}"),)


# Of what is known: UNCONFIRMED payloads are neither delivered nor lost, and have a panel and an alert of their own.
_DELIVERED, _KNOWN, _LOST = 'outcome="delivered"', 'outcome!="unconfirmed"', 'outcome=~"rejected|failed|dropped"'
_ALTERED = 'verdict="altered"'
_BURN = "job_dispatcher:wirewitness_dispatch_failures:burnrate"
_BURNING = ("WirewitnessDispatchBurnRateFast", "WirewitnessDispatchBurnRateSlow")
_SLOW = ("WirewitnessLatencyBurnRateFast", "WirewitnessLatencyBurnRateSlow")
# Not the tag error=true: Jaeger's store in memory does not find it.
_ENDS = ("rejected", "failed", "dropped")

OUTCOMES: Final = (
    Panel(
        "Success ratio in this time range",
        "stat",
        "percentunit",
        (
            Query(
                f"sum({_in_range(SETTLED, _DELIVERED)}) / (sum({_in_range(SETTLED, _KNOWN)}) > 0)",
                "delivered",
                instant=True,
            ),
        ),
        "The share of payloads that were delivered, of all whose end is known. Unconfirmed ones are not counted here.",
        _BURNING,
        ends=_ENDS,
        width=5,
        steps=((None, VERMILION), (0.99, ORANGE), (0.999, GREEN)),
        most=1,
    ),
    Panel(
        "Payloads by outcome in this time range",
        "bargauge",
        "suffix:payloads",
        (Query(f"sum by (outcome) ({_in_range(SETTLED)})", "{{outcome}}", instant=True),),
        "How the payloads ended. Each has exactly one outcome, so these add up to the ledger's settled payloads. Prometheus "
        "extrapolates to the ends of the time range.",
        (*_BURNING, "WirewitnessPayloadsDropped", "WirewitnessUnconfirmed"),
        drill={"wirewitness.outcome": "outcome"},
        width=7,
        decimals=0,
    ),
    Panel(
        "Rate by outcome",
        "stacked",
        PAYLOADS_A_SECOND,
        (Query(f"sum by (outcome) ({_rate(SETTLED)})", "{{outcome}}"),),
        "Payloads settled a second. All but delivered ones are lost, or nobody knows.",
        (*_BURNING, "WirewitnessUnconfirmed"),
        drill={"wirewitness.outcome": "outcome"},
    ),
    Panel(
        "Success ratio",
        "timeseries",
        "percentunit",
        (
            Query(
                f"sum by (dispatcher_name) ({_rate(SETTLED, _DELIVERED)}) "
                f"/ (sum by (dispatcher_name) ({_rate(SETTLED, _KNOWN)}) > 0)",
                "{{dispatcher_name}}",
            ),
        ),
        "The share of payloads delivered, of all whose end is known, for each dispatcher. Empty while nothing is dispatched.",
        _BURNING,
        ends=_ENDS,
        drill={"wirewitness.dispatcher.name": "dispatcher_name"},
        width=8,
        most=1,
    ),
    Panel(
        "Error budget burn rate",
        "timeseries",
        "suffix:x",
        tuple(Query(f"max({_of(_BURN + window)})", window) for window in ("5m", "1h", "6h")),
        "How many times faster than the objective allows payloads are lost, over three windows; of the worst dispatcher. At 1 the "
        "budget lasts just as long as it should. The alert fires at 14.4 over 1 hour, and at 6 over 6. Needs the recording rules.",
        _BURNING,
        ends=_ENDS,
        width=8,
        steps=((None, GREEN), (1, ORANGE), (14.4, VERMILION)),
    ),
    Panel(
        "Losses by reason",
        "stacked",
        PAYLOADS_A_SECOND,
        (Query(f"sum by (outcome, reason) ({_rate(SETTLED, _LOST)}) > 0", "{{outcome}}: {{reason}}"),),
        "Why payloads were rejected, failed or were dropped. Empty while none are.",
        (*_BURNING, "WirewitnessPayloadsDropped"),
        ends=_ENDS,
        drill={"wirewitness.outcome": "outcome", "wirewitness.reason": "reason"},
        width=8,
    ),
)

LATENCY: Final = (
    Panel(
        "Dispatch duration",
        "timeseries",
        "s",
        _quantiles("wirewitness_dispatch_duration_seconds"),
        "From the call's begin to its last evidence, retries included: half, nine of ten and 99 of 100 dispatches took at most "
        "this long. Each dot is one dispatch; it leads to its trace.",
        _SLOW,
        exemplars=True,
    ),
    Panel(
        "Dispatch durations",
        "heatmap",
        "s",
        _buckets("wirewitness_dispatch_duration_seconds"),
        "How many dispatches took how long. Two bands are two ways to end, such as an answer and a timeout.",
        (*_SLOW, "WirewitnessDispatchHanging"),
        exemplars=True,
    ),
    Panel(
        "Exchange duration",
        "timeseries",
        "s",
        _quantiles("wirewitness_exchange_duration_seconds"),
        "From one HTTP request's begin to its status line or error: half, nine of ten and 99 of 100 took at most this long.",
        _SLOW,
        exemplars=True,
    ),
    Panel(
        "Exchange durations",
        "heatmap",
        "s",
        _buckets("wirewitness_exchange_duration_seconds"),
        "How many HTTP requests took how long.",
        _SLOW,
        exemplars=True,
    ),
)

PAYLOADS: Final = (
    Panel(
        "Altered payloads",
        "stat",
        "suffix:payloads",
        (Query(f"sum({_in_range('wirewitness_payload_verdicts_total', _ALTERED)})", "altered", instant=True),),
        "Payloads in this time range of which something else went out than was meant. Not one should be.",
        ("WirewitnessPayloadAltered",),
        tags={"wirewitness.verdict": "altered"},
        width=5,
        steps=((None, GREEN), (0.5, VERMILION)),
        decimals=0,
    ),
    Panel(
        "Verdicts",
        "stacked",
        PAYLOADS_A_SECOND,
        (Query(f"sum by (verdict) ({_rate('wirewitness_payload_verdicts_total')})", "{{verdict}}"),),
        "What became of the payloads' bytes. identical, equivalent and embedded are the same value; altered is not; of unobserved "
        "ones nothing was seen.",
        ("WirewitnessPayloadAltered", "WirewitnessUnconfirmed"),
        drill={"wirewitness.verdict": "verdict"},
        width=10,
    ),
    Panel(
        "Payload size",
        "timeseries",
        "bytes",
        _quantiles("wirewitness_payload_size_bytes"),
        "Length of the payloads as they were meant: half, nine of ten and 99 of 100 had at most this many bytes.",
        ("WirewitnessPayloadAltered",),
        width=9,
    ),
)

_EXCHANGES = "wirewitness_exchange_duration_seconds_count"
_ANSWERED, _WITH_ERROR = 'http_response_status_code!=""', 'error_type!=""'

WIRE: Final = (
    Panel(
        "HTTP requests a payload",
        "timeseries",
        "suffix:requests/payload",
        (
            Query(
                f"sum by (dispatcher_name) ({_rate('wirewitness_exchanges_total')}) "
                f"/ (sum by (dispatcher_name) ({_rate(SETTLED)}) > 0)",
                "{{dispatcher_name}}",
            ),
        ),
        "1 without retries and redirects. Below 1 where payloads are sent in batches, or not at all. The alert fires above 2.",
        ("WirewitnessRetryStorm",),
        drill={"wirewitness.dispatcher.name": "dispatcher_name"},
        width=8,
        steps=((None, GREEN), (2, ORANGE)),
    ),
    Panel(
        "Answers",
        "stacked",
        "suffix:requests/s",
        (
            Query(
                f"sum by (http_response_status_code) ({_rate(_EXCHANGES, _ANSWERED)})",
                "{{http_response_status_code}}",
            ),
        ),
        "HTTP requests by the status code that answered them. Requests without an answer are among the error types.",
        ("WirewitnessRetryStorm", *_BURNING),
        drill={"http.response.status_code": "http_response_status_code"},
        width=8,
    ),
    Panel(
        "Top error types in this time range",
        "bargauge",
        "suffix:requests",
        (
            Query(
                f"topk(10, sum by (error_type) ({_in_range(_EXCHANGES, _WITH_ERROR)}) > 0)",
                "{{error_type}}",
                instant=True,
            ),
        ),
        "Failed HTTP requests by status code or exception. Retries that succeeded in the end had failed before, too.",
        (*_BURNING, "WirewitnessRetryStorm"),
        drill={"error.type": "error_type"},
        width=8,
        decimals=0,
    ),
)

STATE: Final = (
    Panel(
        "Pending by stage",
        "timeseries",
        "suffix:payloads",
        (Query(f"sum by (stage) ({_of('wirewitness_ledger_pending')})", "{{stage}}"),),
        "Payloads whose end isn't known yet: in calls that have not returned, or waiting for their bytes to be seen.",
        ("WirewitnessDispatchHanging", "WirewitnessEvidenceLate"),
        width=6,
    ),
    Panel(
        "The book's remainder",
        "timeseries",
        "suffix:payloads",
        (
            Query(
                f"sum by (dispatcher_name) ({_of('wirewitness_ledger_accepted_total')}) "
                f"- sum by (dispatcher_name) ({_of(SETTLED)}) "
                f"- sum by (dispatcher_name) ({_of('wirewitness_ledger_pending')})",
                "{{dispatcher_name}}",
            ),
        ),
        "accepted - settled - pending, of one instant. Always 0: every payload is accounted for.",
        ("WirewitnessBookOpen",),
        drill={"wirewitness.dispatcher.name": "dispatcher_name"},
        width=6,
        least=None,
    ),
    Panel(
        "Dispatchers that report",
        "timeseries",
        "suffix:dispatchers",
        (
            Query(
                f"count by (job) (sum by (job, dispatcher_name) ({_rate('wirewitness_ledger_accepted_total')}))",
                "{{job}}",
            ),
        ),
        "Dispatchers with telemetry, busy or not. A gap is an application that ended, or whose telemetry did.",
        ("WirewitnessTelemetryAbsent", "WirewitnessDispatcherAbsent"),
        width=6,
    ),
    Panel(
        "Internal errors",
        "timeseries",
        "suffix:errors/s",
        (
            Query(f"sum by (component) ({_rate('wirewitness_internal_errors_total', of=OF_JOB)})", "{{component}}"),
            Query(f"sum by (tap) ({_rate('wirewitness_tap_restored_total', of=OF_JOB)})", "tap {{tap}} put back"),
            Query(
                f"count by (tap) (wirewitness_tap_state{{{OF_JOB}}}) - sum by (tap) (wirewitness_tap_state{{{OF_JOB}}})",
                "processes in which tap {{tap}} sees nothing",
            ),
        ),
        "wirewitness's own faults, by component, of all dispatchers of the job. The dispatches themselves go on. Beside them: taps that another tool took away, and processes in which one sees nothing for that reason.",
        ("WirewitnessInternalErrors",),
        width=6,
    ),
)

_EVENTS_SETTLED, _MADE = "wirewitness_events_settled_total", "wirewitness_decisions_total"
_UNDISPATCHED = 'outcome!="dispatched"'
_LOST_EVENTS = ("WirewitnessEventsDropped", "WirewitnessEventsAbandoned")
_OF_FLAG = 'job=~"$job", flag=~"$flag"'
_OF_DATAFILE = {"wirewitness.datafile.name": "datafile"}
_DROPPED, _AS_DISPATCHER = 'outcome="dropped"', 'job=~"$job", dispatcher_name=~"$outbox"'

QUEUE: Final = (
    Panel(
        "Depth and capacity",
        "timeseries",
        "suffix:payloads",
        (
            Query(f"sum by (outbox) ({_of('wirewitness_outbox_size', of=OF_OUTBOX)})", "{{outbox}}: queued"),
            Query(f"sum by (outbox) ({_of('wirewitness_outbox_capacity', of=OF_OUTBOX)})", "{{outbox}}: capacity"),
        ),
        "Payloads queued, and how many there can be. A full outbox drops.",
        ("WirewitnessOutboxNearlyFull",),
        drill={"wirewitness.dispatcher.name": "outbox"},
    ),
    Panel(
        "How full",
        "timeseries",
        "percentunit",
        (Query(f"max by (outbox) ({_of('wirewitness_outbox_utilization', of=OF_OUTBOX)})", "{{outbox}}"),),
        "Of the payloads or the bytes that it takes, whichever is nearer to its bound.",
        ("WirewitnessOutboxNearlyFull",),
        drill={"wirewitness.dispatcher.name": "outbox"},
        steps=((None, GREEN), (0.8, ORANGE), (1, VERMILION)),
    ),
    Panel(
        "Age of the oldest payload",
        "timeseries",
        "s",
        (Query(f"max by (outbox) ({_of('wirewitness_outbox_oldest_age_seconds', of=OF_OUTBOX)})", "{{outbox}}"),),
        "How long the payload that was queued first has waited. It tells sooner than the depth that sending is stuck.",
        ("WirewitnessOutboxOldestPayload",),
        drill={"wirewitness.dispatcher.name": "outbox"},
        steps=((None, GREEN), (300, ORANGE), (1800, VERMILION)),
    ),
    Panel(
        "Wait in the queue",
        "timeseries",
        "s",
        _quantiles("wirewitness_outbox_wait_duration_seconds", OF_OUTBOX),
        "From acceptance to the first attempt: half, nine of ten and 99 of 100 payloads waited at most this long. Each dot is one "
        "payload; it leads to its trace.",
        ("WirewitnessOutboxOldestPayload",),
        exemplars=True,
    ),
    Panel(
        "Circuit",
        "states",
        "none",
        (Query(f"max by (outbox) ({_of('wirewitness_outbox_circuit_state', of=OF_OUTBOX)})", "{{outbox}}"),),
        "closed: payloads are sent. open: the endpoint fails, and none are. half-open: one is tried.",
        ("WirewitnessOutboxCircuitOpen",),
        drill={"wirewitness.dispatcher.name": "outbox"},
    ),
    Panel(
        "Drops by reason",
        "stacked",
        PAYLOADS_A_SECOND,
        (
            Query(
                f"sum by (dispatcher_name, reason) ({_rate(SETTLED, _DROPPED, of=_AS_DISPATCHER)}) > 0",
                "{{dispatcher_name}}: {{reason}}",
            ),
        ),
        "Payloads given up without an attempt to send them, as the ledger counts them: an outbox is a dispatcher, and has one name "
        "as both. With all outboxes chosen, these are the drops of all dispatchers. Empty while none are.",
        ("WirewitnessPayloadsDropped",),
        tags={"wirewitness.outcome": "dropped"},
        drill={"wirewitness.dispatcher.name": "dispatcher_name", "wirewitness.reason": "reason"},
    ),
)

EVENTS: Final = (
    Panel(
        "Events taken",
        "timeseries",
        EVENTS_A_SECOND,
        (Query(f"sum by (processor) ({_rate('wirewitness_events_accepted_total', of=OF_JOB)})", "{{processor}}"),),
        "User events a second that the SDK's event processors were given, of instrumented clients; ODP's are shown as a processor.",
        _LOST_EVENTS,
        width=5,
    ),
    Panel(
        "Events by their end",
        "stacked",
        EVENTS_A_SECOND,
        (Query(f"sum by (outcome) ({_rate(_EVENTS_SETTLED, of=OF_JOB)})", "{{outcome}}"),),
        "What came of them: dispatched ones went to the event dispatcher in a payload; dropped and abandoned ones are lost.",
        _LOST_EVENTS,
        width=6,
    ),
    Panel(
        "Events lost in this time range",
        "bargauge",
        "suffix:events",
        (
            Query(
                f"sum by (processor, outcome) ({_in_range(_EVENTS_SETTLED, _UNDISPATCHED, of=OF_JOB)})",
                "{{processor}}: {{outcome}}",
                instant=True,
            ),
        ),
        "dropped: the queue was full, or the processor stopped. abandoned: still in it when it gave up. No dispatcher saw either.",
        _LOST_EVENTS,
        width=8,
        decimals=0,
        steps=((None, GREEN), (0.5, VERMILION)),
    ),
    Panel(
        "Events waiting",
        "timeseries",
        "suffix:events",
        (Query(f"sum by (processor) ({_of('wirewitness_events_pending', of=OF_JOB)})", "{{processor}}"),),
        "What the processors hold for their next batch.",
        _LOST_EVENTS,
        width=5,
    ),
)

DECISIONS: Final = (
    Panel(
        "Decisions by variation",
        "stacked",
        "suffix:decisions/s",
        (Query(f"sum by (flag, variation) ({_rate(_MADE, of=_OF_FLAG)})", "{{flag}}: {{variation}}"),),
        "What the SDK decided. Without a variation: the flag is off for that user. A variation that vanishes is a flag that somebody "
        "has changed, or a datafile that is not the one meant.",
        ("WirewitnessDatafileRevisionsDiffer", "WirewitnessDatafileFallbackServed"),
    ),
    Panel(
        "Decisions by reason",
        "stacked",
        "suffix:decisions/s",
        (Query(f"sum by (reason) ({_rate(_MADE, of=_OF_FLAG)})", "{{reason}}"),),
        "Why, in the words of OpenTelemetry's conventions for feature flags.",
        ("WirewitnessDatafileRevisionsDiffer", "WirewitnessDatafileFallbackServed"),
    ),
    Panel(
        "Variations served",
        "stacked",
        "suffix:visits/s",
        (
            Query(
                f"sum by (experiment, variation, chosen) ({_rate('wirewitness_experiment_served_total', of=OF_JOB)}) > 0",
                "{{experiment}}: {{variation}}, by {{chosen}}",
            ),
        ),
        "What experiments ran. By primary: nobody chose, or what was chosen could not be run. Empty while none runs.",
        ("WirewitnessExperimentVariationMissing",),
    ),
    Panel(
        "Visits that did not get what was asked for",
        "stacked",
        "suffix:visits/s",
        (
            Query(
                f"sum by (experiment, reason) ({_rate('wirewitness_experiment_faults_total', of=OF_JOB)}) > 0",
                "{{experiment}}: {{reason}}",
            ),
        ),
        "unknown_variation: the SDK chose one that the code has no callable for. Empty while all is well.",
        ("WirewitnessExperimentVariationMissing",),
    ),
)

DATAFILE: Final = (
    Panel(
        "Age",
        "timeseries",
        "s",
        (Query(f"max by (datafile) ({_of('wirewitness_datafile_age_seconds', of=OF_JOB)})", "{{datafile}}"),),
        "Since the CDN was last known to have what is served; of the worst instance.",
        ("WirewitnessDatafileStale",),
        drill=_OF_DATAFILE,
        width=8,
        steps=((None, GREEN), (3600, VERMILION)),
    ),
    Panel(
        "Instances by source",
        "stacked",
        "suffix:instances",
        (Query(f"sum by (source) ({_of('wirewitness_datafile_source', of=OF_JOB)}) > 0", "{{source}}"),),
        "Where what they serve has come from. fallback: no fetch ever succeeded there. none: there is no datafile at all, and nothing is decided.",
        ("WirewitnessDatafileFallbackServed",),
        width=8,
    ),
    Panel(
        "Revision",
        "timeseries",
        "none",
        (
            Query(f"max by (datafile) ({_of('wirewitness_datafile_revision', of=OF_JOB)})", "{{datafile}}: newest"),
            Query(f"min by (datafile) ({_of('wirewitness_datafile_revision', of=OF_JOB)})", "{{datafile}}: oldest"),
        ),
        "The revision that instances decide by: where the lines part, they do not agree.",
        ("WirewitnessDatafileRevisionsDiffer",),
        drill=_OF_DATAFILE,
        width=8,
    ),
    Panel(
        "Fetch duration",
        "timeseries",
        "s",
        _quantiles("wirewitness_datafile_fetch_duration_seconds", OF_JOB),
        "From a fetch's begin to its end: half, nine of ten and 99 of 100 took at most this long. No decision waits for it.",
        ("WirewitnessDatafileFetchFailing",),
        exemplars=True,
        width=8,
    ),
    Panel(
        "Fetches by outcome",
        "stacked",
        "suffix:fetches/s",
        (
            Query(
                f"sum by (outcome) ({_rate('wirewitness_datafile_fetch_duration_seconds_count', of=OF_JOB)})",
                "{{outcome}}",
            ),
        ),
        "updated: another datafile came. unchanged: it is the one that is served. failed: what was served before is served on.",
        ("WirewitnessDatafileFetchFailing",),
        drill={"wirewitness.datafile.outcome": "outcome"},
        width=8,
    ),
    Panel(
        "Faults by reason",
        "stacked",
        "suffix:faults/s",
        (
            Query(
                f"sum by (datafile, reason) ({_rate('wirewitness_datafile_faults_total', of=OF_JOB)}) > 0",
                "{{datafile}}: {{reason}}",
            ),
        ),
        "What is wrong with fetches, or with what they brought. Empty while nothing is.",
        ("WirewitnessDatafileInvalid", "WirewitnessDatafileFetchFailing"),
        drill={**_OF_DATAFILE, "wirewitness.reason": "reason"},
        width=8,
    ),
)

OVERVIEW: Final = Page(
    "wirewitness-overview",
    "wirewitness: overview",
    "What dispatchers really did, from the bytes on the socket.",
    (("dispatcher", "Dispatcher", "wirewitness_ledger_accepted_total", "dispatcher_name"),),
    {
        "Are payloads delivered?": OUTCOMES,
        "How long does it take?": LATENCY,
        "Are they what was meant?": PAYLOADS,
        "What happens on the wire?": WIRE,
        "Is the picture whole?": STATE,
    },
)
OUTBOX: Final = Page(
    "wirewitness-outbox",
    "wirewitness: outbox",
    "Queues of the Outbox, wirewitness's own dispatcher.",
    (("outbox", "Outbox", "wirewitness_outbox_size", "outbox"),),
    {"Does the queue drain?": QUEUE},
)
OPTIMIZELY: Final = Page(
    "wirewitness-optimizely",
    "wirewitness: Optimizely",
    "What surrounds the dispatcher: the events before it, the decisions that they tell of, and the datafile that decides.",
    (("flag", "Flag", "wirewitness_decisions_total", "flag"),),
    {
        "Do events reach the dispatcher?": EVENTS,
        "What is decided?": DECISIONS,
        "Is the datafile fresh?": DATAFILE,
    },
)
PAGES: Final[Mapping[str, Page]] = {
    "overview.json": OVERVIEW,
    "outbox.json": OUTBOX,
    "optimizely.json": OPTIMIZELY,
}
