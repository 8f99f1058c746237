"""A proxy that adds latency: each piece of an answer comes some milliseconds later.

``python -m benchmarks.slow_proxy PORT`` hands connections on to that port of this machine, and
prints the port on which it listens. Each line of its input is a latency, ms; it ends with it.
"""

import asyncio
import sys
from contextlib import suppress
from dataclasses import dataclass

_PIECE = 2**18
_BACKLOG = 4096


@dataclass
class _Latency:
    """The present latency."""

    delay_s: float = 0.0


async def _hand_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, latency: _Latency
) -> None:
    """Copy what comes, each piece a while after it came; pieces do not wait for each other."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def send() -> None:
        while True:
            due, piece = await waiting.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not piece:
                writer.close()
                return
            writer.write(piece)
            await writer.drain()

    sending = asyncio.create_task(send())
    piece = b"begin"
    while piece:
        piece = await reader.read(_PIECE)
        waiting.put_nowait((loop.time() + latency.delay_s, piece))
    with suppress(OSError):
        await sending


async def _serve(port: int) -> None:
    """Listen, until the input of this process ends."""
    latency = _Latency()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection("127.0.0.1", port)
        # Connections that are left when it ends are cancelled.
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(
                _hand_on(reader, to_there, _Latency()), _hand_on(there, writer, latency)
            )

    # Many connect at once: one that is not taken waits a second, or seven, before it tries again.
    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=_BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        while line := await asyncio.to_thread(sys.stdin.readline):
            latency.delay_s = float(line) / 1000
            print("set", flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
