"""
Spools on disk.
"""

from __future__ import annotations

import pytest

from wirewitness.outbox import SqliteSpool


@pytest.fixture
def path(tmp_path):
    """
    A spool's folder.
    """
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def opened(path):
    """
    Opens a spool and starts it, and closes it at the end.
    """
    spools = []

    def start(durability="group", *, at=path, **options):
        spools.append(SqliteSpool(at, durability, **options))
        spools[-1].start()
        return spools[-1]

    yield start
    for spool in spools:
        spool.close()
