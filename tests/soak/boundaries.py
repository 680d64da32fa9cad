"""Relays that stand between the parts and make a share of what passes fail.

What they count is exchanges: one begins when the side that connected speaks after the other one did. In HTTP/1.1 that is a request, or
its body after a `100 Continue`; in PostgreSQL's protocol a query; in TLS, which stays closed to a relay, a handshake too.
"""

import asyncio
import random
import socket
import struct
import threading
from collections import Counter

PIECE = 1 << 16
DELAY_S = (1, 3)
HOLE_MAX_S = 60
DRAIN_MAX_S = 5
# At every boundary, and what can be said only in plain HTTP.
KINDS = ("reset", "request cut", "answer reset", "answer cut", "delay", "black hole")
HTTP_KINDS = (*KINDS, "503")
METHODS = (b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE ")
BUSY = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(BUSY) + BUSY
# Only where a test of the soak itself asks for it: TLS ends at the relay, which alters a byte of an answer's body.
FLIP = "flip"
FLIP_RATE, FLIP_FROM = 0.2, 4096


class Boundary:
    """What happened at one of them. `injected` counts faults by their kind."""

    def __init__(self, name, kinds):
        self.name, self.kinds, self.exchanges, self.injected = name, kinds, 0, Counter()

    def report(self):
        return {"exchanges": self.exchanges, "faults": {kind: self.injected[kind] for kind in self.kinds}}


class Relays:
    """All of them, in one thread. `rate` is the share of the exchanges that fail; none at first."""

    def __init__(self, seed):
        self.rate, self.chance, self.boundaries = 0.0, random.Random(f"{seed}/relays"), {}
        # The loop itself forgets tasks that wait; and of these, some are in a black hole.
        self.tasks, self.held = set(), set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True, name="relays")
        self.thread.start()

    def between(self, name, port, kinds=KINDS, near=None, far=None):
        """The port of a relay to `port`. `near` and `far` are contexts of TLS for a relay that ends it."""
        boundary = self.boundaries.setdefault(name, Boundary(name, kinds))

        async def serve(*streams):
            task = asyncio.current_task()
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            try:
                far_streams = await asyncio.open_connection("127.0.0.1", port, ssl=far, server_hostname="localhost" if far else None)
            except OSError:
                abort(streams[1])
                return
            await Conversation(self, boundary, streams, far_streams).hold()

        async def listen():
            return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=near, backlog=512)

        return self._do(listen()).sockets[0].getsockname()[1]

    def _do(self, what):
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(30)

    def end_faults(self):
        """No further ones; what is held in a black hole breaks."""
        self.rate = 0.0

        async def let_go():
            for task in self.held:
                task.cancel()

        self._do(let_go())

    def report(self):
        return {name: boundary.report() for name, boundary in self.boundaries.items()}


class _Broken(Exception):
    """The conversation is to end: by a reset, or as if all had been said."""

    def __init__(self, reset=True):
        super().__init__()
        self.reset = reset


class _Swallowed(Exception):
    """Nothing more gets through, and nobody is told."""


class _Refused(Exception):
    """The relay answers for the server."""


class Conversation:
    """One connection, from both sides."""

    def __init__(self, relays, boundary, near, far):
        self.relays, self.boundary, self.chance = relays, boundary, relays.chance
        self.near_in, self.near_out = near
        self.far_in, self.far_out = far
        self.asked, self.cut, self.flip = False, None, False

    async def hold(self):
        """Until it is over, one way or another."""
        ways = [asyncio.create_task(self._requests()), asyncio.create_task(self._answers())]
        reset = False
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
            for way in done:
                way.result()
        except _Broken as broken:
            reset = broken.reset
        except _Swallowed:
            await self._swallow(ways)
            reset = True
        except _Refused:
            await self._refuse(ways)
        except OSError:
            # A real one: the other side hears of it.
            reset = True
        finally:
            await _stop(ways)
            abort(self.far_out)
            (abort if reset else end)(self.near_out)

    async def _requests(self):
        while piece := await self.near_in.read(PIECE):
            if not self.asked:
                self.asked = True
                await self._begin(piece)
            self.far_out.write(piece)
            await self.far_out.drain()
        if not self.far_out.can_write_eof():
            raise _Broken(reset=False)
        self.far_out.write_eof()

    async def _answers(self):
        while piece := await self.far_in.read(PIECE):
            self.asked = False
            if self.cut is not None:
                reset, left = self.cut
                if len(piece) > left:
                    self.near_out.write(piece[:left])
                    await self.near_out.drain()
                    raise _Broken(reset)
                self.cut = reset, left - len(piece)
            self.near_out.write(self._altered(piece))
            await self.near_out.drain()
        # Who asked has no use for a connection on which nobody answers.
        raise _Broken(reset=False)

    def _altered(self, piece):
        if not self.flip or len(piece) < FLIP_FROM:
            return piece
        self.flip = False
        self.boundary.injected[FLIP] += 1
        return piece[:-1] + bytes([piece[-1] ^ 1])

    async def _begin(self, piece):
        """A new exchange, of which `piece` is the first to be heard."""
        boundary = self.boundary
        boundary.exchanges += 1
        if self.cut is not None:
            # The answer that was to be cut was shorter than that.
            raise _Broken(self.cut[0])
        if FLIP in boundary.kinds:
            self.flip = self.relays.rate > 0 and self.chance.random() < FLIP_RATE
            return
        if self.chance.random() >= self.relays.rate:
            return
        kind = self.chance.choice(boundary.kinds)
        if kind == "503" and not piece.startswith(METHODS):
            kind = "reset"
        boundary.injected[kind] += 1
        if kind == "delay":
            await asyncio.sleep(self.chance.uniform(*DELAY_S))
        elif kind in ("answer reset", "answer cut"):
            # Within the head, or anywhere in the body.
            left = self.chance.randrange(200) if self.chance.random() < 0.5 else int(10 ** self.chance.uniform(2, 6))
            self.cut = kind == "answer reset", left
        elif kind == "request cut":
            self.far_out.write(piece[:self.chance.randrange(len(piece))])
            await self.far_out.drain()
            raise _Broken
        else:
            raise {"reset": _Broken, "black hole": _Swallowed, "503": _Refused}[kind]

    async def _swallow(self, ways):
        await _stop(ways)
        self.relays.held.add(asyncio.current_task())
        try:
            async with asyncio.timeout(HOLE_MAX_S):
                while await self.near_in.read(PIECE):
                    pass
        except (TimeoutError, OSError, asyncio.CancelledError):
            pass
        finally:
            self.relays.held.discard(asyncio.current_task())

    async def _refuse(self, ways):
        """Reads on for a while, so that the answer is not lost in a reset."""
        await _stop(ways)
        try:
            self.near_out.write(REFUSAL)
            await self.near_out.drain()
            async with asyncio.timeout(DRAIN_MAX_S):
                while await self.near_in.read(PIECE):
                    pass
        except (TimeoutError, OSError):
            pass


async def _stop(ways):
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)


def end(writer):
    """What was written arrives, then nothing more."""
    try:
        writer.close()
    except OSError:
        pass


def abort(writer):
    """As a host that went away."""
    end = writer.get_extra_info("socket")
    if end is not None and end.fileno() >= 0:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
