"""What `end-to-end` compares: a storage server, and what may stand before it. Each is a process on a free port of 127.0.0.1."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "interop"))
import endpoints  # noqa: E402
import servers  # noqa: E402
import target as targets  # noqa: E402
from deployment import Deployment  # noqa: E402

PLAIN, ENCRYPTED = "plain", "encrypted"
CONNECTIONS = 8192

NGINX = """
daemon off; worker_processes auto; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 18000; }}
http {{
  access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  upstream storage {{ server {storage}; keepalive 256; }}
  server {{
    listen 127.0.0.1:{port} ssl backlog=4096; ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    client_max_body_size 0; keepalive_requests 1000000; keepalive_timeout 300s;
    location / {{
      proxy_pass http://storage; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_request_buffering off; proxy_buffering on; proxy_max_temp_file_size 0; tcp_nodelay on;
    }}
  }}
}}
"""

HAPROXY = """
global
  maxconn 8192
  nbthread 2
  tune.ssl.default-dh-param 2048
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  option http-no-delay
  http-reuse always
frontend front
  bind 127.0.0.1:{port} ssl crt {pem} alpn http/1.1 backlog 4096
  default_backend storage
backend storage
  server one {storage}
"""

RCLONE = """
[storage]
type = s3
provider = Other
endpoint = {url}
access_key_id = {access_key}
secret_access_key = {secret_key}
region = us-east-1
force_path_style = true
[crypt]
type = crypt
remote = storage:{bucket}
password = {password}
"""


class Contender:
    """Where to send the load, and whose time and memory it costs."""

    def __init__(self, name, url, bucket, credentials, ca=None, process=None):
        self.name, self.url, self.bucket, self.ca, self.process = name, url, bucket, ca, process
        self.access_key, self.secret_key = credentials

    def pids(self):
        """Its processes: nginx serves with children."""
        if self.process is None:
            return []
        pid = self.process.child.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def cpu_seconds(self):
        """User and system time used so far."""
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self, field="VmRSS"):
        """Bytes resident now, or (`VmHWM`) at the most since `forget_peak`."""
        return sum(int(re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) << 10 for pid in self.pids())

    def forget_peak(self):
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")


class Memory:
    """examples/memory_storage.rs."""

    access_key, secret_key = "memory", "not-looked-at"

    def __init__(self, folder):
        (port,) = servers.free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        command = [REPOSITORY / "target/release/examples/memory_storage", "--port", str(port)]
        self.process = servers.Process("memory-storage", command, folder, servers.clean_environment(folder))
        self.process.wait_until(lambda: "listening" in self.process.log_tail(), "listener")

    def stop(self):
        self.process.kill()


def storage(kind, folder):
    """A storage server with the buckets of all contenders."""
    server = Memory(folder) if kind == "memory" else endpoints.seaweedfs(folder)
    client = targets.s3_client(server.url, server.access_key, server.secret_key)
    for bucket in (PLAIN, ENCRYPTED, "crypt"):
        client.create_bucket(Bucket=bucket)
    return server


def certificate(folder):
    """A certificate for 127.0.0.1 that is its own authority."""
    crt, key = folder / "own.crt", folder / "own.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", crt],
        check=True, capture_output=True)
    return crt, key


class Contenders:
    """All of them, before one storage server."""

    def __init__(self, folder, kind, without):
        self.folder, self.started, self.all = folder, [], []
        self.server = storage(kind, self.sub("storage"))
        self.credentials = (self.server.access_key, self.server.secret_key)
        self.crt, self.key = certificate(folder)
        makers = {"bare": self.bare, "nginx": self.nginx, "HAProxy": self.haproxy, "hyper alone": self.hyper, "Claviger": self.claviger,
                  "rclone crypt": self.rclone}
        for name, make in makers.items():
            if name not in without:
                self.all.append(make(name))

    def sub(self, name):
        path = self.folder / name
        path.mkdir()
        return path

    def start(self, name, command, folder):
        process = servers.Process(name, command, folder, servers.clean_environment(folder))
        self.started.append(process)
        return process

    def bare(self, name):
        return Contender(name, self.server.url, PLAIN, self.credentials, process=getattr(self.server, "process", None))

    def plain(self, name, port, process):
        return Contender(name, f"https://127.0.0.1:{port}", PLAIN, self.credentials, self.crt, process)

    def nginx(self, name):
        folder, (port,) = self.sub("nginx"), servers.free_ports(1)
        text = NGINX.format(storage=self.server.url.removeprefix("http://"), port=port, certificate=self.crt, key=self.key)
        (folder / "nginx.conf").write_text(text)
        return self.plain(name, port, self.start("nginx", ["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"], folder))

    def haproxy(self, name):
        folder, (port,) = self.sub("haproxy"), servers.free_ports(1)
        (folder / "own.pem").write_text(self.crt.read_text() + self.key.read_text())
        (folder / "haproxy.cfg").write_text(HAPROXY.format(storage=self.server.url.removeprefix("http://"), port=port, pem=folder / "own.pem"))
        return self.plain(name, port, self.start("haproxy", [servers.tool("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")], folder))

    def hyper(self, name):
        """examples/plain_proxy.rs: what Claviger is made of, passing on."""
        folder, (port,) = self.sub("hyper"), servers.free_ports(1)
        command = [REPOSITORY / "target/release/examples/plain_proxy", "--port", port, "--to", self.server.url.rsplit(":", 1)[1], "--certificate", self.crt,
                   "--key", self.key]
        process = self.start("plain-proxy", [str(word) for word in command], folder)
        process.wait_until(lambda: "listening" in process.log_tail(), "listener")
        return self.plain(name, port, process)

    def claviger(self, name):
        """As `claviger init` writes it, but for more connections; without its access log and its line for each request, as the others have none."""
        self.deployment = deployment = Deployment(self.sub("claviger"), (self.server.url, *self.credentials))
        text = (deployment.dir / "proxy.toml").read_text()
        text = re.sub(r"(?ms)^\[audit\]\n.*?^required = true\n", "", text)
        text, count = re.subn(r'(?m)^(listen = ".*")$', rf"\1\nmax_connections = {CONNECTIONS}\nmax_requests = {CONNECTIONS}", text, count=1)
        assert count == 1
        (deployment.dir / "proxy.toml").write_text(text)
        deployment.start_custodian()
        deployment.must("key", "create", "records")
        deployment.start_proxy("warn,claviger::cli=info")
        self.started += [deployment.custodian, deployment.proxy]
        return Contender(name, f"https://localhost:{deployment.proxy_port}", ENCRYPTED, deployment.credentials(), deployment.dir / "certs/ca.crt",
                         deployment.proxy)

    def rclone(self, name):
        folder, (port,) = self.sub("rclone"), servers.free_ports(1)
        rclone = servers.tool("rclone")
        obscured = subprocess.run([rclone, "obscure", "-"], input="a passphrase", capture_output=True, text=True, check=True).stdout.strip()
        access_key, secret_key = self.credentials
        (folder / "rclone.conf").write_text(RCLONE.format(url=self.server.url, access_key=access_key, secret_key=secret_key, bucket="crypt", password=obscured))
        mine = ("benchmark", "benchmark-secret")
        process = self.start("rclone", [rclone, "--config", folder / "rclone.conf", "serve", "s3", "crypt:", "--addr", f"127.0.0.1:{port}", "--auth-key",
                                        ",".join(mine), "--cert", self.crt, "--key", self.key, "--force-path-style"], folder)
        contender = Contender(name, f"https://127.0.0.1:{port}", "encrypted", mine, self.crt, process)
        client = targets.s3_client(contender.url, *mine, ca=str(self.crt))
        process.wait_until(lambda: self.makes_bucket(client, contender.bucket), "bucket")
        return contender

    @staticmethod
    def makes_bucket(client, bucket):
        try:
            client.create_bucket(Bucket=bucket)
            return True
        except Exception:  # noqa: BLE001: whatever it is, it is not ready
            return False

    def cold_starts(self, times=5):
        """Seconds from the start of the proxy's process to its first answer."""
        deployment, taken = self.deployment, []
        for _ in range(times):
            deployment.proxy.terminate()
            begun = time.monotonic()
            process = servers.Process("proxy", [deployment.binary, "proxy", "--config", deployment.dir / "proxy.toml"], deployment.home,
                                      servers.clean_environment(deployment.home))
            while subprocess.run(["curl", "--silent", "--cacert", deployment.dir / "certs/ca.crt", "--output", "/dev/null",
                                  f"https://localhost:{deployment.proxy_port}/"], check=False).returncode:
                time.sleep(0.005)
            taken.append(time.monotonic() - begun)
            self.started.remove(deployment.proxy)
            deployment.proxy = process
            self.started.append(process)
        return taken

    def stop(self):
        for process in reversed(self.started):
            # nginx ends its workers itself.
            process.terminate() if process.name == "nginx" else process.kill()
        self.server.stop()
