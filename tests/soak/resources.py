"""What processes take of the machine."""

import os
import re
from pathlib import Path


def taken(pid):
    """Resident memory in KiB, open descriptors, threads."""
    status = Path(f"/proc/{pid}/status").read_text()
    of = {name: int(re.search(rf"(?m)^{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "Threads")}
    return {"memory_kib": of["VmRSS"], "descriptors": len(os.listdir(f"/proc/{pid}/fd")), "threads": of["Threads"]}
