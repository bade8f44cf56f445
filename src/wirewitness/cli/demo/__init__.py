"""
The demo: a real Optimizely client, its own dispatcher and some others, on a loopback endpoint that misbehaves.
"""

from wirewitness.cli.demo.program import run
from wirewitness.cli.demo.records import Files


__all__ = ["Files", "run"]
