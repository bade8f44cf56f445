"""
The demo: a real Optimizely client, its own dispatcher and some others, on a loopback endpoint that misbehaves.
"""

from wirewitness.cli.demo.files import Files
from wirewitness.cli.demo.program import run


__all__ = ["Files", "run"]
