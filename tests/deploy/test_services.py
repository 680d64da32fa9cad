"""Custodian and proxy, started as a service manager does it: what they tell it, and what they ask of the kernel."""

import pytest
import running
import units


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    trial = running.Trial(tmp_path_factory.mktemp("trial"))
    running.must(running.program(), "custodian", "init", "--config", trial.home / "config/custodian.toml",
                 environment=trial.environment())
    yield trial
    trial.stop()


def test_both_tell_when_they_serve_and_when_they_stop_and_make_only_the_calls_that_their_units_allow(deployment):
    managers = {what: running.Manager(deployment.home / f"notify-{what}") for what in ("custodian", "proxy")}
    traces = {what: deployment.home / f"{what}.trace" for what in managers}
    custodian = deployment.start("custodian", managers["custodian"], running.traced(traces["custodian"]))
    assert managers["custodian"].told() == ["READY=1", "STATUS=listening"]
    deployment.until_unsealed(custodian)

    proxy = deployment.start("proxy", managers["proxy"])
    proxy.child.wait(60)
    assert proxy.child.returncode == 1 and "the KEK records cannot be used" in proxy.log_tail(), "there is none yet"
    assert managers["proxy"].told_nothing()

    deployment.officer("key", "create", "records")
    proxy = deployment.start("proxy", managers["proxy"], running.traced(traces["proxy"]))
    assert managers["proxy"].told() == ["READY=1", "STATUS=serving"]
    assert deployment.asked_without_a_signature() == 403
    for what, process in (("proxy", proxy), ("custodian", custodian)):
        process.terminate()
        assert managers[what].told() == ["STOPPING=1", "STATUS=draining"]

    for what, trace in traces.items():
        made = running.calls(trace)
        assert {"bind", "listen", "accept4"} <= made and len(made) > 30, made
        # execve is strace's start of the program, which systemd makes before it sets the filter. SQLite calls fchown for root alone.
        assert made - {"execve", "fchown"} - units.allowed_calls(f"claviger-{what}.service") == set()
