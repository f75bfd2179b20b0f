"""The pure parts of the HTTP face: events, paths, headers, bodies, errors, metrics text."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimdrum.base.errors import ChatError
from nimdrum.base.parameters import read_parameters
from nimdrum.session.caller import LONGEST_ID, Caller, safe_id
from nimdrum.session.facts import facts
from nimdrum.web.chat import MOST_CHOICES, Defaults, chat_body
from nimdrum.web.metrics import engine_lines, observation, render
from nimdrum.web.pass_through import PathRefused, engine_target, to_caller, to_engine
from nimdrum.web.stream import events

ROOT = Path(__file__).resolve().parents[3]
TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)))


@given(st.lists(TEXT, max_size=5), st.data())
def test_events_do_not_depend_on_how_the_network_cut_them(texts: list[str], data: st.DataObject) -> None:
    """Any text comes back whole, whatever ends the lines and wherever the bytes are cut, characters included."""
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    raw = "".join(f": comment{end}data: {text}{end}id: 5{end}{end}" for text in texts).encode() + b"data: half"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert list(events(pieces)) == texts


def test_an_event_of_several_lines() -> None:
    """As the HTML standard joins them; a field that only begins with "data" is another one."""
    assert list(events([b"data: a\ndata:b\ndatax: c\ndata\n\n\n"])) == ["a\nb\n"]


@pytest.mark.parametrize(
    ("path", "query", "target"),
    [
        ("v1/models", "", "/v1/models"),
        ("v1/models/", "", "/v1/models"),
        ("v1/models/meta/llama-3.1", "a=b%20c&d", "/v1/models/meta/llama-3.1?a=b%20c&d"),
        ("v1/files/a b?c#d", "", None),
        ("v1/é", "", "/v1/%C3%A9"),
        ("v1/models/100%", "", "/v1/models/100%25"),
    ],
)
def test_the_path_reaches_the_engine(path: str, query: str, target: str | None) -> None:
    """Percent-encoded again, without the last slash."""
    if target is None:
        with pytest.raises(PathRefused):
            engine_target(path, query)
    else:
        assert engine_target(path, query) == target


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "..",
        "v1/../admin",
        "./x",
        "v1/./x",
        "v1//x",
        "//evil/x",
        "v1/%2e%2e/x",
        "v1/%252e%252e/x",
        "http://evil/x",
        "v1\\..\\x",
        "v1/x\r\nHost: evil",
        "v1/x y",
        "v1/\x00",
        "v1/%0d%0aX: y",
        "v1/%2f%2fevil",
        "v1/..%2fx",
        "v1/x%5c",
    ],
)
def test_path_tricks_are_refused(path: str) -> None:
    """Everything that the engine, or a proxy before it, could read as another place."""
    with pytest.raises(PathRefused):
        engine_target(path, "")


@pytest.mark.parametrize("query", ["a\r\nX: y", "a b", "é", "#x"])
def test_query_tricks_are_refused(query: str) -> None:
    """The query is passed on as it is, so it must be one."""
    with pytest.raises(PathRefused):
        engine_target("v1/models", query)


@given(st.text(), st.text(st.characters(max_codepoint=255)))
def test_a_target_is_one_line_and_leads_to_one_place(path: str, query: str) -> None:
    """Whatever is asked: printable ASCII, one slash at the start, no part that climbs."""
    try:
        target = engine_target(path, query)
    except PathRefused:
        return
    assert target.isascii()
    assert target.isprintable()
    assert " " not in target
    parts = target.partition("?")[0].split("/")
    assert parts[0] == ""
    assert not {"", ".", ".."} & set(parts[1:])


DROPPED = (
    "Authorization Proxy-Authorization Cookie X-API-Key api_key X-DataRobot-Consumer-Id DataRobot-Key X-Auth-Token "
    "X-DataRobot-Api-Token Host Content-Length Connection X-Custom-Hop Keep-Alive TE Trailer Transfer-Encoding Upgrade "
    "X-Forwarded-For Forwarded Expect Via X-Amz-Security-Token X-JWT X-Auth X-Access-Key X-Client-Cert X-Auth_Key "
    "Ocp-Apim-Subscription-Key My-Subscription-Key Cf-Access-Jwt-Assertion X-SSL-Client-DN X-Remote-User X-Session-Id "
    "X-MS-Client-Principal X-Authn X-Functions-Key X-Authenticated-User X-Client-IP Signature X-CSRF apikey X-Real-IP"
).split()


def test_who_the_caller_is_stays_here() -> None:
    """Credentials, DataRobot's headers, hop-by-hop ones (those named in Connection too) are dropped, the rest passes."""
    kept = [("Content-Type", "application/json"), ("Accept", "text/event-stream"), ("traceparent", "00-1-2-01")]
    kept += [("Idempotency-Key", "7"), ("X-Stainless-Lang", "python"), ("X-Keyboard", "de"), ("X-Author", "me")]
    given = [(name, "secret") for name in DROPPED if name != "Connection"] + [("Connection", "close, X-Custom-Hop")]
    assert to_engine([*given, *kept]) == kept


def test_what_the_engine_says_about_itself_stays_there() -> None:
    """No cookies and no hop-by-hop headers come back; a redirect inside the engine leads through us, others are cut."""
    headers = [("Set-Cookie", "a=b"), ("Transfer-Encoding", "chunked"), ("Server", "nginx"), ("X-Kept", "1")]
    assert to_caller(headers, "http://127.0.0.1:9", "/nim") == [("X-Kept", "1")]
    inside = [("Location", "http://127.0.0.1:9/v1/models?x=1")]
    assert to_caller(inside, "http://127.0.0.1:9", "/p/nim") == [("Location", "/p/nim/v1/models?x=1")]
    assert to_caller([("Location", "/docs")], "http://127.0.0.1:9", "/nim") == [("Location", "/nim/docs")]
    assert to_caller([("Location", "http://elsewhere/")], "http://127.0.0.1:9", "/nim") == []


JSON = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.text(), max_size=2))
ASK = {"messages": [{"role": "user", "content": "hi"}]}


@given(
    st.dictionaries(
        st.text().filter(lambda name: not name.startswith("datarobot_") and name not in ("model", "n")), JSON
    )
)
def test_every_field_goes_through(fields: dict[str, object]) -> None:
    """As it came, whatever it is; DataRobot's own are taken out, and the model is filled in."""
    params = {**fields, "datarobot_association_id": "1", "datarobot_metrics": {}, "datarobot_new": 1}
    assert chat_body(params, "served") == {**fields, "model": "served"}


@pytest.mark.parametrize("n", [129, 1000, 1000.0, "1000", 10**400, float("inf")])
def test_more_choices_than_openai_allows_are_refused(n: object) -> None:
    """One caller would take the whole engine. The bound is that of the runtime parameter of the same name."""
    assert read_parameters(ROOT)["n"].maximum == MOST_CHOICES
    with pytest.raises(ChatError, match="at most 128") as refused:
        chat_body({**ASK, "n": n}, "m")
    assert refused.value.status == 400
    assert (refused.value.error["type"], refused.value.error["param"]) == ("invalid_request_error", "n")


@pytest.mark.parametrize("n", [None, 1, 128, 0, -1, 1.5, True, "two", [1000], {}, float("nan")])
def test_other_values_of_n_are_for_the_engine_to_judge(n: object) -> None:
    """As all other fields are."""
    assert chat_body({**ASK, "n": n}, "m")["n"] is n


@pytest.mark.parametrize("name", [None, "", "datarobot-deployed-llm"])
def test_the_names_that_mean_the_served_model(name: str | None) -> None:
    """DataRobot's clients send one of them."""
    assert chat_body({**ASK, "model": name}, "served")["model"] == "served"
    assert chat_body({**ASK, "model": "other"}, "served")["model"] == "other"


def test_defaults_do_not_leak_unless_asked() -> None:
    """A request reaches the engine as it was sent; with the switch on, only what it leaves out is filled in."""
    defaults = Defaults("Be brief.", {"max_tokens": 64, "temperature": 0.0})
    assert chat_body(ASK, "m") == {**ASK, "model": "m"}
    filled = chat_body(ASK, "m", defaults)
    assert (filled["max_tokens"], filled["temperature"]) == (64, 0.0)
    assert [message["role"] for message in filled["messages"]] == ["system", "user"]
    own = {"messages": [{"role": "developer", "content": "x"}], "max_completion_tokens": 5, "temperature": 1}
    assert chat_body(own, "m", defaults) == {**own, "model": "m"}
    assert chat_body({}, "m", Defaults(None, {"max_tokens": 8})) == {"model": "m", "max_tokens": 8}
    assert chat_body({"messages": 5}, "m", defaults)["messages"] == 5


ASKED = {"logprobs": 2, "tools": [{"a": 1}], "tool_choice": "auto", "extra_body": {"kept": {"a": 1, "b": 2}, "k": 5}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            {},
            {
                **{"logprobs": True, "top_logprobs": 2, "tools": [{"a": 1}], "tool_choice": "auto"},
                **{"kept": {"a": 1, "b": 2}, "k": 5},
            },
            id="all that is left out",
        ),
        pytest.param(
            {"logprobs": False, "tool_choice": "none", "k": 1, "kept": {"b": None, "c": 3}},
            {"logprobs": False, "tool_choice": "none", "k": 1, "kept": {"a": 1, "c": 3}},
            id="half of what belongs together, and what is merged",
        ),
        pytest.param(
            {"tools": [], "top_logprobs": 0, "k": None, "kept": 1},
            {"tools": [], "top_logprobs": 0, "k": 5, "kept": 1},
            id="the other half; null is left out",
        ),
    ],
)
def test_every_field_of_a_request_has_its_default(given: dict[str, object], expected: dict[str, object]) -> None:
    """As rows have them: the caller's word counts, and objects of extra_body are merged with it."""
    assert chat_body({**ASK, **given}, "m", Defaults(None, ASKED)) == {**ASK, "model": "m", **expected}


@pytest.mark.parametrize("given", [None, "", "a b", "a\r\nb", "x" * (LONGEST_ID + 1), "ü", "a;b"])
def test_ids_that_could_break_a_header_or_a_log_line_are_dropped(given: str | None) -> None:
    """And an engine's request then has none from us."""
    assert safe_id(given) is None
    assert Caller(request_id=safe_id(given)).engine_request_id() is None


def test_an_id_used_twice_reaches_the_engine_as_two() -> None:
    """vLLM refuses an id that it already works on, and a client that tries again sends the same."""
    caller = Caller(request_id="abc-1")
    first, second = caller.engine_request_id(), caller.engine_request_id()
    assert first != second
    assert str(first).startswith("abc-1-")


@given(st.text(), st.floats(0, 1e6))
def test_metrics_are_valid_text(label: str, seconds: float) -> None:
    """Prometheus's own parser reads what we write, whatever a model is called."""
    parser = pytest.importorskip("prometheus_client.parser")
    samples = observation("nimdrum_request_seconds", (("route", label),), seconds)
    page = render({**samples, ("nimdrum_engine_up", ()): 1.0})
    families = {family.name: family for family in parser.text_string_to_metric_families(page)}
    assert families["nimdrum_engine_up"].samples[0].value == 1
    counted = {s.name: s.value for s in families["nimdrum_request_seconds"].samples if "le" not in s.labels}
    assert counted["nimdrum_request_seconds_count"] == 1


def test_only_valid_lines_of_the_engine_follow_ours() -> None:
    """A page of an engine cannot make ours invalid, take our names, or end it."""
    page = '# TYPE vllm:x gauge\nvllm:x{a="b"} 1.0 # {id="5"} 1\nnimdrum_engine_up 0\n<html>\nvllm:y abc\n# EOF\nz 5 1700000000\n'
    assert engine_lines(page) == '# TYPE vllm:x gauge\nvllm:x{a="b"} 1.0\nz 5 1700000000\n'


def test_facts_of_each_engine() -> None:
    """NIM tells release and profile, vLLM its version, llama.cpp its build; the longest context comes with the models."""
    nim = {"/v1/version": {"release": "2.0.5"}, "/v1/metadata": {"version": "x", "selectedModelProfileId": "f" * 64}}
    models = {"data": [{"id": "other", "max_model_len": 1}, {"id": "m", "max_model_len": 4096, "root": "meta/llama"}]}
    assert facts({**nim, "/v1/models": models}, "m") == {
        "version": "2.0.5",
        "profile": "f" * 64,
        "max_model_len": 4096,
        "root": "meta/llama",
    }
    assert facts({"/version": {"version": "0.32.0"}}, "m") == {"version": "0.32.0"}
    props = {"build_info": "b1-abc", "default_generation_settings": {"n_ctx": 2048}}
    assert facts({"/props": props, "/v1/models": None}, "m") == {"version": "b1-abc", "max_model_len": 2048}
    assert facts({"/v1/models": [], "/v1/version": "x", "/props": {"default_generation_settings": 5}}, "m") == {}
