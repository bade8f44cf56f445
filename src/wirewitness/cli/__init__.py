"""
The command line.
"""

from wirewitness.cli.main import main


__all__ = ["main"]
