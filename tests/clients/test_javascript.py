"""The AWS SDK for JavaScript, version 3."""

import json
import shutil
import subprocess

import files
import install
from files import LARGE, PART
from servers import clean_environment


def test_the_sdk_for_javascript_does_what_applications_do(target, prefix, tmp_path):
    node, folder = install.node_packages()
    shutil.copy(install.HERE / "javascript/client.js", folder)
    wanted = files.write(target, tmp_path / "up", LARGE)
    exports = {name: value for name, value in target.exports.items() if name.startswith("AWS_") and value}
    environment = clean_environment(tmp_path, **exports, AWS_REGION=target.region, NODE_EXTRA_CA_CERTS=target.ca or "")
    command = [node, folder / "client.js", target.bucket, prefix, tmp_path / "up", str(PART)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["head"] == [LARGE, "application/x-claviger-test", {"color": "blue"}]
    assert {said[name] for name in ("large", "copied", "assembled", "presigned")} == {wanted}
    assert said["range"] and said["small"]
    assert said["condition"] == "PreconditionFailed"
    assert said["parts"] == [PART, PART, LARGE - 2 * PART]
    assert (said["aborted"], said["put"], said["missing"]) == ("AbortError", 200, "NoSuchKey")
    assert (said["many"], said["deleted"]) == (list(range(30)), 30)
    assert said["left"] == ["assembled", "by url", "copied", "large", "small"]
    assert files.no_uploads_left(target, prefix)
