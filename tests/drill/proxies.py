"""The trusted side: two proxies behind HAProxy, two custodians over one PostgreSQL, each at a host of its own."""

import os
import signal
import time

from botocore.exceptions import BotoCoreError, ClientError

import network
from pair import Pair
from postgres import Postgres


class Trusted(Pair):
    """`processes` has each by the name of its host."""

    custodian_address, second_custodian_address = network.address("custodian-1"), network.address("custodian-2")
    proxy_address, second_proxy_address = network.address("proxy-1"), network.address("proxy-2")
    front_address = network.address("balancer")
    custodian_host, second_custodian_host, front_host = "custodian-1", "custodian-2", "balancer"

    def __init__(self, folder, zones, certify):
        self.zones, self.certify = zones, certify
        first = zones[0]
        super().__init__(folder, (first.url, first.access_key, first.secret_key))

    @property
    def check(self):
        # A port that is open says little: a process that was stopped has one, too.
        return (f"check inter 1s fastinter 500 fall 2 rise 1 check-ssl verify required ca-file {self.dir}/certs/ca.crt "
                "on-marked-down shutdown-sessions")

    @staticmethod
    def at(name, command):
        return network.inside("balancer" if name == "haproxy" else name, *command)

    def must(self, *arguments, **more):
        if arguments[0] == "init":
            hosts = [word for name in (self.front_host, "proxy-1", "proxy-2") for word in ("--host", name)]
            made = super().must(*arguments, *hosts, "--custodian-host", self.custodian_host, **more)
            # Everybody's certificates come from the CA that is there now.
            self.certify(self)
            return made
        return super().must(*arguments, **more)

    def prepare(self, init):
        urls = ", ".join(f'"{zone.url}"' for zone in self.zones)
        self.edit("proxy.toml", r'(?m)^url = ".*"', f'urls = [{urls}]\nca_file = "certs/ca.crt"\nanswer_timeout_s = 10\nhedge_after_ms = 500')
        return super().prepare(init)

    def store(self, folder):
        return Postgres(folder, "postgres", self.dir / "certs/postgres", lambda command: network.inside("postgres", *command))

    def start_all(self):
        for host in ("custodian-1", "custodian-2"):
            self._start_one(host)
        self.must("key", "create", "records")
        for host in ("proxy-1", "proxy-2"):
            self._start_one(host)
        self.balance()
        self.processes["haproxy"].wait_until(self._is_served, "answer through HAProxy")

    def _is_served(self):
        try:
            self.client(self.front_port).list_buckets()
            return True
        except (ClientError, BotoCoreError):
            return False

    def process(self, host):
        """Whatever runs at the host."""
        return self.postgres.process if host == "postgres" else self.processes["haproxy" if host == "balancer" else host]

    def start(self, host):
        if host == "postgres":
            self._start_postgres()
        elif host == "balancer":
            self.balance()
        else:
            self._start_one(host)

    def _start_one(self, host):
        """A proxy ends when no custodian answers in time, and a custodian is not unsealed without its store: then once more, as a service
        manager or an officer would."""
        kind, _, number = host.rpartition("-")
        for last in (False, False, True):
            try:
                return self.run_one(kind, int(number))
            except AssertionError:
                if last:
                    raise
                self.processes[host].kill()

    def _start_postgres(self):
        """After a kill, the former server's children have to notice first that it is gone."""
        for _ in range(20):
            try:
                return self.postgres.start()
            except AssertionError:
                time.sleep(0.5)
        return self.postgres.start()

    def end(self, host):
        """As an operator restarts it."""
        process = self.process(host)
        if host == "postgres":
            # Its "fast" shutdown; SIGTERM would wait for clients to go.
            os.kill(process.child.pid, signal.SIGINT)
        else:
            os.kill(process.child.pid, signal.SIGTERM)
        process.child.wait(60)
