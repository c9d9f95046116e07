"""An MQTT broker inside the process of ``edgeasd demo``; needs the extra ``demo``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from edgeasd.common.errors import BrokerError, EdgeasdError

if TYPE_CHECKING:
    from collections.abc import Callable

_HOST = "127.0.0.1"
_TIMEOUT_S = 10.0
# The library's default binds every interface and publishes its own statistics.  An external
# listener leaves the socket to us: bound to the loopback interface, on a port the kernel chooses.
_CONFIG: dict[str, Any] = {
    "listeners": {"default": {"type": "external", "bind": f"{_HOST}:0"}},
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
}


class EmbeddedBroker:
    """An MQTT 3.1.1 broker on the loopback interface, open to every local user."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        self._started = threading.Event()
        self._request_stop: Callable[[], object] = lambda: None
        self._error: BaseException | None = None
        self._port = 0

    @property
    def host(self) -> str:
        """Address on which the broker listens."""
        return _HOST

    @property
    def port(self) -> int:
        """TCP port on which the broker listens, once it is started."""
        return self._port

    def start(self) -> None:
        """Start the broker; clients can connect when this returns.

        Raises:
            EdgeasdError: If the library is not installed.
            BrokerError: If the broker does not start.
        """
        try:
            import amqtt.broker  # noqa: F401, PLC0415  # an extra, and slow to import
        except ImportError as exc:
            raise EdgeasdError(
                "the embedded broker needs the package amqtt; install edgeasd[demo]"
            ) from exc
        self._thread.start()
        self._started.wait(_TIMEOUT_S)
        if self._port == 0:
            raise BrokerError(f"the embedded broker does not start ({self._error})")

    def __enter__(self) -> EmbeddedBroker:  # noqa: PYI034 - Self came with Python 3.11
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the broker and disconnect its clients; without effect unless it was started."""
        if self._thread.is_alive():
            self._request_stop()
            self._thread.join(_TIMEOUT_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as exc:  # noqa: BLE001  # told by start()
            self._error = exc
            self._started.set()

    async def _serve(self) -> None:
        from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter  # noqa: PLC0415
        from amqtt.broker import Broker  # noqa: PLC0415

        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        logging.getLogger("transitions").setLevel(logging.CRITICAL)
        broker = Broker(_CONFIG)
        await broker.start()

        connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await broker.external_connected(
                    StreamReaderAdapter(reader), StreamWriterAdapter(writer), "default"
                )
            finally:
                await _close(writer)  # the library leaves it open if no CONNECT came

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(handle(reader, writer))
            connections[task] = writer
            task.add_done_callback(connections.pop)

        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(accept, _HOST, 0)
        self._request_stop = lambda: loop.call_soon_threadsafe(stop.set)
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        await stop.wait()
        server.close()
        await broker.shutdown()
        for task, writer in list(connections.items()):
            task.cancel()
            await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):  # the client was faster
        await writer.wait_closed()
