"""Running the service: an address, a database that is ready, and an end that loses nothing."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import torch
import uvicorn

from gainakt.errors import GainaktError
from gainakt.service.app import make_app
from gainakt.service.database import Database
from gainakt.service.keys import list_keys
from gainakt.tracer import Tracer


def is_loopback(host: str) -> bool:
    """Whether an address leads to this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def refuse_unguarded(database: Database, host: str, *, keys: bool) -> None:
    """Refuse to serve whom nothing protects.

    Raises:
        GainaktError: keys are off on an address that others reach, or on and there is none.
    """
    if not keys and not is_loopback(host):
        raise GainaktError(
            f"--no-keys on {host}: others would read and write what students answered; it is for "
            "127.0.0.1 alone"
        )
    if keys and not list_keys(database):
        raise GainaktError(
            f"no key is in the database {database.name}: make one with `gainakt keys add`, or on "
            "this machine alone go without, with --no-keys"
        )


def serve(
    tracer: Tracer,
    database: Database,
    host: str,
    port: int,
    *,
    keys: bool,
    threads: int,
    say: Callable[[str], None],
) -> None:
    """Serve until the process is told to end; requests that have begun are answered first.

    Args:
        tracer, database, keys: see `gainakt.service.app.make_app`.
        host, port: where; port 0 is any that is free.
        threads: of the processor, for the model.
        say: told the address.

    Raises:
        GainaktError: see `refuse_unguarded`; the address is not free.
    """
    refuse_unguarded(database, host, keys=keys)
    torch.set_num_threads(threads)
    app = make_app(tracer, database, keys=keys)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            reason = error.strerror or error
            raise GainaktError(f"cannot serve on {host}, port {port}: {reason}") from None
        listening.listen(128)
        shown = f"[{host}]" if ":" in host else host
        say(f"serving on http://{shown}:{listening.getsockname()[1]}")
        # no log of requests: their addresses name students
        config = uvicorn.Config(app, access_log=False, log_level="warning", lifespan="off")
        uvicorn.Server(config).run(sockets=[listening])
    database.close()
