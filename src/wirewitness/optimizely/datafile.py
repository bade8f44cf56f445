"""
``CachedConfigManager``: a client's datafile, served from memory and never waited for.
"""

from __future__ import annotations

import os
import time
import weakref

from typing import Any, Final

from optimizely.config_manager import BaseConfigManager
from optimizely.helpers.enums import ConfigManager, NotificationTypes
from optimizely.optimizely import Optimizely
from optimizely.optimizely_config import OptimizelyConfig
from optimizely.project_config import ProjectConfig

from wirewitness import fork
from wirewitness._clock import Deadline
from wirewitness._guard import fail_open
from wirewitness.errors import ConfigurationError, shown
from wirewitness.optimizely.adapt import adapt_dispatcher
from wirewitness.optimizely.datafile_parse import Parser
from wirewitness.optimizely.datafile_refresh import Refresher
from wirewitness.optimizely.datafile_supply import Fallback, Held, OnFetch, Supply, SupplyOptions
from wirewitness.telemetry import MeterProvider, TracerProvider
from wirewitness.telemetry.datafile import DatafileGauges, DatafileSource, DatafileTelemetry, Fault, Fetch, Fetched


try:
    from optimizely.notification_center_registry import _NotificationCenterRegistry
except ImportError:  # pragma: no cover -- the SDK has it from 5.0 on
    _NotificationCenterRegistry = None  # type: ignore[assignment, misc]

__all__ = ["CachedConfigManager", "DatafileSource", "Fault", "Fetch", "Fetched"]

MOST_BYTES: Final = 20 << 20
_LOOK: Final = 0.005


class CachedConfigManager(BaseConfigManager):  # type: ignore[misc, unused-ignore]
    """
    A config manager for ``Optimizely(config_manager=...)`` that serves a datafile from memory, and has a thread of its own
    renew it. A decision doesn't wait for the network: the first one of a process may, at most ``timeout``, see ``wait``.

    Whatever goes wrong with a fetch, or with what it brings, the last good datafile is served on; where there's none, the
    cache file's, and then the fallback. It's counted, logged once in ten minutes for each kind, and never raised.

    In a forked child it goes on with its parent's datafile and a thread of the child's own.

    Args:
        sdk_key: Names project and environment.
        url: Where the datafile is; in place of ``sdk_key`` and ``url_template``.
        url_template: A URL with ``{sdk_key}`` in it; None for Optimizely's CDN.
        datafile_access_token: For a secure environment. It's sent to the URL's own host only.
        expires: Seconds after which a datafile is renewed: 15 minutes.
        timeout: Seconds that a fetch may take as a whole, from the connection to the last byte. Only the look-up of the
            host's name isn't bounded by it; no decision waits for that longer.
        jitter: By what share of ``expires``, at most and at random, a renewal comes earlier, so that a fleet's spread.
        fallback: What to serve where no datafile was ever had: JSON, the path of a file, or a callable that returns JSON,
            called at most once a failed fetch.
        cache_path: A file in which the last good datafile is kept for the next process, or None. It's replaced in one step,
            readable by this user only (0600), and not used where others could have written it. Processes that share one
            renew it in turn: what another has fetched meanwhile is taken from it.
        project_id: The only project whose datafile is taken, or None for any.
        wait: Whether a process's first decision waits for the first fetch if it would get the fallback, or what the cache
            file has kept for longer than ``expires``. Where there's nothing at all it waits, anyway.
        name: What spans, metrics and logs call it. The SDK key is in none of them.
        on_fetch: Called with a :class:`Fetch` for each fetch, in the renewing thread.
        skip_json_validation: As in the SDK: not to hold datafiles against its JSON schema.
        most_bytes: The longest datafile that is taken.
        logger: The SDK's.
        error_handler: The SDK's.
        notification_center: The SDK's, for ``OPTIMIZELY_CONFIG_UPDATE``. :meth:`client` gives its client the same.
        tracer_provider: None for the global one.
        meter_provider: None for the global one.

    Raises:
        ConfigurationError: If an option can't work, or the fallback is given and is no datafile.
    """

    def __init__(  # noqa: PLR0913 -- one place to say it all
        self,
        sdk_key: str | None = None,
        *,
        url: str | None = None,
        url_template: str | None = None,
        datafile_access_token: str | None = None,
        expires: float = 900.0,
        timeout: float = 10.0,
        jitter: float = 0.1,
        fallback: Fallback | None = None,
        cache_path: str | os.PathLike[str] | None = None,
        project_id: str | None = None,
        wait: bool = True,
        name: str = "optimizely",
        on_fetch: OnFetch | None = None,
        skip_json_validation: bool = False,
        most_bytes: int = MOST_BYTES,
        logger: Any = None,
        error_handler: Any = None,
        notification_center: Any = None,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        super().__init__(logger=logger, error_handler=error_handler, notification_center=notification_center)
        where = url or _url(sdk_key, url_template, secure=datafile_access_token is not None)
        token = datafile_access_token
        options = SupplyOptions(where, token, expires, timeout, jitter, most_bytes, fallback, cache_path, on_fetch)
        options.check()
        self.name = name
        self._sdk_key = sdk_key
        self._patience = timeout
        self._began = time.time()
        self._held: Held | None = None
        self._telemetry = DatafileTelemetry(self, tracer_provider=tracer_provider, meter_provider=meter_provider)
        schema, logger, handler = not skip_json_validation, self.logger, self.error_handler
        parse = Parser(project_id, schema=schema, logger=logger, error_handler=handler)
        self._supply = Supply(name, options, parse, self._telemetry)
        self._start(wait=wait)

    def _start(self, *, wait: bool) -> None:
        self._held = held = self._supply.begin()
        fresh = self._supply.fresh(held)
        self._waits = not fresh and (wait or held is None)
        self._first_is_over = False
        self._refresher = Refresher(self._turn, self._supply.delay(held) if fresh else 0.0)
        _LIVING.add(self)
        self._look_after()

    def get_config(self) -> ProjectConfig | None:
        """
        What the client decides by.

        Returns:
            None where there's nothing: no fetch has succeeded yet, and there's no cache file and no fallback.
        """
        if time.monotonic() >= self._refresher.overdue:
            self._look_after()
        if self._waits:
            # By looking, and not by a lock: one that was made before gevent has patched would hold all greenlets.
            deadline = Deadline(self._patience)
            while not self._first_is_over and deadline.nap(_LOOK):
                pass
            self._waits = False
        held = self._held
        return None if held is None else held.datafile.config

    def get_sdk_key(self) -> str | None:
        """
        The SDK key that was given, or else the datafile's.
        """
        if self._sdk_key is not None:
            return self._sdk_key
        config = self.get_config()
        return None if config is None else config.sdk_key

    @property
    def optimizely_config(self) -> OptimizelyConfig | None:  # type: ignore[override, unused-ignore]
        """What ``Optimizely.get_optimizely_config()`` returns."""
        held = self._held
        return None if held is None else held.datafile.optimizely_config

    @property
    def source(self) -> DatafileSource:
        """Where what is served has come from."""
        held = self._held
        return DatafileSource.NONE if held is None else held.source

    def client(self, event_dispatcher: Any = None, **options: Any) -> Optimizely:
        """
        A client that decides by this, and whose listeners hear when the datafile changes.

        Args:
            event_dispatcher: What sends its events: a class or object with ``dispatch_event``, or a dispatcher of three
                arguments, see :class:`ThreeArguments`; None for the SDK's own.
            **options: Any others of ``Optimizely``.
        """
        shared = {
            "logger": self.logger,
            "error_handler": self.error_handler,
            "notification_center": self.notification_center,
        }
        dispatcher = adapt_dispatcher(event_dispatcher)
        return Optimizely(config_manager=self, event_dispatcher=dispatcher, **{**shared, **options})

    def refresh(self) -> None:
        """
        Have the datafile renewed now, as when a webhook tells of a new one. It returns at once.
        """
        self._wake()

    def stop(self) -> None:
        """
        Renew it no more, as ``Optimizely.close()`` asks. What is held is served on, and shown no more.
        """
        self._telemetry.stopped(self)
        self._first_is_over = True
        self._waits = False
        self._refresher.stop(self._supply.abort)

    def gauges(self) -> DatafileGauges:
        """
        What its metrics show.
        """
        held = self._held
        confirmed = None if held is None else held.confirmed
        # What was never confirmed ages from when one began to try.
        age = max(0.0, time.time() - (self._began if confirmed is None else confirmed))
        return DatafileGauges(age, _number(held), self.source)

    @fail_open("datafile")
    def _look_after(self) -> None:
        self._refresher.ensure()

    @fail_open("datafile")
    def _wake(self) -> None:
        self._refresher.wake()

    def _turn(self, asked: bool) -> float:  # noqa: FBT001 -- what Refresher calls
        delay = self._renew(asked)
        # The first turn is over, however it has ended: nobody waits any more.
        self._first_is_over = True
        return self._patience if delay is None else delay

    @fail_open("datafile")
    def _renew(self, asked: bool) -> float:  # noqa: FBT001 -- as _turn
        shared = None if asked else self._supply.from_file(self._held)
        if shared is not None and self._supply.fresh(shared):
            self._serve(shared)
        else:
            held, fetch = self._supply.fetch(self._held)
            self._serve(held)
            self._supply.tell(fetch)
        return self._supply.delay(self._held)

    def _serve(self, held: Held | None) -> None:
        before, self._held = self._held, held
        # Before anybody is told: a listener of the SDK's own asks for the config.
        self._first_is_over = True
        self._waits = False
        if held is not None and (before is None or before.datafile.digest != held.datafile.digest):
            self._notify(held)

    @fail_open("hook")
    def _notify(self, held: Held) -> None:
        self.notification_center.send_notifications(NotificationTypes.OPTIMIZELY_CONFIG_UPDATE)
        if _NotificationCenterRegistry is None:  # pragma: no cover -- the SDK has it from 5.0 on
            return
        key = self._sdk_key or held.datafile.config.sdk_key
        internal = key and _NotificationCenterRegistry.get_notification_center(key, self.logger)
        if internal:
            internal.send_notifications(NotificationTypes.OPTIMIZELY_CONFIG_UPDATE)

    def _begin_in_child(self) -> None:
        self._telemetry.renew()
        self._refresher.renew()


def _url(sdk_key: str | None, template: str | None, *, secure: bool) -> str:
    if not sdk_key:
        msg = "CachedConfigManager needs an sdk_key or a url"
        raise ConfigurationError(msg)
    by_default = ConfigManager.AUTHENTICATED_DATAFILE_URL_TEMPLATE if secure else ConfigManager.DATAFILE_URL_TEMPLATE
    chosen = template or by_default
    try:
        return chosen.format(sdk_key=sdk_key)
    except (AttributeError, LookupError, TypeError, ValueError):
        msg = f"url_template={shown(template)}: must be a URL with {{sdk_key}} in it, and nothing else in braces"
        raise ConfigurationError(msg) from None


def _number(held: Held | None) -> float:
    revision = None if held is None else held.datafile.revision
    return float(revision) if revision is not None and revision.isdecimal() else 0.0


_LIVING: Final[weakref.WeakSet[CachedConfigManager]] = weakref.WeakSet()


def _begin_in_child() -> None:
    for living in list(_LIVING):
        living._begin_in_child()  # noqa: SLF001 -- its own


fork.register(fork.ForkStage.CLIENTS, in_child=_begin_in_child)
