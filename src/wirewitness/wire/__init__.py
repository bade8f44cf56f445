"""
The taps: one file a wire library, each reports requests to the dispatch that they are made for.
"""

from wirewitness.wire.http_client import install, uninstall


__all__ = ["install", "uninstall"]
