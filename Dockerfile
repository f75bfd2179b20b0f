# DRUM with these hooks on top of an NVIDIA NIM image. BuildKit and buildah build it; nothing is fetched at start.
ARG BASE_IMAGE=nvcr.io/nim/meta/llama-3.1-8b-instruct:1.13.1
FROM ${BASE_IMAGE}

USER 0

# DRUM lives in a virtual environment of its own: NIM's Python must stay as NVIDIA shipped it. The system's Python is
# meant, not a venv that the image may have first on PATH. Ubuntu's cannot make one before python3-venv is there.
# Tests inside packages are a seventh of the size (numpy's stay: some releases import them). Compiled last and on all
# cores: a start without .pyc takes longer, and the container cannot write them with a read-only root file system.
# setuptools comes first: it builds what has no wheel, and pip itself would fetch the newest without asking for a hash.
COPY requirements.txt /opt/drum-requirements.txt
COPY requirements/build.txt /opt/drum-build-requirements.txt
# DL3008: the base image's own release decides the version of python3-venv.
# hadolint ignore=DL3008
RUN set -eu; \
    python=/usr/bin/python3; \
    [ -x "$python" ] || python=$(command -v python3); \
    "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
        { echo "$python of the base image is $("$python" -V), and DRUM needs Python 3.10 to 3.13." >&2; exit 1; }; \
    if ! "$python" -m venv /opt/venv >/dev/null 2>&1; then \
        rm -rf /opt/venv; \
        apt-get update; \
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv; \
        rm -rf /var/lib/apt/lists/* /var/cache/apt/*; \
        "$python" -m venv /opt/venv; \
    fi; \
    set -- /opt/venv/bin/python -m pip install --no-cache-dir --no-compile --disable-pip-version-check \
        --require-hashes --no-build-isolation --use-pep517 -r; \
    sed '/^setuptools==/,/# via/!d' /opt/drum-requirements.txt > /tmp/setuptools.txt; \
    "$@" /tmp/setuptools.txt; \
    "$@" /opt/drum-requirements.txt -r /opt/drum-build-requirements.txt; \
    rm /tmp/setuptools.txt; \
    for name in pandas scipy gevent; do \
        find /opt/venv/lib/python3.*/site-packages/"$name" -type d -name tests -prune -exec rm -r {} +; \
    done; \
    /opt/venv/bin/python -m compileall -q -j 0 /opt/venv/lib

# nimdrum takes /opt/venv/bin off the engine's PATH again, by VIRTUAL_ENV.
ENV VIRTUAL_ENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH \
    CODE_DIR=/opt/code \
    ADDRESS=0.0.0.0:8080 \
    NIM_CACHE_PATH=/opt/code/nim/cache \
    HOME=/opt/home \
    WITH_ERROR_SERVER=0 \
    PYTHONUNBUFFERED=1

# The container runs as uid 1000 with group 0; OpenShift gives any uid, with group 0. So what is written at run time
# belongs to group 0 with the owner's rights. WORKDIR alone would leave /opt/code to root (BuildKit) or not (buildah).
# In NIM's own folders large files are left alone: changing one copies it into this layer.
RUN set -eu; \
    mkdir -p /opt/code/nim/cache /opt/home; \
    getent passwd 1000 >/dev/null || echo 'nim:x:1000:0:NIM:/opt/home:/bin/sh' >> /etc/passwd; \
    chown -R 1000:0 /opt/code /opt/home; \
    chmod -R g=u /opt/code /opt/home; \
    if [ -d /opt/nim ]; then \
        chgrp 0 /opt/nim; \
        chmod g=u /opt/nim; \
        for name in .cache .config .triton etc generated_configs nginx runtime-cache workspace; do \
            [ ! -d "/opt/nim/$name" ] || find "/opt/nim/$name" \( -type d -o -type f -size -2048k \) \
                -exec chgrp 0 {} + -exec chmod g=u {} +; \
        done; \
    fi

# /opt/code is the user's: what they put there is their model (docs/models.md).
WORKDIR /opt/code
COPY --chown=1000:0 start_server.sh ./
COPY LICENSE README.md model-metadata.yaml pyproject.toml /opt/nimdrum/
COPY nimdrum /opt/nimdrum/nimdrum
RUN set -eu; \
    cp start_server.sh /opt/nimdrum/; \
    /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-index --no-deps \
        --no-build-isolation /opt/nimdrum; \
    rm -r /opt/nimdrum; \
    chmod -R g=u /opt/code; \
    chmod a+x start_server.sh

USER 1000:0
EXPOSE 8080

# In the place of NIM's entry point, which nimdrum calls itself; CMD is emptied because it would become our arguments.
ENTRYPOINT ["/opt/code/start_server.sh"]
CMD []
