"""The deployment of compose.yaml without its containers: the files that `prepare` makes, and both configurations, on free ports."""

import http.client
import re
import shutil
import socket
import ssl
import time

from conftest import ROOT, must
from servers import Process, clean_environment, free_ports, program

TOLD_S = 60


class Manager:
    """A service manager's side of sd_notify."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))

    def told(self):
        self.socket.settimeout(TOLD_S)
        return self.socket.recv(4096).decode().splitlines()

    def told_nothing(self):
        self.socket.settimeout(0.1)
        try:
            return self.socket.recv(4096) == b""
        except TimeoutError:
            return True


class Trial:
    """Custodian and proxy as compose.yaml starts them, in a folder."""

    def __init__(self, folder):
        self.home = folder
        for name in ("prepare", "config"):
            source = ROOT / "deploy/docker" / name
            shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)
        must("bash", folder / "prepare", environment={**clean_environment(folder), "CLAVIGER": str(program())})
        made = folder / "deployment"
        self.credentials = folder / "credentials"
        self.credentials.mkdir()
        for file in [*(made / "certs").iterdir(), *(made / "secrets").iterdir()]:
            shutil.copy(file, self.credentials)
        self.custodian_port, self.proxy_port = free_ports(2)
        self._place("custodian.toml", self.custodian_port)
        self._place("proxy.toml", self.proxy_port)
        self.processes = []

    def _place(self, name, port):
        file = self.home / "config" / name
        text = re.sub(r'listen = ".*"', f'listen = "127.0.0.1:{port}"', file.read_text())
        text = text.replace("https://custodian:8200", f"https://localhost:{self.custodian_port}")
        text = text.replace("http://storage:8333", "http://127.0.0.1:9")
        text = text.replace("/etc/claviger/policy.cedar", str(self.home / "deployment/policy.cedar"))
        state = self.home / name.removesuffix(".toml")
        state.mkdir(exist_ok=True)
        file.write_text(text.replace("/var/lib/claviger", str(state)))

    def environment(self, **extra):
        return clean_environment(self.home, CREDENTIALS_DIRECTORY=str(self.credentials), **extra)

    def start(self, what, manager, before=()):
        command = [*before, program(), what, "--config", self.home / f"config/{what}.toml"]
        process = Process(what, command, self.home, self.environment(NOTIFY_SOCKET=str(manager.path)))
        self.processes.append(process)
        return process

    def officer(self, *arguments, who="alice"):
        certs = self.home / "deployment/certs"
        environment = clean_environment(
            self.home, VAULT_ADDR=f"https://localhost:{self.custodian_port}", VAULT_CACERT=str(certs / "ca.crt"),
            VAULT_CLIENT_CERT=str(certs / f"officer-{who}.crt"), VAULT_CLIENT_KEY=str(certs / f"officer-{who}.key"))
        return must(program(), *arguments, environment=environment)

    def until_unsealed(self, process):
        process.wait_until(lambda: '"sealed": false' in self.officer("seal-status", "--json"), "unsealed state")

    def asked_without_a_signature(self):
        """The status that the proxy answers a request with that nobody signed."""
        context = ssl.create_default_context(cafile=self.credentials / "ca.crt")
        connection = http.client.HTTPSConnection("localhost", self.proxy_port, context=context, timeout=TOLD_S)
        try:
            connection.request("GET", "/records/1")
            return connection.getresponse().status
        finally:
            connection.close()

    def stop(self):
        for process in self.processes:
            process.kill()


def traced(path):
    """Has a command leave the names of its calls to the kernel in `path`, and stay its own parent's child."""
    return ["strace", "-D", "-f", "-qq", "-e", "signal=none", "-o", str(path)]


def calls(path):
    """The calls that were noted. The tracer ends a moment after what it traces."""
    end = time.monotonic() + 10
    while "+++ exited" not in path.read_text() and time.monotonic() < end:
        time.sleep(0.1)
    found = re.findall(r"(?m)^\d+ +(?:<\.\.\. )?([a-z_0-9]+)(?:\(| resumed)", path.read_text())
    return set(found)
