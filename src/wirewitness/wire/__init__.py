"""
The taps: one file per wire library, each reports requests to the dispatch that they are made for.
"""

from wirewitness.wire.http_client import TAP
from wirewitness.wire.patching import TapState


install = TAP.install
uninstall = TAP.uninstall
check = TAP.check

__all__ = ["TapState", "check", "install", "uninstall"]
