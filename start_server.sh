#!/bin/sh
# The container's entry point: looks at the GPU and at shared memory, sets DRUM's server defaults, runs DRUM.
# DataRobot may add arguments; they come last, so they win. No value of a variable that may be secret is ever printed.
set -eu
trap 'exit 143' TERM INT  # as process 1 a shell is deaf to them without a trap

say() { printf 'start_server.%s\n' "$*" >&2; }

# is_set NAME: the environment variable exists and is not empty.
is_set() { [ -n "$(printenv "$1" || true)" ]; }

# default NAME TYPE JSON_VALUE: a runtime parameter in the form that DRUM reads, unless it is set already.
default() {
    name="MLOPS_RUNTIME_PARAM_$1"
    is_set "$name" || export "$name={\"type\":\"$2\",\"payload\":$3}"
}

# --- Environment: DataRobot's own switch, but values only of variables that are known to be harmless ------------------
if [ "${ENABLE_CUSTOM_MODEL_RUNTIME_ENV_DUMP:-0}" = 1 ]; then
    say "environment"
    LC_ALL=C awk 'BEGIN {
        for (name in ENVIRON) {
            value = ENVIRON[name]
            open = name ~ /^(NIM_|NIMDRUM_|CUDA_|NVIDIA_|NCCL_|DRUM_)/ || \
                name ~ /^(ADDRESS|CODE_DIR|HOME|PATH|TARGET_NAME|TMPDIR|URL_PREFIX|USER|VIRTUAL_ENV|WITH_ERROR_SERVER)$/
            # By value: an address with a user, a link or connection string with fields, and what is no plain text.
            hidden = toupper(name) ~ /KEY|TOKEN|SECRET|PASS|CRED|AUTH|COOKIE|CONN|_(PWD?|PAT|JWT|SAS|SIG|DSN|CERT)(_|$)/ || \
                value ~ /[^ -~]|@|[?&;][^=]*=|[Kk]ey=|[Bb]earer / || value ~ /^(nvapi-|hf_|gh[a-z]_|sk-|eyJ)/
            gsub(/[^A-Za-z0-9_.]/, "?", name)
            print "  " name (open && !hidden ? "=" value : " (" length(value) " characters)")
        }
    }' </dev/null | sort >&2
fi

# --- User: a container may run as any uid with group 0. Programs that ask for its name take USER, so no line in
# /etc/passwd is needed; where the home folder is not writable, theirs is the temporary one. ---------------------------
id -un >/dev/null 2>&1 || export USER="${USER:-nim}" LOGNAME="${LOGNAME:-nim}"
temporary=${TMPDIR:-/tmp}
if [ ! -w "$temporary" ]; then
    say "fatal The temporary folder $temporary cannot be written by uid $(id -u), gid $(id -g). Mount a writable" \
        "folder there (with a read-only root file system: an emptyDir or tmpfs), or set TMPDIR to one."
    exit 1
fi
[ -w "${HOME:-/nowhere}" ] || export HOME="$temporary"

# --- GPU ------------------------------------------------------------------------------------------------------------
gpu_count=0
smi="nvidia-smi is not on PATH"
if command -v nvidia-smi >/dev/null 2>&1; then
    # A hung driver must not hang the start; grep counts 0 (and fails) where nothing is listed.
    gpu_count=$(timeout 30 nvidia-smi -L 2>/dev/null | grep -c '^GPU ') || true
    smi="nvidia-smi -L lists none"
fi
say "gpus count=$gpu_count"

# The engines that need a GPU here; `uses_gpus` of their kind says the same (nimdrum/engines).
needs_gpu=no
case "$(printf '%s' "${MLOPS_RUNTIME_PARAM_engine:-}" | tr '[:upper:]' '[:lower:]')" in
    *'"nim"'*) needs_gpu=yes ;;
    '' | *'"auto"'* | *'""'* | *:null* | *': null'*)
        # auto takes an external engine where one is configured and this image holds no NIM (nimdrum/engines/choose.py).
        needs_gpu=yes
        root="${NIMDRUM_IMAGE_ROOT:-}"
        case "${MLOPS_RUNTIME_PARAM_DR_NIM_SERVER_HOST:-${OPENAI_HOST:-null}}" in
            null | *:null* | *': null'*) ;;
            *) [ -e "$root/opt/nim/start_server.sh" ] || [ -e "$root/opt/nim/start-server.sh" ] || needs_gpu=no ;;
        esac
        ;;
esac
if [ "$needs_gpu" = yes ] && [ "$gpu_count" -eq 0 ]; then
    say "fatal No GPU is visible in this container ($smi), and NIM cannot start without one. Choose a resource" \
        "bundle with a GPU (docker run: --gpus all), or set the runtime parameter engine to external."
    exit 1
fi

# --- Shared memory: the workers of one engine on several GPUs talk through it ----------------------------------------
shm_min_gb=16
shm_kb=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $2 }')
if [ "$gpu_count" -gt 1 ] && [ "${shm_kb:-0}" -lt $((shm_min_gb * 1024 * 1024)) ]; then
    say "warning /dev/shm has $((${shm_kb:-0} / 1024)) MB, and $gpu_count GPUs without NVLink want $shm_min_gb GB." \
        "If the engine hangs or dies while loading, give it more (docker run: --shm-size=${shm_min_gb}g)."
fi

# --- Profiles that NIM has for this machine: told where the image can tell them, and never a reason not to start ------
profiles_sec=${NIMDRUM_LIST_PROFILES_SEC:-60}  # 0: do not ask
if [ "$needs_gpu" = yes ] && [ "$profiles_sec" != 0 ] && command -v list-model-profiles >/dev/null 2>&1; then
    say "profiles"
    # Without DRUM's Python on PATH: the tool is NIM's. In the background, because a shell that waits hears a signal.
    {
        status=0
        PATH="${PATH#"${VIRTUAL_ENV:-}/bin:"}" timeout -k 5 "$profiles_sec" list-model-profiles 2>&1 || status=$?
        [ "$status" -eq 0 ] || say "warning list-model-profiles ended with $status (124: not within $profiles_sec s)."
    } </dev/null | sed 's/^/  /' >&2 &
    wait "$!" || true
fi

# --- DRUM's defaults: gevent keeps /ping/ quick under load and kills no long request ---------------------------------
default DRUM_SERVER_TYPE string '"gunicorn"'
default DRUM_GUNICORN_WORKER_CLASS string '"gevent"'
default DRUM_CLIENT_REQUEST_TIMEOUT numeric 3600

# Where all of a worker's connections are taken, nobody is accepted, health checks neither: so there are as many as the
# open files allow (a caller takes up to three), and who does not finish the head of his request loses his place.
# shellcheck disable=SC3045  # dash and bash, one of which is sh here, know hard and soft limits
files=$(ulimit -Hn)
case "$files" in
    *[!0-9]*) files=65536 ;;
    *) [ "$files" -le 65536 ] || files=65536 ;;
esac
# shellcheck disable=SC3045
ulimit -Sn "$files" 2>/dev/null || files=$(ulimit -Sn)
connections=$(((files - 512) / 4))
[ "$connections" -le 10000 ] || connections=10000
[ "$connections" -ge 100 ] || connections=100
default DRUM_WORKER_CONNECTIONS numeric "$connections"
# gunicorn's time limit for a head is its keep-alive. The answers still close their connections, as DRUM wants it.
is_set MLOPS_RUNTIME_PARAM_DRUM_GUNICORN_KEEP_ALIVE || export NIMDRUM_ONE_ANSWER=1
default DRUM_GUNICORN_KEEP_ALIVE numeric 10
is_set TARGET_NAME || export TARGET_NAME=resultText  # DataRobot's default; DRUM does not start without one

# --- The user's model in CODE_DIR, seen through a code folder with this project's hooks in it (docs/models.md) --------
if ! command -v nimdrum >/dev/null 2>&1; then  # a checkout, where the package is not installed
    here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
    nimdrum() { PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" python3 -m nimdrum "$@"; }
fi
# A file of values that DRUM cannot read would end in its stack; `code-dir` tells in one line where it is broken.
values=${RUNTIME_PARAMS_FILE:-}
before=
for argument in "$@"; do
    case "$before" in --runtime-params-file) values=$argument ;; esac
    case "$argument" in --runtime-params-file=*) values=${argument#*=} ;; esac
    before=$argument
done
code=$(nimdrum code-dir ${values:+--params "$values"} "${CODE_DIR:-/opt/code}") || exit 1

set -- drum server --language python --code-dir "$code" --address "${ADDRESS:-0.0.0.0:8080}" --logging-level info "$@"
[ "$$" -eq 1 ] || exec "$@"

# --- As process 1 (docs/decisions/0602): DRUM would be deaf to SIGTERM until it has a handler, and with its end the
# kernel would kill the engine in the middle of its own. So this shell stays, passes SIGTERM on, and ends last. ---------
"$@" &
drum=$!
trap 'heard=yes; kill -TERM "$drum" 2>/dev/null || true' TERM INT
status=
heard=yes
while [ "$heard" = yes ]; do  # a signal ends the wait, not DRUM
    heard=no
    code=0
    wait "$drum" || code=$?
    [ "$code" -eq 127 ] && [ -n "$status" ] || status=$code  # 127: the last wait was the last after all
done
looks=600  # of 0.2 s; the supervisor itself takes stop_timeout_sec and a few seconds to stop the engine
while [ "$looks" -gt 0 ] && grep -qs 'nimdrum[.]supervisor' /proc/[0-9]*/cmdline; do
    looks=$((looks - 1))
    sleep 0.2
done
exit "$status"
