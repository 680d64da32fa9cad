"""Applications, at the host `clients`: boto3 in threads, which tries everything once, and the command-line clients with their own ways of trying again."""

import random
import threading
import time
from types import SimpleNamespace

from botocore.exceptions import ClientError

import clients
import network

BUCKET = "records"
PART = 5 << 20
KEYS_MAX = 40


class Event(SimpleNamespace):
    """One operation: `begun`, `ended`, `verb`, `who`, and `error`, None if it went well."""


class Load:
    """All applications. What they saw is in `events`, what must never be in `wrong`."""

    def __init__(self, trusted, records, named, seed, workers, folder):
        self.named, self.records, self.stopped = named, records, threading.Event()
        self.events, self.wrong = [], []
        target = SimpleNamespace(url=f"https://{trusted.front_host}:{trusted.front_port}", ca=str(trusted.dir / "certs/ca.crt"), region="us-east-1")
        target.access_key, target.secret_key = trusted.credentials()
        target.exports = {"AWS_ENDPOINT_URL": target.url, "AWS_CA_BUNDLE": target.ca, "AWS_ACCESS_KEY_ID": target.access_key,
                          "AWS_SECRET_ACCESS_KEY": target.secret_key, "AWS_DEFAULT_REGION": target.region}
        self.threads = [Worker(self, trusted.client(trusted.front_port), number, random.Random(f"{seed}/{number}")) for number in range(workers)]
        for kind in (clients.Rclone, clients.S3cmd, clients.AwsCli):
            home = folder / kind.name
            home.mkdir()
            self.threads.append(Program(self, kind(target, home), random.Random(f"{seed}/{kind.name}")))

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(300)
            assert not thread.is_alive(), f"{thread.name} hangs"

    def count(self, who, verb, begun, error=None):
        self.events.append(Event(who=who, verb=verb, begun=begun, ended=time.monotonic(), error=error))

    def is_wrong(self, text):
        self.wrong.append(text)


def kind_of(error):
    """One word for the report."""
    if isinstance(error, ClientError):
        return f"{error.response['ResponseMetadata']['HTTPStatusCode']} {error.response['Error']['Code']}"
    return type(error).__name__


class Application(threading.Thread):
    """Has keys of its own, which nobody else writes."""

    def __init__(self, load, name, chance):
        super().__init__(daemon=True, name=name)
        self.load, self.records, self.random = load, load.records, chance
        self.prefix, self.number = f"{name}/{load.named}/", 0

    def run(self):
        network.enter("clients")
        while not self.load.stopped.is_set():
            self.step()

    def size(self):
        return self.random.choice((0, 1, 200, 5_000, 65_535, 65_536, 65_537, 300_000, self.random.randrange(2_000_000)))

    def fresh(self):
        self.number += 1
        return self.number

    def count(self, verb, begun, error=None):
        self.load.count(self.name, verb, begun, error)

    def check(self, key, since, data, start=None):
        """Whether a read shows what it may."""
        values = self.records.allowed(key, since)
        if not self.records.fits(key, values, data, start):
            found = "nothing" if data is None else f"{len(data)} bytes that begin with {bytes(data[:40])!r}"
            self.load.is_wrong(f"{self.name}: {key}: {found}, where one of {values} belongs")


class Worker(Application):
    """boto3: everything that applications do, in the proportions of the list below."""

    verbs = ("put",) * 7 + ("get",) * 7 + ("range",) * 3 + ("head",) * 2 + ("delete", "list", "multipart", "look around", "look around")

    def __init__(self, load, s3, number, chance):
        super().__init__(load, f"boto3-{number}", chance)
        self.s3 = s3

    def step(self):
        verb = self.random.choice(self.verbs)
        if verb == "delete" and self.pick() is None:
            return
        begun = time.monotonic()
        try:
            getattr(self, verb.replace(" ", "_"))()
        except Exception as error:  # noqa: BLE001: what an application sees is what is counted
            self.count(verb, begun, kind_of(error))
        else:
            self.count(verb, begun)
        self.load.stopped.wait(self.random.uniform(0.1, 0.5))

    def pick(self):
        """A key to read, of its own; there is one after the first write."""
        keys = self.records.usable(self.prefix)
        return self.random.choice(keys) if keys else None

    def to_write(self):
        keys = self.records.usable(self.prefix)
        if len(keys) >= KEYS_MAX or (keys and self.random.random() < 0.4):
            return self.random.choice(keys)
        return f"{self.prefix}{self.fresh():05}"

    def put(self):
        key, version, size = self.to_write(), self.fresh(), self.size()
        body = self.records.body(key, version, size)
        self.records.begin(key, version, size)
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata={"owner": self.records.marker}, ContentType=f"text/{self.records.marker}")
        self.records.acknowledge(key)

    def multipart(self):
        key, version, size = self.to_write(), self.fresh(), PART + self.random.randrange(1, 2_000_000)
        body = self.records.body(key, version, size)
        self.records.begin(key, version, size)
        where = {"Bucket": BUCKET, "Key": key}
        where["UploadId"] = self.s3.create_multipart_upload(**where, Metadata={"owner": self.records.marker})["UploadId"]
        pieces = (body[:PART], body[PART:])
        parts = [{"PartNumber": number, "ETag": self.s3.upload_part(**where, PartNumber=number, Body=piece)["ETag"]}
                 for number, piece in enumerate(pieces, 1)]
        self.s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        self.records.acknowledge(key)

    def delete(self):
        key = self.pick()
        self.records.begin(key, None)
        self.s3.delete_object(Bucket=BUCKET, Key=key)
        self.records.acknowledge(key)

    def read(self, key):
        try:
            return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
            return None

    def get(self):
        key = self.pick()
        if key is not None:
            since = self.records.settled(key)
            self.check(key, since, self.read(key))

    def look_around(self):
        """What somebody else may be writing just now."""
        keys = [key for key in self.records.all() if not key.startswith(self.prefix)]
        if keys:
            key = self.random.choice(keys)
            since = self.records.settled(key)
            self.check(key, since, self.read(key))

    def range(self):
        key = self.pick()
        values = self.records.allowed(key) if key else [None]
        if values[0] is None or values[0][1] < 2:
            return
        start = self.random.randrange(values[0][1])
        end = min(start + self.random.randrange(1, 100_000), values[0][1]) - 1
        got = self.s3.get_object(Bucket=BUCKET, Key=key, Range=f"bytes={start}-{end}")["Body"].read()
        if len(got) != end - start + 1:
            self.load.is_wrong(f"{self.name}: {key}: {len(got)} bytes of a range of {end - start + 1}")
        self.check(key, None, got, start)

    def head(self):
        key = self.pick()
        values = self.records.allowed(key) if key else [None]
        if values[0] is None:
            return
        got = self.s3.head_object(Bucket=BUCKET, Key=key)
        if got["ContentLength"] != values[0][1]:
            self.load.is_wrong(f"{self.name}: {key}: HEAD says {got['ContentLength']} bytes of {values[0][1]}")

    def list(self):
        """All of its own keys that are there for sure, none that is not, and the plaintext's sizes."""
        found = {entry["Key"]: entry["Size"] for page in self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=self.prefix, PaginationConfig={"PageSize": 15}) for entry in page.get("Contents", [])}
        for key, values in self.records.all().items():
            if key.startswith(self.prefix):
                sizes = [None if value is None else value[1] for value in values]
                if found.pop(key, None) not in sizes:
                    self.load.is_wrong(f"{self.name}: the list has another size of {key} than one of {sizes}")
        if found:
            self.load.is_wrong(f"{self.name}: the list shows {sorted(found)[:3]}, which nobody wrote")


class Program(Application):
    """A command-line client, run anew for each transfer."""

    def __init__(self, load, client, chance):
        super().__init__(load, client.name, chance)
        self.client = client

    def step(self):
        # It tries again by itself, and an attempt that it gave up may be carried out late: so it writes nothing twice.
        key, version, size = f"{self.prefix}{self.fresh():05}", 1, 1 + self.size()
        body = self.records.body(key, version, size)
        self.attempt("put", lambda: self.write(key, version, body))
        if key in self.records.usable(key):
            self.attempt("get", lambda: self.check(key, self.records.settled(key), self.client.get(BUCKET, key)))
        self.load.stopped.wait(self.random.uniform(1, 3))

    def write(self, key, version, body):
        self.records.begin(key, version, len(body))
        self.client.put(BUCKET, key, body)
        self.records.acknowledge(key)

    def attempt(self, verb, what):
        begun = time.monotonic()
        try:
            what()
        except Exception:  # noqa: BLE001: the client gave up, with whatever message
            self.count(verb, begun, f"{self.name} gave up")
        else:
            self.count(verb, begun)
