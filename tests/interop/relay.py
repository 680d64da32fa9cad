"""A way to a server that can be cut and opened again while the server stays."""

import socket
import struct
import threading

from servers import free_ports


class Relay:
    """Passes connections on to a port of 127.0.0.1 while it is up. `asked` counts them."""

    def __init__(self, to, host="127.0.0.1", port=None):
        self.to, self.host, self.port = to, host, port or free_ports(1)[0]
        self.listener, self.ends, self.lock, self.asked = None, set(), threading.Lock(), 0
        self.up()

    def up(self):
        listener = socket.create_server((self.host, self.port), backlog=512)
        with self.lock:
            self.listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def down(self):
        """No further connection; those that there are break."""
        with self.lock:
            listener, self.listener, ends, self.ends = self.listener, None, self.ends, set()
        if listener is not None:
            # A close alone would not wake who waits in accept.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for end in ends:
            _reset(end)

    def _accept(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                _reset(near)
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                gone = self.listener is not listener
                self.asked += 1
                if not gone:
                    self.ends |= {near, far}
            if gone:
                _reset(near)
                _reset(far)
                return
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one, other):
        try:
            while data := one.recv(1 << 16):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            _reset(one)
            _reset(other)
        with self.lock:
            self.ends -= {one, other} if one.fileno() < 0 or other.fileno() < 0 else set()


def _reset(end):
    """Ends it as a host that went away does; wakes who waits for it."""
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()
