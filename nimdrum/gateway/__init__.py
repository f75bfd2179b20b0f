"""A process that makes one plain engine on loopback of endpoints elsewhere: https, keys, several, rate limits.

A child of the supervisor, in the place of an engine. Everything else of this package speaks to it as to an engine.

    __main__.py    the process: reads its task, listens, ends
    outgoing.py    how an endpoint is reached: TLS, proxies, headers, connections
    endpoint.py    what is known of one endpoint: its window, its pace, whether it answers
    pace.py        requests a minute, told or learned
    pool.py        who goes next, and where
    relay.py       one request, until an endpoint has answered it
    answers.py     one answer on its way back
    ready.py       whether an endpoint is ready, and which model it has
    watching.py    looks at an endpoint again and again
    trouble.py     what is wrong with an endpoint, in a sentence
    pages.py       what the gateway says of itself: health, models, metrics
"""
