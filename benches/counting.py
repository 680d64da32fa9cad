"""Counts the requests that a storage server gets."""

import collections
import re
import socket
import threading
import time

REQUEST = re.compile(rb"^(GET|PUT|HEAD|POST|DELETE) /([^/? ]*)[^ ]* HTTP/1\.1\r\n", re.M)


class Counter:
    """Passes bytes on to a storage server, and counts the requests among them, in all and by bucket (path-style)."""

    def __init__(self, url):
        host, port = url.removeprefix("http://").rsplit(":", 1)
        self.to, self.requests, self.to_buckets = (host, int(port)), 0, collections.Counter()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(self.to)
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self.pump, args=(far, near, False), daemon=True).start()

    def pump(self, source, sink, count):
        try:
            while data := source.recv(1 << 18):
                if count:
                    found = REQUEST.findall(data)
                    self.requests += len(found)
                    self.to_buckets.update(bucket.decode() for _, bucket in found)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for one in (source, sink):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def counted(self, work):
        before, begun = self.requests, time.monotonic()
        work()
        return self.requests - before, time.monotonic() - begun
