"""What test_guide.py runs in a network namespace of its own: the first steps of the operator's guide, word for word.

Its argument is a folder for files. Only where the deployment's folder, the storage server and its secret are differs from the text.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import namespace
import servers

GUIDE = Path(__file__).parents[2] / "docs/OPERATING.md"
NAMES = ("custodian.example.org", "s3.example.org")
# A server is started in the background, and its port waited for; what it shows is shown at the end.
SERVER = re.compile(r"^claviger (custodian|proxy) --config \S+$")
PORTS = {"custodian": 8200, "proxy": 8443}


def commands():
    """The lines of the first steps' blocks."""
    steps = re.search(r"(?ms)^## First steps$(.*?)^## ", GUIDE.read_text())[1]
    lines = [line for block in re.findall(r"(?ms)^```sh\n(.*?)^```$", steps) for line in block.splitlines()]
    assert sum(bool(SERVER.match(line)) for line in lines) == 2 and len(lines) > 20, lines
    return lines


def script(lines):
    """One shell for all, as an operator has it; it ends at the first command that fails."""
    yield "set -eu -o pipefail; trap 'kill $(jobs -p)' EXIT"
    for line in lines:
        yield f"printf '+ %s\\n' {shlex.quote(line)}"
        server = SERVER.match(line)
        if not server:
            yield line
            continue
        yield f"{line} > {server[1]}.log 2>&1 &"
        yield f"for _ in $(seq 300); do (: < /dev/tcp/127.0.0.1/{PORTS[server[1]]}) 2> /dev/null && break; sleep 0.1; done"
        if server[1] == "proxy":
            yield "for _ in $(seq 300); do grep -q 'the proxy serves' proxy.log && break; sleep 0.1; done"


def main(folder):
    namespace.lead(folder, NAMES)
    weed = namespace.storage(folder)
    try:
        (folder / "storage.key").write_text(weed.secret_key)
        program = servers.program()
        (folder / "bin").mkdir()
        (folder / "bin/claviger").symlink_to(program)
        text = "\n".join(script(commands()))
        for theirs, ours in (("/etc/claviger", str(folder / "claviger")), ("https://s3.virginia.example.org", weed.url),
                             ("/run/secrets/storage.key", str(folder / "storage.key"))):
            assert theirs in text, theirs
            text = text.replace(theirs, ours)
        # "Put its name into proxy.toml": the one step that is not a command.
        text = text.replace("claviger check --config proxy.toml", f"sed -i 's/^access_key = \"claviger\"/access_key = \"{weed.access_key}\"/' proxy.toml\n"
                            "claviger check --config proxy.toml")
        path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = servers.clean_environment(folder, PATH=path, NO_PROXY="*")
        done = subprocess.run(["bash", "-c", text], cwd=folder, env=environment, stdin=subprocess.DEVNULL, check=False, timeout=240)
        logs = {name: (folder / f"claviger/{name}.log") for name in PORTS}
        assert done.returncode == 0, "\n".join(log.read_text()[-3000:] for log in logs.values() if log.exists())
    finally:
        weed.stop()
    print("every command of the first steps was run")


if __name__ == "__main__":
    main(Path(os.path.abspath(sys.argv[1])))
