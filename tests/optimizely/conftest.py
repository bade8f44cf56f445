"""
What tests of the Optimizely room share.

- ``project``: a datafile as a dictionary, new for each test: flag ``new_checkout`` (an A/B test ``checkout_test`` with
  variations ``three_pages`` and ``one_page`` and a variable of each type), flag ``dark_mode`` (off for everybody), the A/B
  tests without a flag ``search_test`` (``by_date``, ``by_price``) and ``paused_test`` (not running), the event ``order_placed``.
- ``datafile``: the same as JSON text.
- ``cdn``: a server on loopback that answers GETs as it is told, see :class:`Cdn`.
- ``seen``: providers of OpenTelemetry of the test's own, and what was exported through them.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import http.server
import json
import ssl
import threading

import pytest
import trustme


def variable(number, key, kind, value, **more):
    return {"id": f"94000000006{number:02}", "key": key, "type": kind, "defaultValue": value, **more}


def variation(number, key, variables=(), *, enabled=True):
    values = [{"id": one["id"], "value": value} for one, value in variables]
    return {"id": f"94000000004{number:02}", "key": key, "featureEnabled": enabled, "variables": values}


def ab_test(number, key, variations, *, status="Running"):
    share = 10000 // len(variations)
    return {
        "id": f"94000000003{number:02}",
        "key": key,
        "status": status,
        "layerId": f"94000000002{number:02}",
        "audienceIds": [],
        "forcedVariations": {},
        "variations": variations,
        "trafficAllocation": [
            {"entityId": one["id"], "endOfRange": share * place} for place, one in enumerate(variations, 1)
        ],
    }


VARIABLES = [
    variable(1, "title", "string", "Checkout"),
    variable(2, "express", "boolean", "false"),
    variable(3, "steps", "integer", "3"),
    variable(4, "discount", "double", "0.5"),
    variable(5, "banner", "string", '{"colour": "blue"}', subType="json"),
]

PROJECT = {
    "version": "4",
    "revision": "7",
    "sdkKey": "an-sdk-key",
    "environmentKey": "production",
    "accountId": "9400000000001",
    "projectId": "9400000000002",
    "anonymizeIP": True,
    "botFiltering": False,
    "sendFlagDecisions": True,
    "experiments": [
        ab_test(
            1,
            "checkout_test",
            [
                variation(1, "three_pages", [(VARIABLES[2], "3")]),
                variation(2, "one_page", [(VARIABLES[0], "Pay <here>"), (VARIABLES[1], "true"), (VARIABLES[2], "1")]),
            ],
        ),
        ab_test(2, "search_test", [variation(3, "by_date"), variation(4, "by_price")]),
        ab_test(3, "paused_test", [variation(5, "old"), variation(6, "new")], status="Paused"),
    ],
    "featureFlags": [
        {
            "id": "9400000000501",
            "key": "new_checkout",
            "rolloutId": "",
            "experimentIds": ["9400000000301"],
            "variables": VARIABLES,
        },
        {"id": "9400000000502", "key": "dark_mode", "rolloutId": "", "experimentIds": [], "variables": []},
    ],
    "events": [{"id": "9400000000701", "key": "order_placed", "experimentIds": ["9400000000301", "9400000000302"]}],
    "attributes": [{"id": "9400000000801", "key": "plan"}],
    "audiences": [],
    "typedAudiences": [],
    "groups": [],
    "rollouts": [],
    "variables": [],
}


@pytest.fixture
def project():
    return copy.deepcopy(PROJECT)


@pytest.fixture
def datafile(project):
    return json.dumps(project)


class Cdn:
    """
    A server for datafiles, in threads of its own.

    It answers as the attribute ``answer`` says, a function of the request's handler: one of the methods here, or one of the
    test's own. Without one it serves what ``publish`` was last given, with an ETag and Last-Modified, and 304 if the client
    has that. Requests are kept as ``(path, headers)``.
    """

    def __init__(self, tls=None):
        self.requests = []
        self.released = threading.Event()
        self._scheme = "http" if tls is None else "https"
        self.answer = self.published
        self._arrived = threading.Condition()
        self._body = b""
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self):
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}/datafiles/an-sdk-key.json"

    @property
    def template(self):
        return f"http://127.0.0.1:{self._server.server_port}/datafiles/{{sdk_key}}.json"

    def publish(self, datafile):
        self._body = (datafile if isinstance(datafile, str) else json.dumps(datafile)).encode()
        self.answer = self.published

    def published(self, request):
        etag = f'"{hashlib.sha256(self._body).hexdigest()[:16]}"'
        if request.headers.get("If-None-Match") == etag:
            self.respond(request, 304, b"", ETag=etag)
        else:
            self.respond(request, 200, self._body, ETag=etag, **{"Last-Modified": "Tue, 24 Nov 2026 09:00:00 GMT"})

    def status(self, code, **headers):
        return lambda request: self.respond(request, code, b"{}", **headers)

    def html(self, request):
        page = b"<!doctype html><title>Sign in to the hotel's WiFi</title>"
        self.respond(request, 200, page, **{"Content-Type": "text/html"})

    def text(self, text):
        return lambda request: self.respond(request, 200, text.encode())

    def truncated(self, request):
        """
        Half of what was announced, and the connection ends.
        """
        request.send_response(200)
        request.send_header("Content-Length", str(len(self._body)))
        request.end_headers()
        request.wfile.write(self._body[: len(self._body) // 2])

    def redirect_loop(self, request):
        self.respond(request, 302, b"", Location=f"{request.path}?again={len(self.requests)}")

    def hang(self, request):
        """
        Say nothing until released, and then nothing.
        """
        self.released.wait(60)

    def drip(self, request):
        """
        The published datafile a byte at a time, so slowly that it would take for ever, and never a pause for long.
        """
        request.send_response(200)
        request.send_header("Content-Length", str(len(self._body)))
        request.end_headers()
        self._drip(request, self._body)

    def drip_without_length(self, request):
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        self._drip(request, self._body)

    def drip_head(self, request):
        self._drip(request, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 10_000)

    def _drip(self, request, given):
        with contextlib.suppress(OSError):
            for place in range(len(given)):
                request.wfile.write(given[place : place + 1])
                request.wfile.flush()
                if self.released.wait(0.05):
                    return

    @staticmethod
    def respond(request, code, body, **headers):
        request.send_response(code)
        for name, value in {"Content-Type": "application/json", "Connection": "close", **headers}.items():
            request.send_header(name, value)
        if code != 304:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        with contextlib.suppress(OSError):
            request.wfile.write(body)

    def wait_for(self, count, timeout=10):
        """
        Whether so many requests have arrived, as soon as they have.
        """
        with self._arrived:
            return self._arrived.wait_for(lambda: len(self.requests) >= count, timeout)

    def close(self):
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self):
        cdn = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            close_connection = True

            def do_GET(self):
                with cdn._arrived:
                    cdn.requests.append((self.path, dict(self.headers.items())))
                    cdn._arrived.notify_all()
                self.close_connection = True
                cdn.answer(self)

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def cdn(datafile):
    server = Cdn()
    server.publish(datafile)
    yield server
    server.close()


@pytest.fixture
def secure_cdn(datafile, tmp_path, monkeypatch):
    """
    A CDN over TLS, whose certificate this process trusts.
    """
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    server = Cdn(context)
    server.publish(datafile)
    yield server
    server.close()


class Fetches(list):
    """
    What ``on_fetch`` was told.
    """

    def __init__(self):
        super().__init__()
        self._grown = threading.Condition()

    def __call__(self, fetch):
        with self._grown:
            self.append(fetch)
            self._grown.notify_all()

    def wait_for(self, count, timeout=20):
        """
        Whether there are so many, as soon as there are.
        """
        with self._grown:
            return self._grown.wait_for(lambda: len(self) >= count, timeout)

    def next(self, manager):
        """
        What comes of a fetch that is asked for now.
        """
        # Where there was a first one, it's told of a moment after it has been served.
        self.wait_for(1, timeout=1)
        seen = len(self)
        manager.refresh()
        assert self.wait_for(seen + 1)
        return self[seen]


@pytest.fixture
def fetches():
    return Fetches()


@pytest.fixture
def manage(cdn, seen, fetches, request):
    """
    Makes a config manager for the test's CDN, named as the test, that is stopped at its end.
    """
    from wirewitness.optimizely import CachedConfigManager

    with contextlib.ExitStack() as running:

        def make(**options):
            where = {} if "sdk_key" in options else {"url": cdn.url}
            telling = {"name": request.node.name, "on_fetch": fetches, "timeout": 20, **seen.options}
            manager = CachedConfigManager(**{**where, **telling, **options})
            running.callback(manager.stop)
            return manager

        yield make
        cdn.released.set()


@pytest.fixture
def faults(seen, request):
    """
    How many faults of a kind were counted for the test's config manager.
    """
    return lambda reason: seen.value("wirewitness.datafile.faults", datafile=request.node.name, reason=reason)


@pytest.fixture
def close():
    """
    Closes a client, also one of an SDK before 5.0, which has no method for it.
    """

    def close(client):
        if hasattr(client, "close"):
            client.close()
        else:
            getattr(client.event_processor, "stop", lambda: None)()
            getattr(client.config_manager, "stop", lambda: None)()

    return close
