"""DataRobot's moderation library around the hooks: rows that it blocks never reach `score`, the others keep their place.

With the package datarobot-moderations where it is installed, and always with a stand-in that treats the hooks as the
package does: it filters rows and leaves gaps in the index, and it needs the answer under the target's name.
"""

import importlib.util
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from drum_process import drum_server
from edge_world import READY_SEC, REPOSITORY, World

pytestmark = pytest.mark.drum

BLOCKED = "This prompt is blocked."
CONFIG = """\
timeout_sec: 30
timeout_action: score
guards:
  - name: Jailbreak
    type: ootb
    ootb_type: nim_jailbreak
    stage: prompt
    nim_endpoint: {url}
    intervention:
      action: block
      message: {message}
      conditions:
        - comparator: greaterThan
          comparand: 0.5
"""
TOKENISER = """\
class get_encoding:  # the real one downloads its vocabulary
    def __init__(self, name): pass
    def encode(self, text, **kwargs): return text.split()
encoding_for_model = get_encoding
"""
STAND_IN = """
import os
from inspect import signature

from openai.types.chat import ChatCompletion


def moderation_pipeline_factory(target_type, model_dir):
    os.environ["PROMPT_COLUMN_NAME"], os.environ["RESPONSE_COLUMN_NAME"] = "promptText", "resultText"
    return Pipeline()


class Pipeline:
    def score(self, data, model, score, **kwargs):
        blocked = data["promptText"].str.contains("evil")
        filtered = data[~blocked]
        predictions = score(filtered, model, **kwargs)
        if "resultText" not in predictions.columns:
            raise Exception("Response column is missing")
        predictions.index = filtered.index
        result = predictions.reindex(data.index)
        result.loc[blocked, "resultText"] = "This prompt is blocked."
        result["blocked_promptText"] = blocked
        return result

    def chat(self, params, model, chat, association_id=None, **kwargs):
        params.pop("datarobot_association_id", None)
        if "evil" in params["messages"][-1]["content"]:
            message = {"role": "assistant", "content": "This prompt is blocked."}
            choice = {"index": 0, "message": message, "finish_reason": "content_filter"}
            return ChatCompletion.construct(
                id="1", object="chat.completion", created=1, model="m", choices=[choice]
            )
        return chat(params, model, **kwargs) if len(signature(chat).parameters) > 2 else chat(params, model)
"""


@pytest.fixture
def guard() -> Iterator[str]:
    """A stand-in for NVIDIA's jailbreak detector, which the package asks: prompts with "evil" are caught."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps({"jailbreak": "evil" in asked["input"], "score": 0.9}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    with server:
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(params=["the package", "a stand-in"])
def code_dir(request: pytest.FixtureRequest, world: World, guard: str) -> Path:
    """The hooks with a moderation config beside them, as a user would upload them."""
    if request.param == "a stand-in":
        package = world.folder / "packages" / "datarobot_dome"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "drum_integration.py").write_text(STAND_IN)
    elif importlib.util.find_spec("datarobot_dome") is None:
        pytest.skip("datarobot-moderations is not installed")
    else:
        (world.folder / "packages").mkdir()
        (world.folder / "packages" / "tiktoken.py").write_text(TOKENISER)
    world.environ["PYTHONPATH"] = str(world.folder / "packages")
    folder = world.folder / "moderated"
    folder.mkdir()
    for name in ("custom.py", "custom_flask.py", "model-metadata.yaml"):
        shutil.copy(REPOSITORY / name, folder)
    (folder / "nimdrum").symlink_to(REPOSITORY / "nimdrum")
    (folder / "moderation_config.yaml").write_text(CONFIG.format(url=guard, message=BLOCKED))
    return folder


def test_blocked_rows_and_chats(world: World, code_dir: Path) -> None:
    """A blocked row has the message, its neighbours their own answers; a blocked chat is a content_filter."""
    world.fake(line="2.x", record_requests=True)
    with drum_server(world, worker_class="sync", code_dir=code_dir) as drum:
        drum.wait_health(200)
        rows = "promptText\nfirst\nevil one\nthird\nevil two\nfifth\n"
        scored = requests.post(f"{drum.url}/predict/", files={"X": ("rows.csv", rows)}, timeout=READY_SEC).json()
        assert scored["predictions"] == ["echo: first", BLOCKED, "echo: third", BLOCKED, "echo: fifth"]
        extra = scored["extraModelOutput"]
        table = [dict(zip(extra["columns"], row, strict=True)) for row in extra["data"]]
        assert [row["blocked_promptText"] for row in table] == [False, True, False, True, False]
        assert [row["finish_reason"] for row in table][::2] == ["stop"] * 3
        assert {request["body"]["messages"][-1]["content"] for request in world.requests()} == {
            "first",
            "third",
            "fifth",
        }

        def chat(prompt: str, **fields: Any) -> requests.Response:
            body = {"messages": [{"role": "user", "content": prompt}], **fields}
            return requests.post(f"{drum.url}/v1/chat/completions", json=body, timeout=READY_SEC)

        good, bad = chat("hello").json(), chat("evil thing", datarobot_association_id="7").json()
        assert good["choices"][0]["message"]["content"] == "echo: hello"
        assert bad["choices"][0]["finish_reason"] == "content_filter"
        assert "evil" not in json.dumps(world.requests())
        stream = chat("hello again", stream=True)
        events = [json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith("data: {")]
        text = "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
        assert text == "echo: hello again"
        assert chat("hello", model="another").status_code == 404
