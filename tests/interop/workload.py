"""A mixed load: boto3 in threads, which tries everything once, and clients with their own ways of trying again. Every byte that is read is checked."""

import threading
import time
from types import SimpleNamespace

from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError

from records import Value

BUCKET = "records"
PART = 5 << 20
KEYS_MAX = 40
PATIENCE_S = 60


class Event(SimpleNamespace):
    """One operation: `begun`, `ended`, `verb`, `who`, and `error`, None if it went well."""


class Load:
    """All applications. What they saw is in `events`, what must never be in `wrong`. Each calls `enter` first."""

    def __init__(self, records, named, enter=lambda: None):
        self.named, self.records, self.enter, self.stopped = named, records, enter, threading.Event()
        self.events, self.wrong, self.threads = [], [], []

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


def target_of(deployment, url, **more):
    """What the clients of `clients` are told of an endpoint of the deployment."""
    target = SimpleNamespace(url=url, ca=str(deployment.dir / "certs/ca.crt"), region="us-east-1", **more)
    target.access_key, target.secret_key = deployment.credentials()
    target.exports = {"AWS_ENDPOINT_URL": target.url, "AWS_CA_BUNDLE": target.ca, "AWS_ACCESS_KEY_ID": target.access_key,
                      "AWS_SECRET_ACCESS_KEY": target.secret_key, "AWS_DEFAULT_REGION": target.region}
    return target


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
        self.load.enter()
        while not self.load.stopped.is_set():
            self.step()

    def size(self):
        return self.random.choice((0, 1, 200, 5_000, 65_535, 65_536, 65_537, 300_000, self.random.randrange(2_000_000)))

    def fresh(self):
        self.number += 1
        return self.number

    def count(self, verb, begun, error=None):
        self.load.count(self.name, verb, begun, error)

    def failed(self, verb, begun, error, shown):
        """Wrong bytes that the client found itself are wrong bytes."""
        if isinstance(error, FlexibleChecksumError):
            self.load.is_wrong(f"{self.name}: {verb}: {error}")
        self.count(verb, begun, shown)

    def check(self, key, since, data, start=None):
        """Whether a read shows what it may."""
        values = self.records.allowed(key, since)
        if not self.records.fits(values, data, start):
            found = "nothing" if data is None else f"{len(data)} bytes that begin with {bytes(data[:40])!r}"
            self.load.is_wrong(f"{self.name}: {key}: {found}, where one of {values} belongs")


class Worker(Application):
    """boto3: everything that applications do, in the proportions of the list below. Uploads have up to `parts_max` whole parts."""

    verbs = ("put",) * 7 + ("get",) * 7 + ("range",) * 3 + ("head",) * 2 + ("delete", "list", "multipart", "look around", "look around")
    parts_max = 1

    def __init__(self, load, clients, number, chance):
        super().__init__(load, f"boto3-{number}", chance)
        self.clients = clients

    @property
    def s3(self):
        """Any of its ways."""
        return self.random.choice(self.clients)

    def step(self):
        verb = self.random.choice(self.verbs)
        if verb == "delete" and self.pick() is None:
            return
        begun = time.monotonic()
        try:
            getattr(self, verb.replace(" ", "_"))()
        except Exception as error:  # noqa: BLE001: what an application sees is what is counted
            self.failed(verb, begun, error, kind_of(error))
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
        key = self.to_write()
        value = Value(key, self.fresh(), self.size())
        self.records.begin(key, value)
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=self.records.body(value), Metadata={"owner": self.records.marker},
                           ContentType=f"text/{self.records.marker}")
        self.records.acknowledge(key)

    def multipart(self):
        key = self.to_write()
        value = Value(key, self.fresh(), PART * self.random.randint(1, self.parts_max) + self.random.randrange(1, 2_000_000))
        body = self.records.body(value)
        self.records.begin(key, value)
        where = {"Bucket": BUCKET, "Key": key}
        where["UploadId"] = self.s3.create_multipart_upload(**where, Metadata={"owner": self.records.marker})["UploadId"]
        pieces = [body[start:start + PART] for start in range(0, len(body), PART)]
        parts = [{"PartNumber": number, "ETag": self.s3.upload_part(**where, PartNumber=number, Body=piece)["ETag"]}
                 for number, piece in enumerate(pieces, 1)]
        self.s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        self.records.acknowledge(key)

    def copy(self):
        source, key = self.pick(), self.to_write()
        values = self.records.allowed(source) if source else [None]
        if values[0] is None or source == key:
            return
        self.records.begin(key, values[0])
        self.s3.copy_object(Bucket=BUCKET, Key=key, CopySource={"Bucket": BUCKET, "Key": source})
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
        if values[0] is None or values[0].size < 2:
            return
        start = self.random.randrange(values[0].size)
        end = min(start + self.random.randrange(1, 100_000), values[0].size) - 1
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
        if got["ContentLength"] != values[0].size:
            self.load.is_wrong(f"{self.name}: {key}: HEAD says {got['ContentLength']} bytes of {values[0].size}")

    def list(self):
        """All of its own keys that are there for sure, none that is not, and the plaintext's sizes."""
        found = {entry["Key"]: entry["Size"] for page in self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=self.prefix, PaginationConfig={"PageSize": 15}) for entry in page.get("Contents", [])}
        for key, values in self.records.all().items():
            if key.startswith(self.prefix):
                sizes = [None if value is None else value.size for value in values]
                if found.pop(key, None) not in sizes:
                    self.load.is_wrong(f"{self.name}: the list has another size of {key} than one of {sizes}")
        if found:
            self.load.is_wrong(f"{self.name}: the list shows {sorted(found)[:3]}, which nobody wrote")


class Program(Application):
    """A client of `clients`, which tries again by itself; a command-line client is run anew for each transfer."""

    def __init__(self, load, client, chance):
        super().__init__(load, client.name, chance)
        self.client = client

    def step(self):
        # An attempt that it gave up may be carried out late: so it writes nothing twice.
        key = f"{self.prefix}{self.fresh():05}"
        value = Value(key, 1, 1 + self.size())
        self.attempt("put", lambda: self.write(key, value))
        if key in self.records.usable(key):
            self.attempt("get", lambda: self.check(key, self.records.settled(key), self.client.get(BUCKET, key)))
        self.load.stopped.wait(self.random.uniform(1, 3))

    def write(self, key, value):
        self.records.begin(key, value)
        self.client.put(BUCKET, key, self.records.body(value))
        self.records.acknowledge(key)

    def attempt(self, verb, what):
        begun = time.monotonic()
        try:
            what()
        except Exception as error:  # noqa: BLE001: the client gave up, with whatever message
            self.failed(verb, begun, error, f"{self.name} gave up")
        else:
            self.count(verb, begun)


def by_verb(events):
    """How many requests of each kind there were, and how many of them failed."""
    found = {verb: {"requests": 0, "errors": 0} for verb in sorted({event.verb for event in events})}
    for event in events:
        found[event.verb]["requests"] += 1
        found[event.verb]["errors"] += event.error is not None
    return found


def counted(words):
    """How often each is there, the commonest first."""
    found = {}
    for word in words:
        found[word] = found.get(word, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def patiently(what, end=None):
    """The faults are over: what fails now gets a minute to come right, or until `end`."""
    end = end or time.monotonic() + PATIENCE_S
    while True:
        try:
            return what()
        except (ClientError, BotoCoreError) as error:
            absent = isinstance(error, ClientError) and error.response["ResponseMetadata"]["HTTPStatusCode"] < 500
            if absent or time.monotonic() > end:
                raise
            time.sleep(1)


def read_back(s3, records):
    """Every key that was ever written: what does not show what it may, and how many there are. Each has its minute, until one came to nothing."""
    lost, known = [], records.all()
    for key, values in known.items():
        try:
            data = patiently(lambda key=key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read(), time.monotonic() if lost else None)
        except (ClientError, BotoCoreError) as error:
            if kind_of(error) != "404 NoSuchKey":
                lost.append(f"{key}: {kind_of(error)}")
                continue
            data = None
        if not records.fits(values, data):
            lost.append(f"{key}: {'nothing' if data is None else f'{len(data)} bytes'}, where one of {values} belongs")
    return lost, len(known)
