"""The same requests to both servers: status, headers and the shape of the JSON have to be the same."""

import json
import time

import pytest

from conftest import TWO_BAOS
from differences import ADDITIONS, DIFFERENCES
from exchange import TEXTS, reduced
from scenarios import SCENARIOS, filled, sealing

BACK_S = 30
SEEN = set()


def ask(connection, step, saved):
    path = step.path if step.path.startswith("/") else f"/v1/transit/{step.path}"
    body = step.body if isinstance(step.body, bytes) else filled(step.body, saved)
    return connection.request(step.method, path, body, filled(step.headers, saved))


def wants_approval(answer):
    return answer.status == 403 and answer.errors() == ["approval required"]


def done(server, connection, step, saved):
    """The answer to `step`, after the officers' approval where it takes one."""
    answer = ask(connection, step, saved)
    if server.name != "bao":
        assert wants_approval(answer) == step.gated, f"{step.name}: {answer}"
        if step.gated:
            server.approve(answer)
            answer = ask(connection, step, saved)
    for name, place in step.save.items():
        saved[name] = part(answer.body, place)
    if step.opens is not None:
        assert part(answer.body, "data.plaintext") == filled(step.opens, saved), f"{server.name}, {step.name}: {answer}"
    return answer


def part(value, place):
    for name in place.split("."):
        value = value[int(name) if isinstance(value, list) else name]
    return value


def without_additions(body):
    """The custodian's answer without what it says beyond OpenBao."""
    for place in ADDITIONS:
        *path, last = place.split(".")
        inner = body
        for name in path:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner.pop(last, None)
    return body


def compare(where, bao_answer, other_answer):
    """What is wrong with a step, in words; nothing if it is as it should be."""
    SEEN.update(text for text in texts(bao_answer.body) if text in TEXTS)
    theirs, ours = reduced(bao_answer), reduced(other_answer)
    without_additions(ours["body"])
    difference = None if TWO_BAOS else DIFFERENCES.get(where)
    if difference:
        if ours == theirs:
            return "is no difference any more: take it out of differences.py"
        if ours["status"] != difference.status:
            return f"known difference, but not with {ours['status']}: {other_answer.raw[:600]!r}"
        return None
    if ours != theirs:
        show = json.dumps
        return f"\n  bao:   {show(theirs)[:1500]}\n  other: {show(ours)[:1500]}\n  bao says   {bao_answer.raw[:400]!r}\n  other says {other_answer.raw[:400]!r}"
    return None


def texts(body):
    if isinstance(body, dict):
        for name, value in body.items():
            if name == "error":
                yield value
            elif name == "errors" and isinstance(value, list):
                yield from value
            else:
                yield from texts(value)
    elif isinstance(body, list):
        for value in body:
            yield from texts(value)


def run(scenario, bao, custodian, steps, other_steps=None):
    servers = [(bao, bao.connection(), {}), (custodian, custodian.connection(), {})]
    wrong = []
    for step, other in zip(steps, other_steps or steps):
        answers = [done(server, connection, own, saved) for (server, connection, saved), own in zip(servers, (step, other))]
        problem = compare((scenario, step.name), *answers)
        if problem:
            wrong.append(f"{scenario} / {step.name}: {problem}")
    assert not wrong, f"{len(wrong)} of {len(steps)} steps differ\n" + "\n".join(wrong)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_same_answers(scenario, bao, custodian):
    run(scenario, bao, custodian, SCENARIOS[scenario])


def test_same_answers_when_sealed(bao, custodian):
    run("sealing", bao, custodian, sealing(bao.shares), sealing(custodian.shares))
    for server in (bao, custodian):
        end = time.monotonic() + BACK_S
        while server.anonymous.request("GET", "/v1/sys/health").status != 200:
            assert time.monotonic() < end, f"{server.name} does not come back"
            time.sleep(0.1)
        created = server.connection().request("POST", "/v1/transit/keys/after-seal")
        assert created.status == 200, created


def test_every_text_and_difference_was_met():
    """The tables are no longer than they have to be. It runs last, and says something only when all of the above ran."""
    assert TEXTS - SEEN == set()
    steps = {(scenario, step.name) for scenario, steps in SCENARIOS.items() for step in steps}
    steps |= {("sealing", step.name) for step in sealing("abc")}
    assert set(DIFFERENCES) - steps == set()


def test_steps_have_names_of_their_own():
    for scenario, steps in [*SCENARIOS.items(), ("sealing", sealing("abc"))]:
        names = [step.name for step in steps]
        twice = {name for name in names if names.count(name) > 1 and not name.startswith("create ")}
        assert not twice, (scenario, twice)
