"""systemd's units, read."""

from conftest import ROOT, must

FOLDER = ROOT / "deploy/systemd"
SERVICES = sorted(path.name for path in FOLDER.glob("*.service"))


def settings(name):
    """The settings of a unit: each name with its values in their order."""
    found = {}
    for line in (FOLDER / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def _sets():
    """The kernel's calls by the names of systemd's sets."""
    sets, name = {}, None
    for line in must("systemd-analyze", "syscall-filter").splitlines():
        word = line.strip()
        if word.startswith("@") and not line.startswith(" "):
            name = word
            sets[name] = []
        elif line.startswith(" ") and name and word and not word.startswith("#"):
            sets[name].append(word)
    return sets


def _expanded(word, sets):
    return set().union(*(_expanded(inner, sets) for inner in sets[word])) if word.startswith("@") else {word}


def allowed_calls(name):
    """The calls that a unit's SystemCallFilter lets through."""
    sets = _sets()
    # Always allowed: without them no process starts or ends.
    allowed = _expanded("@default", sets)
    for value in settings(name)["SystemCallFilter"]:
        words = set().union(*(_expanded(word, sets) for word in value.lstrip("~").split()))
        allowed = allowed - words if value.startswith("~") else allowed | words
    return allowed | _expanded("@default", sets)
