"""A caller on the Python and openai of one cell: run as a program, with the host and port of DRUM's server.

Its client is made by the function that makes the one which users' hooks get.
"""

import json
import sys

from nimdrum.session.attach import Endpoint
from nimdrum.session.model import openai_client

TIMEOUT_SEC = 60


def main(host: str, port: str, prompt: str) -> None:
    client = openai_client(Endpoint(host, int(port), ""), TIMEOUT_SEC)
    models = [model.id for model in client.models.list()]
    stream = client.chat.completions.create(
        model=models[0],
        messages=[{"role": "user", "content": prompt}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    seen = {
        "models": models,
        "pieces": [chunk.choices[0].delta.content for chunk in chunks if chunk.choices],
        "finish_reason": [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1],
        "completion_tokens": chunks[-1].usage.completion_tokens if chunks[-1].usage else None,
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
