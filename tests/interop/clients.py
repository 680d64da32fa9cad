"""Unmodified S3 clients, each behind the same few verbs: put, get, range, sizes, delete."""

import json
import subprocess
import xml.etree.ElementTree as ElementTree
from urllib.parse import unquote

from servers import clean_environment, tool

XMLNS = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}


class Client:
    """A program run in a fresh home with nothing but the exports of env.sh."""

    def __init__(self, target, folder):
        self.target = target
        self.folder = folder
        exports = {name: value for name, value in target.exports.items() if name.startswith("AWS_") and value}
        self.environment = clean_environment(folder, **exports)
        self.prepare()

    def prepare(self):
        """What the client needs besides the environment."""

    def run(self, program, *arguments):
        command = [tool(program), *map(str, arguments)]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=120, check=False)
        output = done.stdout.decode(errors="replace")[-2000:] + done.stderr.decode(errors="replace")[-4000:]
        assert done.returncode == 0, f"{' '.join(command)} exited with {done.returncode}:\n{output}"
        return done.stdout

    def file(self, data):
        path = self.folder / "upload"
        path.write_bytes(data)
        return path

    def fresh(self):
        path = self.folder / "download"
        path.unlink(missing_ok=True)
        return path


class Boto3(Client):
    """boto3, managed transfers."""

    name = "boto3"

    def put(self, bucket, key, data):
        self.target.s3.upload_file(str(self.file(data)), bucket, key)

    def get(self, bucket, key):
        self.target.s3.download_file(bucket, key, str(self.fresh()))
        return (self.folder / "download").read_bytes()

    def range(self, bucket, key, start, length):
        answer = self.target.s3.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{start + length - 1}")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        return answer["Body"].read()

    def sizes(self, bucket, prefix):
        answer = self.target.s3.list_objects_v2(Bucket=bucket, Prefix=prefix)
        return {entry["Key"]: entry["Size"] for entry in answer.get("Contents", [])}

    def delete(self, bucket, key):
        self.target.s3.delete_object(Bucket=bucket, Key=key)


class AwsCli(Client):
    """aws s3 and, for ranges, aws s3api."""

    name = "aws-cli"

    def put(self, bucket, key, data):
        self.run("aws", "s3", "cp", self.file(data), f"s3://{bucket}/{key}")

    def get(self, bucket, key):
        self.run("aws", "s3", "cp", f"s3://{bucket}/{key}", self.fresh())
        return (self.folder / "download").read_bytes()

    def range(self, bucket, key, start, length):
        span = f"bytes={start}-{start + length - 1}"
        self.run("aws", "s3api", "get-object", "--bucket", bucket, "--key", key, "--range", span, self.fresh())
        return (self.folder / "download").read_bytes()

    def sizes(self, bucket, prefix):
        lines = self.run("aws", "s3", "ls", "--recursive", f"s3://{bucket}/{prefix}").decode().splitlines()
        return {line.split(maxsplit=3)[3]: int(line.split()[2]) for line in lines}

    def delete(self, bucket, key):
        self.run("aws", "s3", "rm", f"s3://{bucket}/{key}")


class S3cmd(Client):
    """s3cmd, which knows its endpoint from a configuration file only."""

    name = "s3cmd"

    def prepare(self):
        secure, host = self.target.url.split("://")
        lines = [
            "[default]", f"access_key = {self.target.access_key}", f"secret_key = {self.target.secret_key}",
            f"bucket_location = {self.target.region}", f"host_base = {host}", f"host_bucket = {host}",
            f"use_https = {secure == 'https'}", f"ca_certs_file = {self.target.ca or ''}",
        ]
        (self.folder / ".s3cfg").write_text("\n".join(lines) + "\n")

    def put(self, bucket, key, data):
        self.run("s3cmd", "--no-progress", "put", self.file(data), f"s3://{bucket}/{key}")

    def get(self, bucket, key):
        self.run("s3cmd", "--no-progress", "get", f"s3://{bucket}/{key}", self.fresh())
        return (self.folder / "download").read_bytes()

    def range(self, bucket, key, start, length):
        # Its one use of ranges is to go on with a broken download.
        path = self.fresh()
        path.write_bytes(bytes(start))
        self.run("s3cmd", "--no-progress", "--continue", "get", f"s3://{bucket}/{key}", path)
        return path.read_bytes()[start:start + length]

    def sizes(self, bucket, prefix):
        lines = self.run("s3cmd", "ls", "--recursive", f"s3://{bucket}/{prefix}").decode().splitlines()
        return {line.split(maxsplit=3)[3].removeprefix(f"s3://{bucket}/"): int(line.split()[2]) for line in lines}

    def delete(self, bucket, key):
        self.run("s3cmd", "del", f"s3://{bucket}/{key}")


class Rclone(Client):
    """rclone, configured by environment alone."""

    name = "rclone"

    def prepare(self):
        self.environment |= {
            "RCLONE_CONFIG": str(self.folder / "rclone.conf"), "RCLONE_CONFIG_C_TYPE": "s3", "RCLONE_CONFIG_C_PROVIDER": "Other",
            "RCLONE_CONFIG_C_ENV_AUTH": "true", "RCLONE_CONFIG_C_ENDPOINT": self.target.url,
            "RCLONE_CONFIG_C_REGION": self.target.region, "RCLONE_RETRIES": "1",
        }
        (self.folder / "rclone.conf").touch()
        if self.target.ca:
            self.environment["RCLONE_CA_CERT"] = self.target.ca

    def put(self, bucket, key, data):
        self.run("rclone", "copyto", self.file(data), f"c:{bucket}/{key}")

    def get(self, bucket, key):
        self.run("rclone", "copyto", f"c:{bucket}/{key}", self.fresh())
        return (self.folder / "download").read_bytes()

    def range(self, bucket, key, start, length):
        return self.run("rclone", "cat", "--offset", start, "--count", length, f"c:{bucket}/{key}")

    def sizes(self, bucket, prefix):
        listed = json.loads(self.run("rclone", "lsjson", "--recursive", "--files-only", f"c:{bucket}/{prefix}"))
        return {prefix + entry["Path"]: entry["Size"] for entry in listed}

    def delete(self, bucket, key):
        self.run("rclone", "deletefile", f"c:{bucket}/{key}")


class Curl(Client):
    """curl with presigned URLs."""

    name = "curl"

    def url(self, operation, **parameters):
        return self.target.s3.generate_presigned_url(operation, Params=parameters, ExpiresIn=300)

    def curl(self, *arguments):
        ca = ["--cacert", self.target.ca] if self.target.ca else []
        return self.run("curl", "--silent", "--show-error", "--fail-with-body", "--max-time", 60, *ca, *arguments)

    def put(self, bucket, key, data):
        self.curl("--upload-file", self.file(data), self.url("put_object", Bucket=bucket, Key=key))

    def get(self, bucket, key):
        return self.curl(self.url("get_object", Bucket=bucket, Key=key))

    def range(self, bucket, key, start, length):
        return self.curl("--range", f"{start}-{start + length - 1}", self.url("get_object", Bucket=bucket, Key=key))

    def sizes(self, bucket, prefix):
        page = ElementTree.fromstring(self.curl(self.url("list_objects_v2", Bucket=bucket, Prefix=prefix)))
        entries = page.findall("s3:Contents", XMLNS)
        # boto3 asks for encoding-type=url when it presigns a listing.
        return {unquote(entry.findtext("s3:Key", "", XMLNS)): int(entry.findtext("s3:Size", "-1", XMLNS)) for entry in entries}

    def delete(self, bucket, key):
        self.curl("--request", "DELETE", self.url("delete_object", Bucket=bucket, Key=key))


ALL = [Boto3, AwsCli, S3cmd, Rclone, Curl]
