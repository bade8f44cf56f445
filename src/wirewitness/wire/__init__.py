"""
The taps: one file per wire library, each reports requests to the dispatch that they are made for.
"""

from collections.abc import Callable

from wirewitness.wire.http_client import TAP
from wirewitness.wire.patching import TapState


install: Callable[[], None] = TAP.install
uninstall: Callable[[], None] = TAP.uninstall
check: Callable[[], TapState] = TAP.check

__all__ = ["TapState", "check", "install", "uninstall"]
