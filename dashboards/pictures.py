"""
Draws ``pictures/overview.png``, ``trace.png``, ``outbox.png`` and ``optimizely.png`` of real runs: ``python dashboards/pictures.py``.

It starts Jaeger and Prometheus on free ports, has two dispatchers go through a good, a bad and a good time, then three
Outboxes take payloads, then two Optimizely clients decide, and asks the servers what the dashboards' panels ask. Nothing in the pictures is made up, and nothing is Grafana's or Jaeger's own page.

It needs the groups ``test`` and ``dashboards`` of pyproject.toml, and ``make backends``.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
import re
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import plots
import stack
import traffic

from plots import Exemplar, Series, Shown, Span


HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "grafana"))

import panels  # noqa: E402


SERVICE: Final = "shop"
INTERVAL: Final = 10
"""Seconds over which rates are taken."""

DISPATCHES_A_SECOND: Final = 25
QUEUES: Final = "queue"
"""What the Outboxes' names begin with."""

SITE: Final = "optimizely"
"""The datafile's name."""

GOOD: Final = {"well": 88, "slow": 3, "compact": 3, "batched": 3, "retried": 3}
BAD: Final = {
    "well": 40,
    "slow": 10,
    "compact": 2,
    "batched": 2,
    "retried": 16,
    "unavailable": 14,
    "forbidden": 2,
    "refused": 7,
    "unserializable": 2,
    "forgotten": 4,
    "tampered": 1,
}
"""How often each of traffic.ACTS, of 100."""

BUT_AUDIT: Final = {"well": 96, "unavailable": 1, "retried": 3}


def asked(url: str, **query: Any) -> Any:
    """
    What a JSON API on loopback answers.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}?{urllib.parse.urlencode(query)}", timeout=30) as response:
        return json.load(response)


def shown(
    page: Mapping[str, Any], prometheus: str, begin: float, end: float, interval: int, **variables: str
) -> dict[int, Shown]:
    """
    What every panel of a dashboard shows.

    Args:
        page: The dashboard's JSON.
        prometheus: Prometheus's URL.
        begin: From when on, in seconds since 1970.
        end: Until when.
        interval: Seconds over which rates are taken.
        **variables: ``job``, ``dispatcher``, ``outbox`` and ``flag``, as :func:`panels.targets` takes them.
    """
    times = [begin + step for step in range(int(end - begin) + 1)]
    chosen = {**panels.EVERYTHING, **variables, "__rate_interval": f"{interval}s", "__range": f"{int(end - begin)}s"}
    found: dict[int, Shown] = {}
    for panel in panels.panels(page):
        series: list[Series] = []
        exemplars: list[Exemplar] = []
        for target in panel["targets"]:
            expr = panels.filled(target["expr"], **chosen)
            series += _series(prometheus, target, expr, times)
            if target["exemplar"] and panel["type"] == "timeseries":
                exemplars = _exemplars(prometheus, expr, begin, end)
        found[panel["id"]] = Shown(series, exemplars)
    return found


def _series(prometheus: str, target: Mapping[str, Any], expr: str, times: Sequence[float]) -> Iterator[Series]:
    if target.get("instant"):
        answer = asked(f"{prometheus}/api/v1/query", query=expr, time=times[-1])
        rows = [(one["metric"], [one["value"]]) for one in answer["data"]["result"]]
    else:
        answer = asked(f"{prometheus}/api/v1/query_range", query=expr, start=times[0], end=times[-1], step=1)
        rows = [(one["metric"], one["values"]) for one in answer["data"]["result"]]
    for labels, points in rows:
        at = {round(float(moment) - times[0]): float(value) for moment, value in points}
        whole = [at.get(place, math.nan) for place in range(len(times))]
        name = re.sub(r"\{\{(\w+)\}\}", lambda match, labels=labels: labels.get(match[1], ""), target["legendFormat"])
        yield Series(name, times, [float(points[-1][1])] if target.get("instant") else whole)


def _exemplars(prometheus: str, expr: str, begin: float, end: float) -> list[Exemplar]:
    answer = asked(f"{prometheus}/api/v1/query_exemplars", query=expr, start=begin, end=end)
    seen = {
        (one["labels"]["trace_id"], float(one["timestamp"]), float(one["value"]))
        for series in answer["data"]
        for one in series["exemplars"]
    }
    return [Exemplar(moment, value) for _, moment, value in sorted(seen) if begin <= moment <= end]


def go_through_days(shops: Sequence[traffic.Shop], seconds: float) -> None:
    """
    Dispatch through a good time, a bad one for the first shop, and a good one again.

    Args:
        shops: What dispatches.
        seconds: How long all of it takes.
    """
    dice = random.Random(4)
    begun = time.monotonic()
    threads: list[threading.Thread] = []
    while (now := time.monotonic() - begun) < seconds:
        bad = 0.35 < now / seconds < 0.65  # noqa: PLR2004 -- the middle third
        mixes = (BAD if bad else GOOD, BUT_AUDIT)
        for shop, mix in zip(shops, mixes, strict=True):
            (kind,) = dice.choices(list(mix), list(mix.values()))
            # A slow dispatch keeps no other waiting.
            threads.append(threading.Thread(target=shop.dispatch, args=(kind, int(dice.lognormvariate(2, 1)) + 1)))
            threads[-1].start()
        time.sleep(2 / DISPATCHES_A_SECOND * dice.uniform(0.6, 1.4))
    for thread in threads:
        thread.join()


def retried(jaeger: str, service: str) -> list[dict[str, Any]]:
    """
    The spans of a trace that Jaeger has of a dispatch with two retries, as OTLP has them in JSON.

    Args:
        jaeger: Jaeger's URL.
        service: The application's name in it.

    Raises:
        LookupError: If there's none.
    """
    form = "%Y-%m-%dT%H:%M:%SZ"
    now = time.time()
    query = {
        "query.service_name": service,
        "query.start_time_min": time.strftime(form, time.gmtime(now - 3600)),
        "query.start_time_max": time.strftime(form, time.gmtime(now + 60)),
        "query.num_traces": 5000,
    }
    found = asked(f"{jaeger}/api/v3/traces", **query)["result"]["resourceSpans"]
    traces: dict[str, list[dict[str, Any]]] = {}
    for span in (span for resource in found for scope in resource["scopeSpans"] for span in scope["spans"]):
        traces.setdefault(span["traceId"], []).append(span)
    for spans in traces.values():
        if sorted(_attributes(span).get("http.response.status_code", 0) for span in spans) == [0, 204, 503, 503]:
            whole = asked(f"{jaeger}/api/v3/traces/{spans[0]['traceId']}")["result"]["resourceSpans"]
            return [span for resource in whole for scope in resource["scopeSpans"] for span in scope["spans"]]
    msg = "no dispatch with two retries is among the traces"
    raise LookupError(msg)


def _attributes(span: Mapping[str, Any]) -> dict[str, Any]:
    return {
        one["key"]: int(value) if kind == "intValue" else value
        for one in span.get("attributes", ())
        for kind, value in one["value"].items()
    }


def lines(spans: Sequence[Mapping[str, Any]]) -> list[Span]:
    """
    Spans of a trace as lines of a picture, the dispatch first.

    Args:
        spans: As OTLP has them in JSON.
    """
    ordered = sorted(spans, key=lambda span: (bool(span.get("parentSpanId")), int(span["startTimeUnixNano"])))
    first = int(ordered[0]["startTimeUnixNano"])
    return [
        Span(
            _name(span),
            _told(_attributes(span)),
            (int(span["startTimeUnixNano"]) - first) / 1e6,
            (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e6,
            failed=span.get("status", {}).get("code") == 2,  # noqa: PLR2004 -- STATUS_CODE_ERROR
            depth=1 if span.get("parentSpanId") else 0,
        )
        for span in ordered
    ]


def _name(span: Mapping[str, Any]) -> str:
    has = _attributes(span)
    where = f" {has['server.address']}:{has['server.port']}" if "server.address" in has else ""
    return f"{span['name']}{where}"


def _told(has: Mapping[str, Any]) -> str:
    if "wirewitness.outcome" in has:
        keys = ("outcome", "verdict", "evidence", "exchange.count")
        return "   ".join(f"{key} {has[f'wirewitness.{key}']}" for key in keys)
    told = [f"status {has['http.response.status_code']}"]
    if "http.request.resend_count" in has:
        told.append(f"resend_count {has['http.request.resend_count']}")
    if "error.type" in has:
        told.append(f"error.type {has['error.type']}")
    return "   ".join(told)


def draw_page(
    name: str, run: str, prometheus: str, within: tuple[float, float], *, file: Path, **variables: str
) -> None:
    """
    Draw a dashboard.

    Args:
        name: The dashboard's file, such as ``overview.json``.
        run: What it's of.
        prometheus: Prometheus's URL.
        within: From when on and until when, in seconds since 1970.
        file: Where the picture goes.
        **variables: As :func:`shown` takes them.
    """
    page, (begin, end) = panels.dashboard(name), within
    note = (
        f"{int(end - begin)} s of a real run on loopback: {run}; rates over {INTERVAL} s. Rendered from Prometheus's "
        "answers to the panels' own queries: not a screenshot of Grafana."
    )
    plots.overview(page, shown(page, prometheus, begin, end, INTERVAL, **variables), note).savefig(file, dpi=100)


def draw_trace(jaeger: str, service: str, file: Path) -> None:
    """
    Draw a dispatch with two retries.

    Args:
        jaeger: Jaeger's URL.
        service: The application's name in it.
        file: Where the picture goes.
    """
    spans = retried(jaeger, service)
    title = "A dispatch that was retried twice, and delivered"
    note = f"Trace {spans[0]['traceId']}, read back from Jaeger by /api/v3: not a screenshot of its page."
    plots.waterfall(title, note, lines(spans)).savefig(file, dpi=110)


def main(arguments: list[str] | None = None) -> int:
    """
    Run, and draw.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description="Draw the dashboard and a trace of a real run.")
    parser.add_argument("--seconds", type=float, default=120, help="how long it runs; %(default)s")
    parser.add_argument(
        "--output", type=Path, default=HERE / "pictures", metavar="FOLDER", help="where the pictures go"
    )
    options = parser.parse_args(arguments)
    logging.getLogger("wirewitness").setLevel(logging.CRITICAL)
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        _run(options.seconds, options.output)
    except stack.Unready as error:
        print(error, file=sys.stderr)
        return 1
    for name in ("overview.png", "trace.png", "outbox.png", "optimizely.png"):
        print(options.output / name)
    return 0


def _run(seconds: float, output: Path) -> None:
    ports = stack.free_ports()
    with tempfile.TemporaryDirectory(prefix="wirewitness-") as name:
        folder = Path(name)
        configuration = folder / "prometheus.yml"
        target = stack.address(ports.collector)
        configuration.write_text(traffic.prometheus_configuration("collector", target, str(HERE / "rules" / "*.yml")))
        servers = [stack.jaeger(ports), stack.prometheus(ports, configuration, folder / "samples")]
        with stack.started(servers, folder):
            otlp, prometheus = stack.url(ports.otlp_http), stack.url(ports.prometheus)
            within = _dispatch(otlp, target, seconds)
            draw_page("overview.json", "two dispatchers", prometheus, within, file=output / "overview.png")
            draw_trace(stack.url(ports.jaeger), SERVICE, output / "trace.png")
            run, of = "Outboxes whose endpoint answers, whose endpoint is down, and that is full", f"{QUEUES}-.*"
            within = _fill(otlp, target, seconds / 2)
            draw_page("outbox.json", run, prometheus, within, file=output / "outbox.png", outbox=of)
            run, of = "a client, one whose event processor is full, and a CDN that fails", f"{SERVICE}-{SITE}"
            within = _decide(otlp, target, seconds / 2)
            draw_page("optimizely.json", run, prometheus, within, file=output / "optimizely.png", job=of)


def _dispatch(otlp: str, collector: str, seconds: float) -> tuple[float, float]:
    with (
        # Exported more often than scraped, or a rate saws; a part of the exemplars is lost by that.
        traffic.by_otlp(SERVICE, otlp, collector, seconds=0.5) as to,
        traffic.shop("checkout", **to.providers) as checkout,
        traffic.shop("audit", **to.providers) as audit,
    ):
        time.sleep(INTERVAL / 2)  # the counters are seen at zero
        begin = time.time()
        go_through_days([checkout, audit], seconds)
        end = time.time()
        time.sleep(3)  # the last export is scraped
    return begin + INTERVAL, end


def _fill(otlp: str, collector: str, seconds: float) -> tuple[float, float]:
    with (
        traffic.by_otlp(f"{SERVICE}-{QUEUES}", otlp, collector, seconds=0.5) as to,
        traffic.queues(QUEUES, **to.providers) as queues,
    ):
        return _meanwhile(queues.dispatch, seconds)


def _decide(otlp: str, collector: str, seconds: float) -> tuple[float, float]:
    with (
        traffic.by_otlp(f"{SERVICE}-{SITE}", otlp, collector, seconds=0.5) as to,
        traffic.site(SITE, **to.providers) as site,
    ):
        return _meanwhile(site.visit, seconds)


def _meanwhile(happens: Callable[[], None], seconds: float) -> tuple[float, float]:
    time.sleep(INTERVAL / 2)  # the counters are seen at zero
    begin = time.time()
    while time.time() < begin + seconds:
        happens()
        time.sleep(1)
    end = time.time()
    time.sleep(3)  # the last export is scraped
    return begin, end


if __name__ == "__main__":
    sys.exit(main())
