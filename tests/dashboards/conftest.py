"""
Real servers for these tests: Jaeger, Prometheus and Alertmanager on free ports, with the configuration that is shipped.

- ``jaeger``: one for the whole session, with the shipped ``jaeger.yaml``. ``jaeger.otlp`` is the endpoint for OTLP over
  HTTP, ``jaeger.url`` its page and API, ``jaeger.collector`` the ``host:port`` where Prometheus scrapes what it took.
- ``prometheus``: ``prometheus(configuration)`` starts one with this text as its configuration, or with the shipped one
  for the session's Jaeger if there's none. ``.query(promql)`` is a list of ``(labels, value)``, ``.alerts()`` what it alerts.
- ``alertmanager``: ``alertmanager(configuration)`` likewise. ``.alerts()`` is what it holds, ``.address`` its ``host:port``.
- ``refused``: the URL of a port where nobody listens.
- ``eventually``: ``eventually(function)`` calls it until what it returns is true, and returns that.

What else tests need of them (``fetched``, ``attributes``, ``stack``, ``DASHBOARDS``) they import from ``servers``.

All are stopped at the test's end (Jaeger at the session's). Where a program is missing the test is skipped, and fails if
the variable CI is set: ``make backends`` installs them.
"""

from __future__ import annotations

import contextlib
import socket

import pytest
import servers

from servers import DASHBOARDS, Alertmanager, Jaeger, Prometheus, require, stack


@pytest.fixture(scope="session")
def ports():
    """
    Those of the session's Jaeger, and of the Prometheus from which it reads.
    """
    return stack.free_ports()


@pytest.fixture(scope="session")
def jaeger(ports, tmp_path_factory):
    require("jaeger")
    with stack.started([stack.jaeger(ports)], tmp_path_factory.mktemp("jaeger")):
        yield Jaeger(ports)


@pytest.fixture
def prometheus(request, tmp_path_factory):
    require("prometheus")
    with contextlib.ExitStack() as running:

        def start(configuration=None, ports=None):
            if configuration is None:
                ports = request.getfixturevalue("ports")
                configuration = stack.prometheus_configuration(ports)
            chosen = ports or stack.free_ports()
            folder = tmp_path_factory.mktemp("prometheus")
            file = folder / "prometheus.yml"
            file.write_text(configuration)
            running.enter_context(stack.started([stack.prometheus(chosen, file, folder / "samples")], folder))
            return Prometheus(chosen)

        yield start


@pytest.fixture
def alertmanager(tmp_path_factory):
    require("alertmanager")
    with contextlib.ExitStack() as running:

        def start(configuration=None, ports=None):
            chosen = ports or stack.free_ports()
            folder = tmp_path_factory.mktemp("alertmanager")
            file = folder / "alertmanager.yml"
            file.write_text(configuration or (DASHBOARDS / "alertmanager.yml").read_text())
            running.enter_context(stack.started([stack.alertmanager(chosen, file, folder / "silences")], folder))
            return Alertmanager(chosen)

        yield start


@pytest.fixture
def refused():
    """
    The URL of a port where nobody listens.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(name="eventually")
def eventually_fixture():
    return servers.eventually
