"""
The pure core: payloads, exchanges, verdicts and outcomes.

Nothing in here reads a clock, starts a thread, opens a socket or imports a third-party package.
"""
