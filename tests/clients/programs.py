"""The clients that are programs of their own: which there are, and how each is told of its endpoint."""

import signal
import subprocess
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import clients
import install
from servers import Process, clean_environment, tool

WAIT_S = 300


class Program(clients.Client):
    """A program in a fresh home. `run` is as for the small tests, only with more time and another folder if need be."""

    def run(self, program, *arguments, stdin=None, expect=0, **environment):
        command = [tool(program), *map(str, arguments)]
        given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        for last in (False, True):
            done = subprocess.run(command, cwd=self.folder, env={**self.environment, **environment}, capture_output=True,
                                  timeout=WAIT_S, check=False, **given)
            # No server can make a client that is sound do that: seen of the AWS CLI, in its own OpenSSL, once in some hundred runs.
            if done.returncode != -signal.SIGSEGV or last:
                break
            warnings.warn(f"{' '.join(command)} crashed by itself (SIGSEGV) and was run once more", stacklevel=2)
        output = done.stdout.decode(errors="replace")[-3000:] + done.stderr.decode(errors="replace")[-6000:]
        assert done.returncode == expect, f"{' '.join(command)} exited with {done.returncode}:\n{output}"
        self.said = done.stderr.decode(errors="replace")
        return done.stdout

    def text(self, program, *arguments, **options):
        """What the program prints, to either."""
        return self.run(program, *arguments, **options).decode() + self.said

    @contextmanager
    def running(self, program, *arguments, **environment):
        """The program in the background; killed at the end if it is still there."""
        name = f"{Path(program).name}-{time.monotonic_ns()}"
        process = Process(name, [tool(program), *map(str, arguments)], self.folder, {**self.environment, **environment})
        try:
            yield process
        finally:
            process.kill()

    @contextmanager
    def mounted(self, folder, program, *arguments, **environment):
        """The program serves `folder` as a file system, and has to end well when it is unmounted."""
        install.fuse()
        folder.mkdir()
        with self.running(program, *arguments, **environment) as process:
            try:
                process.wait_until(folder.is_mount, f"mount at {folder}")
                yield folder
            finally:
                done = subprocess.run(["fusermount3", "-u", folder], capture_output=True, text=True, timeout=60, check=False)
                if done.returncode != 0:
                    subprocess.run(["fusermount3", "-u", "-z", folder], capture_output=True, timeout=60, check=False)
            assert done.returncode == 0, f"{done.stderr}\n{process.log_tail()}"
            code = process.child.wait(60)
            assert code == 0, f"{program} exited with {code} after it was unmounted:\n{process.log_tail()}"


class Aws(Program):
    """aws-cli. `program` is the first version (PyPI) or the second (Debian)."""

    program = "aws"

    def aws(self, *arguments, **options):
        # The second version of Debian does not know AWS_ENDPOINT_URL yet.
        return self.text(self.program, "--endpoint-url", self.target.url, *arguments, **options)


class Aws2(Aws):
    @property
    def program(self):
        return install.debian("aws", "awscli")


class Rclone(Program):
    """The newest rclone (PyPI)."""

    program = "rclone"
    prepare = clients.Rclone.prepare

    def rclone(self, *arguments, **options):
        parts = ["--s3-upload-cutoff", "5Mi", "--s3-chunk-size", "5Mi", "--s3-copy-cutoff", "6Mi"]
        return self.text(self.program, *parts, *arguments, **options)


class OldRclone(Rclone):
    """Debian's rclone."""

    @property
    def program(self):
        return install.debian("rclone", "rclone")

    def prepare(self):
        super().prepare()
        # It cannot stand the variable, and needs none but its own.
        self.environment.pop("AWS_CA_BUNDLE", None)


class S3cmd(Program):
    """s3cmd with the smallest parts."""

    prepare = clients.S3cmd.prepare

    def s3cmd(self, *arguments, **options):
        return self.text("s3cmd", "--no-progress", "--multipart-chunk-size-mb=5", *arguments, **options)


class S5cmd(Program):
    """s5cmd, which takes its endpoint from a variable of its own."""

    def prepare(self):
        self.environment |= {"S3_ENDPOINT_URL": self.target.url, "AWS_REGION": self.target.region}

    def s5cmd(self, *arguments, **options):
        return self.text("s5cmd", *arguments, **options)


class Restic(Program):
    def prepare(self):
        self.environment |= {"RESTIC_PASSWORD": "of the test", "RESTIC_CACHE_DIR": str(self.folder / "cache")}

    def restic(self, repository, *arguments):
        ca = ["--cacert", self.target.ca] if self.target.ca else []
        where = f"s3:{self.target.url}/{self.target.bucket}/{repository}"
        return self.text(install.debian("restic", "restic"), "--repo", where, *ca, *arguments)


class Curl(Program):
    def curl(self, *arguments):
        ca = ["--cacert", self.target.ca] if self.target.ca else []
        return self.run("curl", "--silent", "--show-error", "--fail-with-body", "--max-time", 60, *ca, *arguments)


__all__ = ["Aws", "Aws2", "Curl", "OldRclone", "Process", "Program", "Rclone", "Restic", "S3cmd", "S5cmd", "clean_environment"]
