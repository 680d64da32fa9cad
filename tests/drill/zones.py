"""A SeaweedFS cluster over three zones. Each has a server (master, volumes, filer and S3 gateway in one process) and a member of etcd.

What it guarantees: filers keep the names of objects in etcd, where a majority of the zones has a change before it counts, and
reads see it from every gateway. Volumes are written in two zones (replication 100: one more copy, in another data centre) before
a write is acknowledged. So any one zone may go: reads find the other copy; for writes, volumes that miss a copy are left alone
and new ones are made in the two zones that are left, once the master has noticed. Two zones cut off stop everything.
"""

import json
import os
import random
import signal
import subprocess
from pathlib import Path

import network
from servers import Process, clean_environment, tool

ETCD = {zone: f"http://{network.address(zone)}" for zone in network.ZONES}


class Ports:
    """Of a zone's server. None is used twice: it also listens on sockets in /tmp that are named after its ports, and who finds one
    there takes it for the way to that port of any host."""

    def __init__(self, first):
        self.all = self.master, self.volume, self.filer, self.s3 = range(first, first + 4)

    def flags(self):
        named = zip(("master", "volume", "filer", "s3"), self.all)
        return [flag for name, port in named for flag in (f"-{name}.port={port}", f"-{name}.port.grpc={port + 10_000}")]

    def forget(self):
        for port in self.all:
            for left in Path("/tmp").glob(f"seaweedfs-*-{port + 10_000}.sock"):
                left.unlink(missing_ok=True)


# Drills that run at once keep out of each other's way.
FIRST_PORT = random.SystemRandom().randrange(10_000, 20_000, 16)
PORTS = {zone: Ports(FIRST_PORT + 4 * number) for number, zone in enumerate(network.ZONES)}


class Zone:
    """One zone's processes; what they store lies in `data`."""

    access_key, secret_key = "storage", "storage-secret"

    def __init__(self, name, folder, certificate):
        self.name, self.folder = name, folder / name
        self.data = self.folder / "data"
        self.data.mkdir(parents=True)
        self.url = f"https://{name}:{PORTS[name].s3}"
        # `wanted` while its server is to run; how often it gave up by itself and was started anew.
        self.processes, self.starts, self.wanted, self.gave_up = {}, 0, False, 0
        ip = network.address(name)
        (self.folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\ncopy_2 = 2\ncopy_3 = 1\ncopy_other = 1\n")
        (self.folder / "filer.toml").write_text(f'[etcd]\nenabled = true\nservers = "{name}:2379"\ntimeout = "3s"\n')
        identity = {"name": "storage", "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
                    "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        (self.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        peers = ",".join(f"{network.address(zone)}:{ports.master}" for zone, ports in PORTS.items())
        self.commands = {
            "etcd": ["etcd", f"--name={name}", f"--data-dir={self.data}/etcd", f"--listen-peer-urls=http://{ip}:2380",
                     f"--initial-advertise-peer-urls=http://{ip}:2380", f"--listen-client-urls=http://{ip}:2379",
                     f"--advertise-client-urls=http://{ip}:2379", "--initial-cluster-state=new", "--initial-cluster-token=drill",
                     "--initial-cluster=" + ",".join(f"{zone}={url}:2380" for zone, url in ETCD.items())],
            "weed": [tool("weed"), "-logtostderr=true", "server", f"-ip={ip}", f"-ip.bind={ip}", f"-dir={self.data}", f"-dataCenter={name}",
                     "-master.telemetry=false", f"-master.peers={peers}", "-master.electionTimeout=2s", "-master.defaultReplication=100",
                     "-master.volumeSizeLimitMB=256", "-volume.max=1000", "-volume.preStopSeconds=0", "-filer", "-filer.defaultReplicaPlacement=100",
                     f"-filer.localSocket={self.folder}/filer.sock",
                     "-s3", *PORTS[name].flags(), "-s3.config=s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.localSocket={self.folder}/s3.sock",
                     f"-s3.cert.file={certificate}.crt", f"-s3.key.file={certificate}.key"],
        }

    def start(self, name):
        self.starts += 1
        command = network.inside(self.name, *self.commands[name])
        # Three of them share the memory of one machine.
        self.processes[name] = Process(f"{name}-{self.starts}", command, self.folder, clean_environment(self.folder, GOGC="50"))

    def start_server(self):
        """It gives up without its member of etcd, which waits for a majority."""
        self.processes["etcd"].wait_until(self.has_leader, "leader of etcd")
        self.start("weed")
        self.wanted = True

    def has_named_the_store(self):
        """Filers that found no name there at the same time each give one, take each other's for different stores, and write again in
        the one they share what the others wrote before, also over what is newer."""
        return "filer.store.id" in self.processes["weed"].log.read_text(errors="replace")

    def supervise(self):
        """As a service manager does: a server that finds another zone half started, for one, ends."""
        if self.wanted and self.processes["weed"].child.poll() is not None:
            self.gave_up += 1
            self.start("weed")

    def has_leader(self):
        done = subprocess.run(["curl", "-s", "--max-time", "2", f"{ETCD[self.name]}:2379/health"], capture_output=True, text=True, check=False)
        return '"true"' in done.stdout

    def end(self):
        """As an operator restarts it; SeaweedFS takes its time over a SIGTERM."""
        self.wanted = False
        for name in ("weed", "etcd"):
            process = self.processes[name]
            os.kill(process.child.pid, signal.SIGTERM)
            try:
                process.child.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()

    def kill(self):
        self.wanted = False
        for process in self.processes.values():
            process.kill()
