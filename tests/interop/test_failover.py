"""Two proxies behind HAProxy, two custodians over one PostgreSQL: each is ended, killed and restarted in turn, under load.

Clients try each request once: what they see is what the deployment does, not what a library hides.
"""

import os
import signal
import time
from contextlib import contextmanager

import pytest

import target as targets
from load import Application, Load
from pair import Pair

CLIENTS = 4


@contextmanager
def busy(pair):
    """Applications that have been at work for a second, and come again at once after an error."""
    connect = lambda: pair.client(pair.front_port)  # noqa: E731
    applications = [Application("failover", f"client-{number}", connect, pause_s=0) for number in range(CLIENTS)]
    with Load(*applications, patience_s=60) as load:
        time.sleep(1)
        yield load


@pytest.fixture(scope="module")
def pair(weed, tmp_path_factory):
    made = Pair(tmp_path_factory.mktemp("failover"), (weed.url, weed.access_key, weed.secret_key))
    try:
        for number in (1, 2):
            made.run_one("custodian", number)
        made.must("key", "create", "records")
        for number in (1, 2):
            made.run_one("proxy", number)
        made.balance()
        made.client(made.proxy_port).create_bucket(Bucket="failover")
        yield made
    finally:
        made.kill()


def all_there(pair, load):
    s3 = pair.client(pair.front_port)
    assert len(load.acknowledged) > 20
    for key, body in load.acknowledged.items():
        assert s3.get_object(Bucket="failover", Key=key)["Body"].read() == body, key


def test_a_rolling_restart_loses_no_request(pair):
    with busy(pair) as load:
        for number in (1, 2):
            pair.processes[f"proxy-{number}"].terminate()
            pair.run_one("proxy", number)
            time.sleep(1)
    assert not load.errors, load.errors[:3]
    all_there(pair, load)


def test_a_custodian_that_is_killed_is_not_missed(pair):
    with busy(pair) as load:
        for number in (1, 2):
            pair.processes[f"custodian-{number}"].kill()
            time.sleep(3)
            # What is not in memory yet needs a custodian.
            pair.client(pair.front_port).create_bucket(Bucket=f"new-{number}-{targets.marker().lower()}")
            pair.run_one("custodian", number)
            time.sleep(1)
    assert not load.errors, load.errors[:3]
    all_there(pair, load)


def test_what_a_killed_proxy_acknowledged_is_there(pair):
    with busy(pair) as load:
        killed = time.monotonic()
        pair.processes["proxy-1"].kill()
        time.sleep(3)
        pair.run_one("proxy", 1)
        time.sleep(1)
    # What was on its connections is lost, for the clients to repeat; nothing after that.
    assert len(load.errors) <= CLIENTS and all(when < killed + 2 for when, _ in load.errors), load.errors
    all_there(pair, load)


def test_the_store_may_be_away_for_a_moment(pair):
    with busy(pair) as load:
        os.kill(pair.postgres.process.child.pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(pair.postgres.process.child.pid, signal.SIGCONT)
        time.sleep(2)
    assert not load.errors, load.errors[:3]
    all_there(pair, load)
