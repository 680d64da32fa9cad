"""The comparison itself: what differs, what explains it, and what no longer explains anything."""

import pytest
import report
import results

TESTS = {
    "a::same": ("passed", "passed"),
    "a::plain": ("passed", "http"),
    "a::etag": ("passed", "failed"),
    "b::lost": ("passed", "skipped"),
    "b::won": ("failed", "passed"),
    "b::never": ("failed", "failed"),
    "b::new": ("passed", "not-run"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "HERE", tmp_path)
    monkeypatch.setattr(report, "DOCUMENT", tmp_path / "document.md")
    results.store(results.Results("ceph", "Ceph 1; suite 2", TESTS))
    return tmp_path


def _reasons(here, text):
    (here / "reasons.txt").write_text(text, encoding="utf-8")
    return results.reasons()


def test_results_are_read_as_they_were_stored(here):
    read = results.load("ceph")
    assert read == results.Results("ceph", "Ceph 1; suite 2", TESTS)
    assert (read.differing(), read.plain(), read.gained()) == (["a::etag", "b::lost"], ["a::plain"], ["b::won"])
    assert results.load("garage") is None
    (here / "results/garage.txt").write_text("# Garage\npassed perhaps a::same\n", encoding="utf-8")
    with pytest.raises(results.Mistake, match="garage.txt:2"):
        results.load("garage")


def test_reasons_explain_what_they_name_on_the_server_they_name(here):
    known = _reasons(here, "# why\n\n[aside] MD5.\n    a::e*\n[open] Lost.\n    garage: b::lost\n")
    explained, left = results.explain(results.load("ceph"), known)
    assert (explained, left) == ({3: ["a::etag"]}, ["b::lost"])


def test_a_reason_for_nothing_is_a_mistake(here):
    for gone in ("a::same", "a::plain", "garage: a::etag"):
        _reasons(here, f"[open] Gone.\n    a::etag\n    {gone}\n")
        with pytest.raises(results.Mistake, match="reasons.txt:1"):
            report.render(write=True)


@pytest.mark.parametrize("text", ["    a::etag\n", "[whim] So.\n    a::etag\n", "[open]\n    a::etag\n", "open: a::etag\n"])
def test_other_forms_are_mistakes(here, text):
    with pytest.raises(results.Mistake, match="reasons.txt:1"):
        _reasons(here, text)


def test_the_document_says_it_all_and_is_noticed_when_it_is_old(here):
    _reasons(here, "[aside] MD5.\n    a::etag\n")
    assert not report.render(write=False)
    assert report.render(write=True) and report.render(write=False)
    text = report.DOCUMENT.read_text(encoding="utf-8")
    assert "| Ceph 1 | 7 | 5 | 1 | 1 | 40.0 % | 50.0 % | 1 |" in text
    assert "| `a::etag` | set aside by name: MD5. |" in text and "| `b::lost` | no reason is known |" in text
    assert "Only through the proxy: `b::won`." in text and "over HTTP and not over TLS: `a::plain`." in text
    results.store(results.Results("ceph", "Ceph 1; suite 2", {**TESTS, "b::lost": ("passed", "passed")}))
    assert not report.render(write=False)
