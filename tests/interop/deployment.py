"""A deployment as an operator makes it: `claviger init`, then custodian and proxy as processes of their own, before a storage server."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import target as targets
from servers import Process, clean_environment, free_ports, program


class Deployment:
    """`claviger init` and what it says comes next. The custodian is unsealed with two of three shares."""

    officers = ("alice", "bob", "carol")
    # Where they listen, and the name by which the custodian is reached.
    custodian_address = proxy_address = "127.0.0.1"
    custodian_host = "localhost"

    def __init__(self, folder, storage, **leases):
        self.binary, self.home, self.dir = program(), folder, folder / "deployment"
        self.custodian_port, self.proxy_port = free_ports(2)
        url, access_key, secret_key = storage
        self.must("init", self.dir, "--storage-url", url, "--kek", "records", "--region", "us")
        self.edit("custodian.toml", r'(?m)^listen = ".*"', f'listen = "{self.custodian_address}:{self.custodian_port}"')
        self.edit("proxy.toml", r'(?m)^listen = ".*"', f'listen = "{self.proxy_address}:{self.proxy_port}"')
        self.edit("proxy.toml", f"{self.custodian_host}:8200", f"{self.custodian_host}:{self.custodian_port}")
        self.edit("proxy.toml", r'access_key = "claviger"', f'access_key = "{access_key}"')
        (self.dir / "secrets/storage.key").write_text(secret_key)
        if leases:
            lines = "\n".join(f"{name} = {value}" for name, value in leases.items())
            self.edit("proxy.toml", r"# \[leases\]", f"[leases]\n{lines}\n#")
        self.must("custodian", "init", "--config", self.dir / "custodian.toml", "--shares-to", folder / "shares")
        self.shares = sorted((folder / "shares").iterdir())
        assert len(self.shares) == 3
        self.custodian = self.proxy = None

    def edit(self, name, pattern, replacement):
        path = self.dir / name
        text, count = re.subn(pattern, replacement, path.read_text())
        assert count == 1, f"{pattern} in {name}: {count} times"
        path.write_text(text)

    def environment(self, who="alice"):
        """What an officer, the auditor or the proxy has in the environment to speak to the custodian."""
        name = who if who in ("auditor", "proxy-client") else f"officer-{who}"
        certs = self.dir / "certs"
        return clean_environment(
            self.home, VAULT_ADDR=f"https://{self.custodian_host}:{self.custodian_port}", VAULT_CACERT=str(certs / "ca.crt"),
            VAULT_CLIENT_CERT=str(certs / f"{name}.crt"), VAULT_CLIENT_KEY=str(certs / f"{name}.key"))

    def run(self, *arguments, who="alice", stdin=None, program=None):
        given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run([program or self.binary, *arguments], cwd=self.home, env=self.environment(who), capture_output=True,
                              text=True, timeout=120, check=False, **given)

    def must(self, *arguments, who="alice", stdin=None):
        for _ in range(20):
            done = self.run(*arguments, who=who, stdin=stdin)
            if "the store was not seen lately" not in done.stderr:
                break
            # On a starved machine the custodian may lose sight of it for a moment: then it does nothing, and an officer comes again.
            time.sleep(0.5)
        shown = " ".join(str(argument) for argument in arguments)
        assert done.returncode == 0, f"claviger {shown}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *arguments, who="alice"):
        return json.loads(self.must(*arguments, "--json", who=who))

    def start_custodian(self, unseal=True):
        command = [self.binary, "custodian", "--config", self.dir / "custodian.toml"]
        self.custodian = Process("custodian", command, self.home, clean_environment(self.home))
        self.custodian.wait_until(lambda: "sealed" in self.run("seal-status").stdout, "answer to seal-status")
        if unseal:
            self.unseal()

    def unseal(self):
        for share in self.shares[:2]:
            self.must("unseal", stdin=share.read_text())

    def start_proxy(self, log="info"):
        command = [self.binary, "proxy", "--config", self.dir / "proxy.toml"]
        self.proxy = Process("proxy", command, self.home, clean_environment(self.home, CLAVIGER_LOG=log))
        self.proxy.wait_until(lambda: "the proxy serves" in self.proxy.log_tail(), "line that says it serves")
        return self.client(self.proxy_port)

    def credentials(self):
        """The first application's access key and secret key."""
        access_key = re.search(r'(?m)^access_key = "(CLAV.*)"', (self.dir / "proxy.toml").read_text())[1]
        return access_key, (self.dir / "secrets/client.key").read_text().strip()

    def client(self, port):
        """boto3's client of the proxy at `port`, as the first application."""
        return targets.s3_client(f"https://localhost:{port}", *self.credentials(), ca=str(self.dir / "certs/ca.crt"))

    def gated(self, *arguments, who="alice"):
        """Runs what needs two more officers; gives the proposal's id."""
        done = self.run(*arguments, who=who)
        assert done.returncode == 3, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return re.search(r"p-[0-9a-f]{16}", done.stdout + done.stderr)[0]

    def stop(self):
        for process in (self.proxy, self.custodian):
            if process is not None and process.child.poll() is None:
                process.terminate()

    def kill(self):
        for process in (self.proxy, self.custodian):
            if process is not None:
                process.kill()


def files_below(folder):
    return [Path(root) / name for root, _, names in os.walk(folder) for name in names]
