"""
Never run: type checkers read it, to see that the examples of extension are what the protocols ask for.
"""

from __future__ import annotations

from adapter import Courier, CourierDispatcher
from sender import PlainSender
from spool import FolderSpool

from wirewitness import Outbox, witness
from wirewitness.outbox import Sender, Spool


sender: Sender = PlainSender()
spool: Spool = FolderSpool("waiting")
outbox: Outbox = Outbox(sender, spool=spool)

dispatcher: CourierDispatcher = witness(CourierDispatcher(Courier()))
inside: Outbox = Outbox(dispatcher)
