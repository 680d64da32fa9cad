"""Few open files, and more connections than that: the other clients are served, the log says so, and it is over when it is over."""

import os
import re
import resource
import socket
import time

import pytest

import load
from deployment import Deployment
from servers import Process, clean_environment

pytestmark = pytest.mark.waits

# Far fewer than connections that are allowed.
LIMIT = 256
MANY = 400


@pytest.fixture
def deployment(weed, tmp_path):
    made = Deployment(tmp_path, (weed.url, weed.access_key, weed.secret_key), read_lease_s=4, write_renew_s=4)
    made.edit("proxy.toml", r"(?m)^watch = true$", "watch = true\nwatch_grace_s = 60")
    made.edit("proxy.toml", r'state_bucket = ".*"', 'state_bucket = "descriptors-state"')
    made.bucket = f"descriptors-{time.time_ns()}"
    try:
        for kind in ("custodian", "proxy"):
            limited(made, kind)
        made.connect = lambda: load.impatient(f"https://localhost:{made.proxy_port}", made.credentials(), made.dir / "certs/ca.crt")
        made.connect().create_bucket(Bucket=made.bucket)
        yield made
    finally:
        made.kill()


def limited(deployment, kind):
    """Starts it with few descriptors, and no way to more."""
    command = ["bash", "-c", f'ulimit -n {LIMIT}; exec "$0" "$@"', deployment.binary, kind, "--config", deployment.dir / f"{kind}.toml"]
    process = Process(kind, command, deployment.home, clean_environment(deployment.home, CLAVIGER_LOG="info"))
    setattr(deployment, kind, process)
    if kind == "proxy":
        process.wait_until(lambda: "the proxy serves" in process.log_tail(), "line that says it serves")
        return
    process.wait_until(lambda: "sealed" in deployment.run("seal-status").stdout, "answer to seal-status")
    deployment.unseal()
    deployment.must("key", "create", "records")


def connections(port, count):
    """So many, of which nobody waits to be taken."""
    made = []
    for _ in range(count):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))
        made.append(one)
    return made


def cpu_s(process):
    fields = open(f"/proc/{process.child.pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_files(process):
    return len(os.listdir(f"/proc/{process.child.pid}/fd"))


def lines(process, what):
    return len(re.findall(what, process.log.read_text(errors="replace")))


@pytest.mark.parametrize("kind", ["proxy", "custodian"])
def test_more_connections_than_descriptors_leave_the_others_alone(deployment, kind):
    process = getattr(deployment, kind)
    port = deployment.proxy_port if kind == "proxy" else deployment.custodian_port
    assert lines(process, "may open so few files") == 1
    idle = []
    # With leases of seconds, the custodian is asked all the time.
    with load.Load(load.Application(deployment.bucket, "before", deployment.connect)) as applications:
        applications.is_well_within(10)
        try:
            idle.extend(connections(port, MANY))
            time.sleep(0.5)
            used, taken = cpu_s(process), applications.done
            time.sleep(3)
            assert cpu_s(process) - used < 2, "it spins"
            assert applications.done > taken, "who was there before goes on"
            assert open_files(process) < LIMIT - 16, "the rest is for others than clients"
            assert 1 <= lines(process, "all connections that are allowed are in use") <= 3
        finally:
            for one in idle:
                one.close()
        deployment.connect().list_objects_v2(Bucket=deployment.bucket)
        applications.is_well_within(10)
    assert not applications.errors, applications.errors[:3]
    assert lines(process, "Too many open files") == 0
    applications.all_there(deployment.connect())


def test_when_all_the_same_none_is_left_it_says_so_and_recovers(deployment):
    """Somebody else took them, as a limit that is lowered from outside stands for."""
    process, idle = deployment.proxy, []
    with load.Load(load.Application(deployment.bucket, "before", deployment.connect)) as applications:
        applications.is_well_within(10)
        resource.prlimit(process.child.pid, resource.RLIMIT_NOFILE, (open_files(process) + 2, LIMIT))
        try:
            idle = connections(deployment.proxy_port, 20)
            used = cpu_s(process)
            time.sleep(3)
            assert cpu_s(process) - used < 2, "it spins"
            assert 1 <= lines(process, "cannot accept connections") <= 2
        finally:
            resource.prlimit(process.child.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
            for one in idle:
                one.close()
        applications.is_well_within(20)
        deployment.connect().list_objects_v2(Bucket=deployment.bucket)
    applications.all_there(deployment.connect())
