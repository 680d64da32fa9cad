"""What every part needs: processes, tools, identities, and the one kind of error that is told without a trace."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# The interop tests start servers the same way.
sys.path.append(str(Path(__file__).parents[1] / "interop"))

from servers import Process, clean_environment, free_ports, program, tool  # noqa: E402, F401


class Problem(Exception):
    """Something that the person who started the run can set right."""


@dataclass
class Identity:
    """Somebody known to a storage server, or to the proxy."""

    name: str
    access_key: str
    secret_key: str

    @property
    def email(self):
        return f"{self.name}@example.org"


def must(command, env=None, timeout=120):
    """Runs a command that has to succeed; gives what it printed."""
    try:
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Problem(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        shown = " ".join(str(part) for part in command)
        raise Problem(f"{shown}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
