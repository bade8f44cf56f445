"""
The spool on disk: the standard library's SQLite, one connection a file, and no second process near it.
"""

from wirewitness.outbox.sqlite.spool import SqliteSpool


__all__ = ["SqliteSpool"]
