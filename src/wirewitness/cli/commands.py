"""
The commands, and their options.
"""

from __future__ import annotations

import contextlib
import sys

from pathlib import Path
from urllib.parse import urlsplit

import click

from wirewitness._version import __version__
from wirewitness.cli.check import check
from wirewitness.cli.sink import sink
from wirewitness.cli.spool import spool


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wirewitness")
def wirewitness() -> None:
    """
    Know, from the bytes on the socket, what an event dispatcher really did.
    """


wirewitness.add_command(spool)
wirewitness.add_command(check)
wirewitness.add_command(sink)


class Unwritable(click.ClickException):
    """
    The folder for the demo's files can't be written to.
    """

    exit_code = 2


def _http_url(_: click.Context, __: click.Parameter, value: str) -> str:
    parts = urlsplit(value)
    try:
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        msg = f"{value!r} is no http:// or https:// URL"
        raise click.BadParameter(msg)
    return value.rstrip("/")


@wirewitness.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=".",
    show_default=True,
    metavar="DIR",
    help="Where traces.jsonl and metrics.prom are written.",
)
@click.option(
    "--otlp-endpoint",
    callback=_http_url,
    default="http://localhost:4318",
    show_default=True,
    metavar="URL",
    help="Traces and metrics go there too, where OTLP over HTTP answers.",
)
def demo(output: Path, otlp_endpoint: str) -> None:
    """
    Watch a real Optimizely client's events go well, and go wrong.

    Everything happens on loopback, in some three seconds. The exit code is 0 only if the ledger's book closes and every
    dispatch ended as it should. NO_COLOR is honoured.
    """
    from wirewitness.cli.demo import Files, run  # noqa: PLC0415 -- needs more extras than the other commands

    try:
        files = Files.create(output)
    except OSError as error:
        msg = f"can't write {error.filename}: {error.strerror}"
        raise Unwritable(msg) from error
    with contextlib.closing(files):
        code = run(files, otlp_endpoint)
    sys.exit(code)
