"""A search for a text in every file of a folder, in the encodings in which it might hide."""

import base64
import mmap


def encodings(text):
    """`text` as bytes, as UTF-16, as hex, and as base64 at each of the three alignments, in either alphabet."""
    raw = text.encode()
    found = {raw, text.encode("utf-16-le"), text.encode("utf-16-be"), raw.hex().encode(), raw.hex().upper().encode()}
    for lead in range(3):
        encoded = base64.b64encode(bytes(lead) + raw)
        # Only the characters that depend on the text alone.
        first = -(-lead * 8 // 6)
        last = (lead + len(raw)) * 8 // 6
        found |= {encoded[first:last], encoded[first:last].replace(b"+", b"-").replace(b"/", b"_")}
    return found


def places_of(folder, *texts):
    """`(text, file)` for each text and each file under `folder` that holds it in any encoding."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    assert files, f"{folder} holds no files: nothing to search"
    found = []
    for path in files:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found += [(text, path) for text in texts if any(content.find(form) >= 0 for form in encodings(text))]
    return found
