"""Applications that write and read all the time while something is done to a deployment. They try each request once."""

import os
import random
import threading
import time

import boto3
import botocore.config


def impatient(url, credentials, ca, **more):
    """boto3's client as an application that hides nothing: one attempt."""
    access_key, secret_key = credentials
    settings = {"connect_timeout": 10, "read_timeout": 60, **more}
    config = botocore.config.Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, **settings)
    return boto3.client("s3", endpoint_url=url, aws_access_key_id=access_key, aws_secret_access_key=secret_key, region_name="us-east-1",
                        verify=str(ca), config=config)


class Application(threading.Thread):
    """Writes new objects and reads them back. It knows what was acknowledged; `connect` gives its client, or anew for each request."""

    def __init__(self, bucket, name, connect, anew=False, pause_s=0.05):
        super().__init__(daemon=True)
        self.bucket, self.name, self.connect, self.anew, self.stopped = bucket, name, connect, anew, threading.Event()
        self.pause_s = pause_s
        self.acknowledged, self.errors, self.wrong, self.done = {}, [], [], 0

    def run(self):
        s3 = self.connect()
        while not self.stopped.is_set():
            key, body = f"{self.name}/{self.done}", os.urandom(1 + self.done * 37 % 5000)
            s3 = self.connect() if self.anew else s3
            try:
                s3.put_object(Bucket=self.bucket, Key=key, Body=body)
                self.acknowledged[key] = body
                if s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() != body:
                    self.wrong.append(key)
            except Exception as error:  # noqa: BLE001: what an application sees is what is counted
                self.errors.append((time.monotonic(), repr(error)))
                # As an application that is told to come again later.
                time.sleep(self.pause_s)
            self.done += 1
            if self.anew:
                s3.close()


class Load:
    """Several applications at once."""

    def __init__(self, *applications, patience_s=90):
        self.applications, self.patience_s = applications, patience_s

    def __enter__(self):
        for application in self.applications:
            application.start()
        return self

    def __exit__(self, *_):
        for application in self.applications:
            application.stopped.set()
        for application in self.applications:
            application.join(self.patience_s)
            assert not application.is_alive() and application.done > 0
            assert not application.wrong, f"wrong bytes: {application.wrong[:3]}"

    @property
    def errors(self):
        return sorted(error for application in self.applications for error in application.errors)

    @property
    def acknowledged(self):
        return {key: body for application in self.applications for key, body in application.acknowledged.items()}

    @property
    def done(self):
        return sum(application.done for application in self.applications)

    def is_well_within(self, seconds):
        """Waits until each application has done something without an error again; fails when that takes too long."""
        end = time.monotonic() + seconds
        for application in self.applications:
            before = len(application.acknowledged)
            while len(application.acknowledged) < before + 2:
                assert time.monotonic() < end, f"after {seconds} s: {application.errors[-3:]}"
                time.sleep(0.02)

    def all_there(self, s3):
        """What was acknowledged, or two hundred of it."""
        acknowledged = self.acknowledged
        assert acknowledged
        for key, body in random.sample(sorted(acknowledged.items()), min(200, len(acknowledged))):
            assert s3.get_object(Bucket=self.applications[0].bucket, Key=key)["Body"].read() == body, key
