"""
A loopback endpoint that records what really arrived, and misbehaves on request.
"""

from wirewitness.conformance.sink import Received, Sink


__all__ = ["Received", "Sink"]
