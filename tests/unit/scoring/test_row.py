"""`RowSender`: the life of one row, against a client that answers from a list and a clock that only waiting moves."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.base.errors import EngineStartError, EngineUnavailableError, SupervisorError
from nimdrum.scoring.answer import Completion, RowFailure
from nimdrum.scoring.frame import assemble
from nimdrum.scoring.request import Own, Sampling
from nimdrum.scoring.retry import FIRST_DELAY_SEC, MOST_BROKEN, MOST_REFUSED
from nimdrum.scoring.row import RowSender
from nimdrum.session.attach import Endpoint
from nimdrum.session.client import Reply, TooSlow, Unreachable

HERE = Endpoint("127.0.0.1", 9999, "llama")
ELSEWHERE = Endpoint("127.0.0.1", 9998, "llama-again")
CLIENT_TIMEOUT_SEC = 3600.0

Step = Reply | Exception


def said(*texts: str, tokens: int | None = 7) -> Reply:
    """A completion with these choices; `tokens` None leaves usage out."""
    body: dict[str, Any] = {"choices": [{"message": {"content": text}, "finish_reason": "stop"} for text in texts]}
    if tokens is not None:
        body["usage"] = {"prompt_tokens": 11, "completion_tokens": tokens}
    return Reply(200, {}, json.dumps(body).encode())


def refused(status: int, message: str = "no", **headers: str) -> Reply:
    body = json.dumps({"error": {"message": message}}).encode()
    return Reply(status, {name.replace("_", "-").lower(): value for name, value in headers.items()}, body)


N_REFUSED = refused(400, "n must be 1 when using greedy sampling, got 3.")
DEAD = refused(500, "Engine loop is not running.")


@dataclass
class World:
    """An engine that answers from a list, and the time; the history is what tests assert on."""

    script: list[Step]
    now: float = 0.0
    at: Endpoint | None = HERE
    ready: list[Endpoint | Exception] = field(default_factory=list)
    """What waiting for the engine gives, one after another; without any, the same endpoint as before."""
    models: tuple[str, ...] = ()
    """What /v1/models lists; nothing where the engine does not say."""
    sent: list[dict[str, Any]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    ready_waits: list[float] = field(default_factory=list)
    took_sec: float = 0.0
    """How long each request takes."""

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def send(self, endpoint: Endpoint, body: bytes, timeout_sec: float) -> Reply:
        self.sent.append(json.loads(body))
        self.ports.append(endpoint.port)
        self.timeouts.append(timeout_sec)
        self.now += self.took_sec
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        return step

    def find(self, timeout_sec: float) -> Endpoint:
        if self.at is None:
            self.ready_waits.append(timeout_sec)
            found = self.ready.pop(0) if self.ready else HERE
            if isinstance(found, Exception):
                raise found
            self.at = found
        return self.at

    def lost(self, endpoint: Endpoint) -> None:
        self.at = None

    def listed(self, endpoint: Endpoint, model: str) -> Collection[str]:
        return self.models

    def note(self, answer: object) -> None:
        pass

    def sender(self, chance: Callable[[], float] = lambda: 0.0, **changes: Any) -> RowSender:
        n = changes.pop("n", 1)
        sampling = Sampling("llama", None, n, {"max_tokens": 64, **changes})
        return RowSender(self, sampling, CLIENT_TIMEOUT_SEC, chance=chance, clock=self.clock)


def world(*script: Step, **fields: Any) -> World:
    """The last answer of the script is repeated for ever."""
    return World(list(script), **fields)


def test_a_row_that_ran_out_of_time_says_what_it_met() -> None:
    """Its place in the window came back too late: the reason is what the engine had said, and not the wait."""
    w = world(refused(503, "overloaded"))
    original = w.wait
    w.wait = lambda seconds: original(seconds + 100)  # type: ignore[method-assign]
    result = w.sender().send("prompt", 50)
    assert isinstance(result, RowFailure)
    assert str(result) == "timed_out: no time was left when its turn came again, after engine_error: overloaded"
    assert (result.status, result.attempts) == (504, 1)


def test_an_answer_at_once() -> None:
    """One request, no wait, and the time that is left as its limit."""
    w = world(said("Paris."))
    assert w.sender().send("Capital?", deadline=100) == Completion(("Paris.",), "stop", 11, 7)
    assert [body["messages"][0]["content"] for body in w.sent] == ["Capital?"]
    assert (w.timeouts, w.waits, w.ready_waits) == ([100], [], [])


def test_a_request_has_its_own_limit_too() -> None:
    """DRUM_OPENAI_CLIENT_TIMEOUT, when the row has more time than that."""
    w = world(said("x"))
    w.sender().send("Hi", deadline=float("inf"))
    assert w.timeouts == [CLIENT_TIMEOUT_SEC]


@pytest.mark.parametrize(
    "first",
    [refused(s) for s in (408, 429, 500, 502, 503, 504)] + [Reply(200, {}, b"half a"), Unreachable("reset")],
    ids=["408", "429", "500", "502", "503", "504", "broken 200", "reset"],
)
def test_what_may_pass_is_sent_again(first: Step) -> None:
    """The same request after the first delay, and the answer of the second try is the row's."""
    w = world(first, said("Paris."))
    assert w.sender().send("Capital?", deadline=100) == Completion(("Paris.",), "stop", 11, 7)
    assert w.sent[0] == w.sent[1]
    assert w.waits == [FIRST_DELAY_SEC / 2]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422])
def test_what_will_not_pass_is_not_sent_again(status: int) -> None:
    """One request, and the engine's own words."""
    w = world(refused(status, "no way"))
    result = w.sender().send("Hi", deadline=100)
    assert isinstance(result, RowFailure)
    assert result.status == status
    assert result.message.endswith("no way")
    assert (len(w.sent), w.waits) == (1, [])


def test_a_row_that_is_refused_again_and_again_is_given_up() -> None:
    """After a fixed number of tries, with the last answer as its error."""
    w = world(refused(503, "loading"))
    result = w.sender().send("Hi", deadline=1e6)
    assert result == RowFailure("engine_error", "loading", 502)
    assert (len(w.sent), len(w.waits)) == (MOST_REFUSED + 1, MOST_REFUSED)
    assert w.waits == sorted(w.waits)
    assert w.ready_waits == []


@pytest.mark.parametrize("lost", [Unreachable("refused"), DEAD], ids=["unreachable", "dead"])
def test_a_lost_engine_is_waited_for(lost: Step) -> None:
    """Each time until it is ready again, with the time that is left; after a fixed number of times it is given up."""
    w = world(lost)
    result = w.sender().send("Hi", deadline=1e6)
    assert isinstance(result, RowFailure)
    assert (len(w.sent), len(w.ready_waits)) == (MOST_BROKEN + 1, MOST_BROKEN)
    assert w.ready_waits[0] == 1e6 - w.waits[0]


def test_the_row_follows_the_engine_to_its_new_port() -> None:
    """A restarted engine may have moved, and serve under another name."""
    w = world(Unreachable("reset"), said("Paris."), ready=[ELSEWHERE])
    sender = w.sender()
    assert isinstance(sender.send("Capital?", deadline=100), Completion)
    assert w.ports == [9999, 9998]
    assert [body["model"] for body in w.sent] == ["llama", "llama-again"]
    sender.send("Next?", deadline=100)
    assert w.ports[-1] == 9998


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(EngineStartError("the cause Its last log lines:\n  | internals"), 513, id="given up"),
        pytest.param(EngineUnavailableError("the cause"), 503, id="not there now"),
        pytest.param(SupervisorError("the cause"), 503, id="no supervisor"),
    ],
)
def test_an_engine_that_does_not_come_back_fails_the_row(error: Exception, status: int) -> None:
    """With the supervisor's words but none of the engine's log, as the engine's fault."""
    w = world(Unreachable("reset"), ready=[error])
    assert w.sender().send("Hi", deadline=100) == RowFailure("engine_down", "the cause", status)
    assert len(w.sent) == 1


def test_a_conversation_nested_too_deeply_costs_its_row() -> None:
    """What one cell of the input holds must not end the whole batch."""
    content: list[Any] = []
    for _ in range(100_000):
        content = [content]
    w = world(said("x"))
    result = w.sender().send("", deadline=100, own=Own(messages=({"role": "user", "content": content},)))
    assert result == RowFailure("bad_row", "messages or extra_body is nested too deeply", 400)
    assert w.sent == []


def test_a_slow_answer_is_not_asked_for_again() -> None:
    """The engine still works on it: a second request would only add to its load."""
    w = world(TooSlow("no answer within 100 s"))
    assert w.sender().send("Hi", deadline=100) == RowFailure("timed_out", "no answer within 100 s", 504)
    assert len(w.sent) == 1


@pytest.mark.parametrize("deadline", [0.0, -5.0])
def test_a_row_whose_time_is_over_is_not_sent(deadline: float) -> None:
    """Nobody waits for it any more."""
    w = world(said("x"))
    result = w.sender().send("Hi", deadline=deadline)
    assert isinstance(result, RowFailure)
    assert (result.kind, result.status) == ("timed_out", 504)
    assert w.sent == []


def test_retry_after_is_obeyed() -> None:
    """At least as long as the engine asked for."""
    w = world(refused(429, "slow down", Retry_After="7"), said("x"))
    assert isinstance(w.sender().send("Hi", deadline=100), Completion)
    assert w.waits == [7]


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    """The row fails at once with what the engine said."""
    w = world(refused(429, "slow down", Retry_After="100"), said("x"))
    result = w.sender().send("Hi", deadline=100)
    assert isinstance(result, RowFailure)
    assert (result.kind, result.message) == ("rate_limited", "slow down")
    assert w.waits == []


def test_there_is_no_storm_of_retries() -> None:
    """An engine that refuses everything: the first row uses all its tries, the others one each, until one is answered."""
    w = world(refused(503, "loading"))
    sender = w.sender()
    for _ in range(50):
        assert isinstance(sender.send("Hi", deadline=1e6), RowFailure)
    assert len(w.sent) == MOST_REFUSED + 1 + 49
    w.script = [said("Paris.")]
    assert isinstance(sender.send("Capital?", deadline=1e6), Completion)
    w.script = [refused(503, "loading"), said("Paris.")]
    assert isinstance(sender.send("Capital?", deadline=1e6), Completion)


def test_a_row_tells_its_tries_and_its_time() -> None:
    """Waiting between the tries included; also when it failed."""
    w = world(refused(503), said("x"), took_sec=2.0)
    result = w.sender().send("Hi", deadline=100)
    assert (result.attempts, result.latency_sec) == (2, 4.0 + FIRST_DELAY_SEC / 2)
    w.script = [refused(404)]
    failure = w.sender().send("Hi", deadline=100)
    assert (failure.attempts, failure.latency_sec) == (1, 2.0)


def test_chance_spreads_the_tries() -> None:
    """Rows that failed together do not come back together."""
    w = world(refused(503), said("x"))
    w.sender(chance=lambda: 0.5).send("Hi", deadline=100)
    assert w.waits == [FIRST_DELAY_SEC * 0.75]


# --- n choices ---


def counts(w: World) -> list[int]:
    """The n of each request."""
    return [body.get("n", 1) for body in w.sent]


def test_n_choices_in_one_request() -> None:
    """Where the engine can."""
    w = world(said("a", "b", "c"))
    result = w.sender(n=3, temperature=0.7).send("Hi", deadline=100)
    assert result == Completion(("a", "b", "c"), "stop", 11, 7)
    assert counts(w) == [3]


@pytest.mark.parametrize("status", [400, 422])
def test_n_refused_at_temperature_zero_is_asked_once(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """All choices would be the same; later rows do not ask with n again, and it is said once."""
    w = world(refused(status, "n must be 1"), said("a"))
    sender = w.sender(n=3, temperature=0)
    assert sender.send("one", deadline=100) == Completion(("a",), "stop", 11, 7)
    assert sender.send("two", deadline=100) == Completion(("a",), "stop", 11, 7)
    assert counts(w) == [3, 1, 1]
    assert len([m for m in caplog.messages if m.startswith("score.n_refused n=3")]) == 1


def test_n_refused_otherwise_is_asked_one_by_one() -> None:
    """The choices differ; tokens of the answers add up, the prompt's count once."""
    w = world(N_REFUSED, said("a", tokens=1), said("b", tokens=2), said("c", tokens=4))
    sender = w.sender(n=3, temperature=0.7)
    assert sender.send("Hi", deadline=100) == Completion(("a", "b", "c"), "stop", 11, 7)
    assert counts(w) == [3, 1, 1, 1]
    sender.send("next", deadline=100)
    assert counts(w)[4:] == [1, 1, 1]


@pytest.mark.parametrize("temperature", [0, 0.7], ids=["greedy", "not greedy"])
def test_tokens_that_were_not_told_stay_untold(temperature: float) -> None:
    """None and not 0, also where choices were asked for one by one."""
    w = world(N_REFUSED, said("a", tokens=None))
    result = w.sender(n=3, temperature=temperature).send("Hi", deadline=100)
    assert isinstance(result, Completion)
    assert (result.prompt_tokens, result.completion_tokens) == (None, None)


def test_choices_that_are_asked_for_alone_have_seeds_of_their_own() -> None:
    """With the same one they would be the same; vLLM counts on too. A row without a seed has none."""
    w = world(N_REFUSED, said("a"), said("b"), said("c"))
    result = w.sender(n=3, temperature=0.7, seed=5).send("Hi", deadline=100)
    assert result.attempts == 4
    assert [body["seed"] for body in w.sent] == [5, 5, 6, 7]
    w.sender(n=3, temperature=0.7).send("Hi", deadline=100)
    assert "seed" not in w.sent[-1]


@pytest.mark.parametrize(
    ("listed", "asked"),
    [
        pytest.param(("llama", "legal"), "legal", id="an adapter"),
        pytest.param((), "legal", id="the engine does not say which it has"),
        pytest.param(("other",), "llama", id="the served model, which needs no list"),
    ],
)
def test_a_row_names_its_model(listed: tuple[str, ...], asked: str) -> None:
    """One of those that are there; where nobody knows, the engine is the judge."""
    w = world(said("a"), models=listed)
    assert isinstance(w.sender().send("Hi", 100, Own(model=asked)), Completion)
    assert [body["model"] for body in w.sent] == [asked]


def test_a_model_that_is_not_there_is_an_error_of_its_row() -> None:
    """It names those that are, and nothing is sent: some engines would answer with the model that they have."""
    w = world(said("a"), models=("llama", "legal"))
    failure = w.sender().send("Hi", 100, Own(model="medical"))
    message = "the engine has no model 'medical'; there are: llama, legal"
    assert failure == RowFailure("unknown_model", message, 404)
    assert w.sent == []


def test_a_request_that_is_too_large_tells_its_size() -> None:
    """NIM's own proxy takes 1 MiB, which a picture soon has."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * (3 << 20)}}
    own = Own(messages=({"role": "user", "content": [picture]},))
    failure = world(refused(413, "Request Entity Too Large")).sender().send("", 100, own)
    assert str(failure).startswith("too_large: the request has 3.0 MB, more than")


def test_fields_of_a_row_reach_its_request() -> None:
    """In the place of those that all rows have; what is nested without end costs its row."""
    w = world(said("a"))
    own = Own(fields={"max_tokens": None, "stop": ["END"], "extra_body": {"top_k": None, "kept": {"b": 2}}})
    w.sender(seed=1, extra_body={"top_k": 5, "kept": {"a": 1}}).send("Hi", 100, own)
    (body,) = w.sent
    assert {name: value for name, value in body.items() if name not in ("model", "messages")} == {
        **{"seed": 1, "stop": ["END"], "kept": {"a": 1, "b": 2}}
    }
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    failure = w.sender(extra_body={"a": 1}).send("Hi", 100, Own(fields={"extra_body": deep}))
    assert isinstance(failure, RowFailure)
    assert failure.kind == "bad_row"


def test_fewer_choices_than_asked_for_are_made_up_for() -> None:
    """Some engines take n and answer with one choice (NIM 1.3.3): the others are asked for one by one."""
    w = world(said("a"), said("b"), said("c"))
    result = w.sender(n=3, temperature=0.7).send("Hi", deadline=100)
    assert isinstance(result, Completion)
    assert result.texts == ("a", "b", "c")


def test_a_bad_row_is_not_blamed_on_n() -> None:
    """It is refused without n too: its own error is reported, and later rows still ask with n."""
    w = world(refused(400, "too long"), refused(400, "too long"), said("a", "b", "c"))
    sender = w.sender(n=3, temperature=0.7)
    assert sender.send("Hi", deadline=100) == RowFailure("refused", "too long", 400)
    assert isinstance(sender.send("next", deadline=100), Completion)
    assert counts(w) == [3, 1, 3]


def test_other_failures_are_not_blamed_on_n() -> None:
    """A refusal that is none of a bad request is the row's."""
    w = world(refused(404, "no such model"))
    assert w.sender(n=3).send("Hi", deadline=100) == RowFailure("refused", "no such model", 404)
    assert counts(w) == [3]


def test_a_choice_that_fails_does_not_cost_the_others() -> None:
    """The row has the choices that were answered, and an error that says how many those are."""
    w = world(N_REFUSED, said("a", tokens=1), said("b", tokens=2), refused(404, "gone"))
    result = w.sender(n=3, temperature=0.7).send("Hi", deadline=100)
    expected = "refused: 2 of 3 choices are there; gone"
    assert result == Completion(("a", "b"), "stop", 11, 3, incomplete=expected)
    frame = assemble([result], "resultText", 3, True)
    assert frame[["resultText", "choice_2", "choice_3", "row_error"]].to_numpy().tolist() == [["a", "b", "", expected]]


STEPS = st.one_of(
    st.sampled_from([said("a"), said("a", "b"), N_REFUSED, DEAD, Unreachable("reset"), TooSlow("slow")]),
    st.sampled_from([408, 404, 413, 429, 500, 503]).map(refused),
    st.floats(0, 60).map(lambda seconds: refused(429, Retry_After=str(seconds))),
    st.binary(max_size=20).map(lambda body: Reply(200, {}, body)),
)


@settings(max_examples=200)
@given(
    st.lists(STEPS, min_size=1, max_size=30),
    st.lists(
        st.sampled_from([HERE, ELSEWHERE, EngineUnavailableError("later"), EngineStartError("never")]), max_size=5
    ),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([None, 0, 0.7]),
    st.floats(0, 300),
    st.floats(0, 5),
)
def test_every_row_ends(
    script: list[Step], ready: list[Any], n: int, temperature: float | None, deadline: float, took_sec: float
) -> None:
    """Whatever the engine does: an answer or a failure, never an exception, and no wait beyond the deadline."""
    w = world(*script, ready=ready, took_sec=took_sec)
    result = w.sender(n=n, temperature=temperature).send("Hi", deadline)
    assert isinstance(result, Completion | RowFailure)
    assert len(w.sent) <= (n + 2) * (MOST_BROKEN + MOST_REFUSED + 2)
    assert all(timeout > 0 for timeout in w.timeouts)
    assert w.now <= deadline + took_sec


@pytest.mark.parametrize(
    ("pids", "suspected"),
    [((7, 7, 7), [False] * 4), ((7, 8, 9), [False, False, True, True]), ((None,) * 3, [False, False, True, True])],
    ids=["one death", "three deaths", "no life is known"],
)
def test_a_row_is_suspected_after_two_deaths_of_the_engine(pids: tuple[int | None, ...], suspected: list[bool]) -> None:
    """And not after two broken connections in one: an engine of several processes takes seconds to end."""
    w = world(*[Unreachable("it hung up")] * len(pids), said("x"))
    w.at = replace(HERE, pid=pids[0])
    w.ready = [replace(HERE, pid=pid) for pid in (*pids[1:], pids[-1])]
    sender, seen = w.sender(), []
    original = w.send

    def send(endpoint: Endpoint, body: bytes, timeout_sec: float) -> Reply:
        seen.append(sender._suspect_is_out)
        return original(endpoint, body, timeout_sec)

    w.send = send  # type: ignore[method-assign]
    assert isinstance(sender.send("Hi", deadline=1e6), Completion)
    assert seen == suspected
