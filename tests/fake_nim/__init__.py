"""A fake NVIDIA NIM for LLMs: test code, and no model.

It is started as a real child process in the place of the image's start script, listens on loopback only,
and behaves like the real server where a launcher or a scorer can tell the difference: how it loads, what it
refuses and in which shape, how it queues, how it breaks and how it dies. What it does is written in one
JSON file.

    config.py    the switches, and their JSON form
    releases.py  what tells the releases apart
    image.py     an image tree on disk: wrapper, start script, manifest
    run.py       start and stop the fake from a test
    server.py    the program itself, run by path
    app.py       routes and phases (loading, ready)
    chat.py      the completion route
    checks.py    what is refused
    values.py    of that, values that cannot be
    text.py      tokens, and what is answered
    bodies.py    in which shape
    faults.py    what breaks when
    engine.py    running slots, and the queue before them
    wire.py      HTTP/1.1
    process.py   the edges of the process: signals, grandchildren, records

One token is one whitespace-separated word. Every process ends by itself after `process.LIFE_SEC` (20 minutes).
"""
