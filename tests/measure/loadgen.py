"""A load of real, signed requests over HTTPS keep-alive: as little work per request as Python can do it with.

    python tests/measure/loadgen.py HOST PORT CA.pem TOKENS ANSWERS [--connections 64] [--path /v1/exchange] [--pinned]

``TOKENS`` holds a request a line. Every connection is open before ``ready`` is printed; at the first line of its input it
begins. Each connection sends its next request when it has the whole answer to the last one. ``--pinned``: CA.pem is the server's
own certificate, whatever name is in it. Prints one JSON object:
seconds, how many answers of which status, its own processor time, and the latencies; the bodies go to ``ANSWERS``.
"""

from __future__ import annotations

import argparse
import collections
import json
import select
import socket
import ssl
import sys
import time
from pathlib import Path


class Connection:
    """One kept connection and the answer that is arriving on it."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        raw = socket.create_connection((host, port), timeout=30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls = context.wrap_socket(raw, server_hostname=host)
        self.tls.setblocking(False)
        self.began = 0.0
        self._arrived = b""

    def send(self, message: bytes) -> None:
        self._arrived = b""
        self.began = time.perf_counter()
        if self.tls.send(message) != len(message):  # Two kilobytes always fit into an empty socket buffer.
            raise ConnectionError("a request was sent in part only")

    def receive(self) -> tuple[int, bytes] | None:
        """The answer's status and body once they are whole."""
        while True:
            try:
                data = self.tls.recv(65_536)
            except ssl.SSLWantReadError:
                return None
            if not data:
                raise ConnectionError("the service closed a kept connection")
            self._arrived += data
            head, there, body = self._arrived.partition(b"\r\n\r\n")
            if not there:
                continue
            _, _, rest = head.lower().partition(b"content-length:")
            if len(body) >= int(rest.partition(b"\r\n")[0]):
                return int(head[9:12]), body


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("ca")
    parser.add_argument("tokens", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--path", default="/v1/exchange")
    parser.add_argument("--pinned", action="store_true")
    arguments = parser.parse_args()
    context = ssl.create_default_context(cafile=arguments.ca)
    context.check_hostname = not arguments.pinned
    waiting = collections.deque(
        b"POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/jose\r\nContent-Length: %d\r\n\r\n%s"
        % (arguments.path.encode(), arguments.host.encode(), arguments.port, len(token), token)
        for token in arguments.tokens.read_bytes().split()
    )
    connections = [Connection(arguments.host, arguments.port, context) for _ in range(arguments.connections)]
    poll, by_number = select.epoll(), {}
    for connection in connections:
        poll.register(connection.tls, select.EPOLLIN)
        by_number[connection.tls.fileno()] = connection
    print("ready", flush=True)
    sys.stdin.readline()

    statuses: collections.Counter[int] = collections.Counter()
    latencies: list[float] = []
    bodies: list[bytes] = []
    began, spent = time.perf_counter(), time.process_time()
    busy = 0
    for connection in connections:
        if waiting:
            connection.send(waiting.popleft())
            busy += 1
    while busy:
        for number, _ in poll.poll():
            connection = by_number[number]
            answer = connection.receive()
            if answer is None:
                continue
            latencies.append(time.perf_counter() - connection.began)
            statuses[answer[0]] += 1
            bodies.append(answer[1])
            if waiting:
                connection.send(waiting.popleft())
            else:
                busy -= 1
    seconds, spent = time.perf_counter() - began, time.process_time() - spent
    arguments.answers.write_bytes(b"\n".join(bodies))
    print(json.dumps({"seconds": seconds, "cpu": spent, "statuses": dict(statuses), "latencies": sorted(latencies)}))


if __name__ == "__main__":
    main()
