"""A server that costs nothing to wait for: nginx with a canned completion, on a private configuration on loopback.

Needs Debian's nginx (`apt-get install nginx-light`). Nothing outside a temporary folder is touched.
"""

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import wait_healthy

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "canned",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "A canned answer of a few words, as long as a sentence is."},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 20, "completion_tokens": 14, "total_tokens": 34},
}
CONFIG = """
worker_processes 1; daemon off; master_process off; pid FOLDER/pid; error_log FOLDER/error.log;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 75s; default_type application/json;
  client_body_buffer_size 64k; client_max_body_size 64m; client_body_temp_path FOLDER/b; proxy_temp_path FOLDER/p;
  fastcgi_temp_path FOLDER/f; uwsgi_temp_path FOLDER/u; scgi_temp_path FOLDER/s;
  server {
    listen 127.0.0.1:PORT backlog=4096;
    location /v1/chat/completions { return 200 'ANSWER'; }
    location /v1/models { return 200 '{"object":"list","data":[{"id":"canned","object":"model"}]}'; }
    location /v1/health/ready { return 200 '{}'; }
    location / { return 404; }
  }
}
"""


@contextlib.contextmanager
def zero_server() -> Iterator[int]:
    """Its port."""
    from fake_nim.run import free_port

    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if nginx is None:
        raise SystemExit("nginx is not installed: apt-get install nginx-light")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        text = CONFIG.replace("FOLDER", folder).replace("PORT", str(port)).replace("ANSWER", json.dumps(ANSWER))
        (Path(folder) / "nginx.conf").write_text(text)
        process = subprocess.Popen([nginx, "-c", f"{folder}/nginx.conf", "-p", folder], stderr=subprocess.DEVNULL)
        try:
            wait_healthy(port, "/v1/health/ready")
            yield port
        finally:
            process.terminate()
            process.wait(20)
