"""
Real servers that run for these tests, and how to ask them. The fixtures that start them are in ``conftest.py``.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parent.parent.parent
DASHBOARDS = ROOT / "dashboards"

# Scripts, not a package.
sys.path.insert(0, str(DASHBOARDS))

import backends  # noqa: E402
import stack  # noqa: E402


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetched(url, body=None, **query):
    """
    What a JSON API answers. A body makes it a POST.
    """
    where = f"{url}?{urllib.parse.urlencode(query, doseq=True)}" if query else url
    request = urllib.request.Request(where, data=body, headers={"Content-Type": "application/json"} if body else {})
    with OPENER.open(request, timeout=10) as response:
        return json.load(response)


def require(*programs):
    """
    Skip the test, or fail it in CI, where a program is missing.
    """
    absent = [name for name in programs if backends.find(name) is None]
    if absent:
        reason = f"{', '.join(absent)} missing: make backends"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def eventually(function, seconds=60.0):
    """
    What the function returns as soon as that is true.
    """
    until = time.monotonic() + seconds
    while not (found := function()):
        if time.monotonic() > until:
            pytest.fail(f"not within {seconds} s; it is still {found!r}")
        time.sleep(0.05)
    return found


class Jaeger:
    """
    A running Jaeger.
    """

    def __init__(self, ports):
        self.ports = ports
        self.url = stack.url(ports.jaeger)
        self.otlp = stack.url(ports.otlp_http)
        self.collector = stack.address(ports.collector)

    def services(self):
        return fetched(f"{self.url}/api/v3/services").get("services", [])

    def trace(self, trace_id):
        """
        The spans of a trace, as OTLP has them in JSON, each with its service; empty where there's none.
        """
        try:
            found = fetched(f"{self.url}/api/v3/traces/{trace_id}")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 404:
                raise
            return []
        return _spans(found)

    def spans(self, service, traces=100):
        """
        All spans of a service's traces in the last hour.
        """
        now = time.time()
        query = {
            "query.service_name": service,
            "query.start_time_min": _rfc3339(now - 3600),
            "query.start_time_max": _rfc3339(now + 3600),
            "query.num_traces": traces,
        }
        try:
            return _spans(fetched(f"{self.url}/api/v3/traces", **query))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 404:
                raise
            return []


def _rfc3339(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _spans(found):
    spans = []
    for resource in found["result"]["resourceSpans"]:
        service = attributes(resource["resource"]).get("service.name")
        spans += [{**span, "service": service} for scope in resource["scopeSpans"] for span in scope["spans"]]
    return spans


def attributes(holder):
    """
    Attributes of OTLP in JSON as a dictionary; integers are strings there.
    """
    return {
        one["key"]: int(value) if kind == "intValue" else value
        for one in holder.get("attributes", ())
        for kind, value in one["value"].items()
    }


class Prometheus:
    """
    A running Prometheus.
    """

    def __init__(self, ports):
        self.port = ports.prometheus
        self.address = stack.address(ports.prometheus)
        self.url = stack.url(ports.prometheus)

    def get(self, path, **query):
        return fetched(f"{self.url}/api/v1/{path}", **query)["data"]

    def query(self, promql):
        """
        An instant query: a list of labels and value.
        """
        return [(one["metric"], float(one["value"][1])) for one in self.get("query", query=promql)["result"]]

    def alerts(self):
        return self.get("alerts")["alerts"]


class Alertmanager:
    """
    A running Alertmanager.
    """

    def __init__(self, ports):
        self.port = ports.alertmanager
        self.address = stack.address(ports.alertmanager)
        self.url = stack.url(ports.alertmanager)

    def alerts(self):
        return fetched(f"{self.url}/api/v2/alerts")
