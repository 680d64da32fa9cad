"""What test_names.py runs in a network namespace of its own: the storage server's and the custodian's name leads to another address.

Both are called `localhost` here, which a proxy may ask for a storage server without TLS. Its addresses are ways to the same servers.
The argument is a folder for files.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import load
import namespace
import relay
from deployment import Deployment

# An address that is silent is given up after `answer_timeout_s`, and the custodian's after 2 s.
WITHIN_S = 20


class Named(Deployment):
    """Whose storage server is asked for by its name."""

    def __init__(self, folder, weed):
        port = int(weed.url.rpartition(":")[2])
        super().__init__(folder, (f"http://localhost:{port}", weed.access_key, weed.secret_key), read_lease_s=4, write_renew_s=4)
        self.edit("proxy.toml", r"(?m)^watch = true$", "watch = true\nwatch_grace_s = 60")
        self.edit("proxy.toml", r"copy_limit_bytes = .*", "copy_limit_bytes = 5368709120\nanswer_timeout_s = 2")
        self.ports = (port, self.custodian_port)

    def ways(self, host):
        return [relay.Relay(port, host, port) for port in self.ports]


def leads_to(folder, address):
    # The file stays the same, since it is what is mounted.
    (folder / "hosts").write_text(f"{address} localhost\n")


def silence(address):
    rules = f"add table ip silent\nadd chain ip silent in {{ type filter hook input priority 0; }}\nadd rule ip silent in ip daddr {address} drop\n"
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def main(folder):
    namespace.lead(folder, [])
    weed = namespace.storage(folder)
    deployment = None
    try:
        deployment = Named(folder, weed)
        first, second = (deployment.ways(address) for address in ("127.0.0.2", "127.0.0.3"))
        leads_to(folder, "127.0.0.2")
        deployment.start_custodian()
        deployment.must("key", "create", "records")
        deployment.start_proxy()
        connect = lambda: load.impatient(f"https://127.0.0.1:{deployment.proxy_port}", deployment.credentials(), deployment.dir / "certs/ca.crt")  # noqa: E731
        connect().create_bucket(Bucket="moved")
        with load.Load(*(load.Application("moved", f"client-{number}", connect) for number in range(2))) as applications:
            applications.is_well_within(10)
            assert all(way.asked > 0 for way in first) and not any(way.asked for way in second), "it goes by the name"
            for why, gone, address in (("closed", first, "127.0.0.3"), ("silent", second, "127.0.0.4")):
                there = second if gone is first else deployment.ways("127.0.0.4")
                leads_to(folder, address)
                if why == "closed":
                    for way in gone:
                        way.down()
                else:
                    silence("127.0.0.3")
                moved, errors = time.monotonic(), len(applications.errors)
                quiet = None
                # Leases that end a moment later are asked for at the new address, too.
                while quiet != len(applications.errors):
                    assert time.monotonic() < moved + 2 * WITHIN_S, applications.errors[-3:]
                    applications.is_well_within(WITHIN_S)
                    quiet = len(applications.errors)
                    time.sleep(3)
                last = max((when for when, _ in applications.errors), default=moved)
                assert all(way.asked > 0 for way in there)
                print(f"{why}: {len(applications.errors) - errors} errors, the last after {max(0, last - moved):.1f} s", flush=True)
        log = deployment.proxy.log.read_text(errors="replace")
        assert log.count("the custodian's watch is open again") == 2, log[-3000:]
        applications.all_there(connect())
    finally:
        if deployment is not None:
            deployment.kill()
        weed.stop()


if __name__ == "__main__":
    main(Path(os.path.abspath(sys.argv[1])))
