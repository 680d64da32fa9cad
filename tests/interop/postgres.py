"""A PostgreSQL server of the tests' own."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from servers import Process, clean_environment, free_ports


def programs():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found += [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    for folder in found:
        if (folder / "initdb").exists():
            return folder
    raise AssertionError("PostgreSQL is needed for this test (Debian: apt-get install postgresql)")


def unprivileged(*paths):
    """PostgreSQL does not run as root: what runs it as somebody else, who gets the paths."""
    if os.getuid() != 0:
        return []
    if Path("/proc/self/uid_map").read_text().split()[2] == "1":
        # There is nobody else in this namespace; in one below it, root has another number.
        return ["unshare", "--map-user=1000", "--map-group=1000"]
    user = next(entry for entry in pwd.getpwall() if entry.pw_name in ("postgres", "nobody"))
    for path in paths:
        shutil.chown(path, user.pw_uid, user.pw_gid)
    # The folders above belong to root alone.
    for above in paths[0].parents:
        if above.stat().st_uid == 0 and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o011)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


class Postgres:
    """Listens on a free port of 127.0.0.1, with the user `claviger` and its database. Elsewhere, where it has a certificate, at `host`."""

    password = "a-password-for-the-tests"

    def __init__(self, folder, host="127.0.0.1", certificate=None, at=lambda command: command):
        self.port, = free_ports(1)
        self.address = f"postgres://claviger@{host}:{self.port}/postgres"
        # What a custodian's configuration says of it besides.
        self.trust = f'\nca_file = "{certificate.with_name("ca.crt")}"' if certificate else ""
        self.folder, self.data = folder, folder / "data"
        self.data.mkdir()
        secret = folder / "password"
        secret.write_text(self.password)
        files = [folder, self.data, secret]
        flags = ["-p", str(self.port), "-k", folder, "-h", host]
        if certificate:
            for end in ("crt", "key"):
                files.append(Path(shutil.copy(f"{certificate}.{end}", folder / f"server.{end}")))
                files[-1].chmod(0o600)
            flags += ["-c", "ssl=on", "-c", f"ssl_cert_file={folder}/server.crt", "-c", f"ssl_key_file={folder}/server.key"]
        prefix, programs_of = unprivileged(*files), programs()
        initdb = [programs_of / "initdb", "-D", self.data, "-U", "claviger", "--auth=scram-sha-256", f"--pwfile={secret}", "-N"]
        subprocess.run([*prefix, *initdb], env=clean_environment(folder), cwd=folder, check=True, capture_output=True, timeout=60)
        if certificate:
            with (self.data / "pg_hba.conf").open("a") as access:
                access.write("hostssl all all all scram-sha-256\n")
        self.command = at([*prefix, programs_of / "postgres", "-D", self.data, *flags])
        self.start()

    def start(self):
        self.process = Process("postgres", self.command, self.folder, clean_environment(self.folder))
        self.process.wait_until(lambda: "ready to accept connections" in self.process.log_tail(), "readiness")

    def stop(self):
        self.process.kill()
