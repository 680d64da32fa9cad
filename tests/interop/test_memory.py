"""That nobody gets at the memory of a process that has keys in it by way of a core file."""

import os
import resource
import signal
import subprocess
import time
from pathlib import Path

from deployment import Deployment

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


def cores_below(folder):
    return [path for path in folder.rglob("*core*") if path.is_file() and path.open("rb").read(4) == b"\x7fELF"]


def crashed(child):
    """Ends it as a fault in it would."""
    os.kill(child.pid, signal.SIGABRT)
    assert child.wait(10) == -signal.SIGABRT


def test_no_command_leaves_a_core_file(weed, tmp_path):
    control = tmp_path / "control"
    control.mkdir()
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    sleeping = subprocess.Popen(["prlimit", f"--core={'unlimited' if most == resource.RLIM_INFINITY else most}", "sleep", "60"], cwd=control)
    while Path(f"/proc/{sleeping.pid}/comm").read_text() != "sleep\n":
        time.sleep(0.01)
    crashed(sleeping)
    # Where the machine gives core files to a program, or allows none, there is nothing here to see either way.
    kept_here = most != 0 and not CORE_PATTERN.read_text().startswith(("|", "/"))
    assert bool(cores_below(control)) == kept_here
    deployment = Deployment(tmp_path, (weed.url, weed.access_key, weed.secret_key))
    try:
        deployment.start_custodian()
        deployment.must("key", "create", "records")
        s3 = deployment.start_proxy()
        s3.create_bucket(Bucket="memory")
        s3.put_object(Bucket="memory", Key="a", Body=b"a record")
        for process in (deployment.proxy, deployment.custodian):
            assert resource.prlimit(process.child.pid, resource.RLIMIT_CORE) == (0, 0)
            crashed(process.child)
        # Nor a command that is for a moment, here one that waits for an officer's share.
        unseal = subprocess.Popen([deployment.binary, "unseal"], cwd=tmp_path, env=deployment.environment(), stdin=subprocess.PIPE)
        deadline = time.monotonic() + 10
        while resource.prlimit(unseal.pid, resource.RLIMIT_CORE) != (0, 0):
            assert unseal.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        crashed(unseal)
        assert not [path for path in cores_below(tmp_path) if control not in path.parents]
    finally:
        deployment.kill()
