"""What a test talks to: an S3 endpoint, the storage server behind it, and what that storage server can do."""

import random
import string

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import urllib3
from botocore.exceptions import BotoCoreError, ClientError

# Facts about storage servers that the tests found out, for the summary at the end.
FACTS = []


def marker():
    """24 letters and digits that turn up nowhere by chance."""
    return "".join(random.SystemRandom().choices(string.ascii_letters + string.digits, k=24))


def s3_client(url, access_key, secret_key, region="us-east-1", ca=None):
    """boto3's client as an application makes it, with signature v4 also for presigned URLs."""
    config = botocore.config.Config(signature_version="s3v4", connect_timeout=10, read_timeout=60)
    return boto3.client("s3", endpoint_url=url, aws_access_key_id=access_key, aws_secret_access_key=secret_key,
                        region_name=region, verify=ca, config=config)


def error_code(error):
    return error.response["Error"]["Code"]


class Target:
    """One endpoint under test, in front of one storage server whose files lie in `folder`."""

    bucket = "interop"
    direct_bucket = "written-directly"

    def __init__(self, name, exports, folder, demo=None):
        self.name = name
        self.demo = demo
        self.url = exports["AWS_ENDPOINT_URL"]
        self.ca = exports["AWS_CA_BUNDLE"] or None
        self.access_key, self.secret_key = exports["AWS_ACCESS_KEY_ID"], exports["AWS_SECRET_ACCESS_KEY"]
        self.region = exports["AWS_DEFAULT_REGION"]
        self.exports = exports
        self.folder = folder
        self.marker = marker()
        self.s3 = self.client()
        self.direct = s3_client(exports["CLAVIGER_STORAGE_URL"], exports["CLAVIGER_STORAGE_ACCESS_KEY"],
                                exports["CLAVIGER_STORAGE_SECRET_KEY"], self.region)
        self.s3.create_bucket(Bucket=self.bucket)
        self.direct.create_bucket(Bucket=self.direct_bucket)

    def client(self, access_key=None, secret_key=None):
        return s3_client(self.url, access_key or self.access_key, secret_key or self.secret_key, self.region, self.ca)

    def body(self, size):
        """Random bytes; with this target's marker in the middle, so that the last scan covers every client's uploads."""
        data = bytearray(random.randbytes(size))
        if size >= 2 * len(self.marker):
            data[size // 2:size // 2 + len(self.marker)] = self.marker.encode()
        return bytes(data)

    def where_the_storage_server_can(self, what, scenario):
        """Holds the proxy to `scenario(client, bucket)` if the bare storage server passes it; says in the summary if not.

        Returns whether it does, so that a test can still hold the proxy to something weaker.
        """
        try:
            scenario(self.direct, self.direct_bucket)
        except (ClientError, BotoCoreError, AssertionError) as failure:
            reason = " ".join(str(failure).split())[:120] or type(failure).__name__
            FACTS.append(f"{self.name}: the storage server itself fails at {what}: {reason}")
            return False
        FACTS.append(f"{self.name}: held to {what}")
        scenario(self.s3, self.bucket)
        return True

    def raw(self, method, path_and_query, body=b"", headers=None, sign=True, sent_body=None):
        """One request signed by botocore's signer, exactly as given; `sent_body` replaces `body` after signing."""
        request = botocore.awsrequest.AWSRequest(method, self.url + path_and_query, headers=dict(headers or {}), data=body)
        if sign:
            credentials = botocore.credentials.Credentials(self.access_key, self.secret_key)
            botocore.auth.S3SigV4Auth(credentials, "s3", self.region).add_auth(request)
        pool = urllib3.PoolManager(ca_certs=self.ca, retries=False, timeout=60)
        sent = body if sent_body is None else sent_body
        return pool.request(method, self.url + path_and_query, body=sent, headers=dict(request.headers.items()))
