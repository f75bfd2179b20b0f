"""`find_cause`: the log lines that users of NIM see, and the sentence that each of them gets."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.engines.causes import KNOWN, find_cause

UNKNOWN = "gave no reason that is known here"

PROFILE = "No model profile runs on the free GPUs"
GPU = "No GPU is visible"
BAD_PROFILE = "NIM_MODEL_PROFILE names a profile that this image does not have"
BAD_VALUE = "does not accept the value of NIM_LOG_LEVEL or NIM_JSONL_LOGGING"
FOLDER = "model folder or file cannot be loaded"
KEY = "registry refused the key"
ENTITLEMENT = "refuses this model for this account"
NETWORK = "could not reach the registry"
DOWNLOAD = "download of the model failed"
READ_ONLY = "file system is read-only"
RIGHTS = "has no right to it"
FILES = "limit of open files"
MEMORY = "GPU's memory does not suffice"
PORT = "taken by another process"
DISK = "disk is full"
API_SERVERS = "does not take several API servers"
API_SERVER = "One of the engine's API servers died"

LINES = [
    ("Could not find a profile that is currently runnable with the detected hardware.", PROFILE, False),
    ("INFO Detected 0 compatible profile(s).", PROFILE, False),
    ("ERROR Profile 4f90 is not runnable due to low free GPU memory", PROFILE, False),
    ("ERROR No GPUs found.", GPU, False),
    ("If you have a GPU, did you forget to add --runtime=nvidia to docker run?", GPU, False),
    ("ValueError: Unknown profiles provided: deadbeef", BAD_PROFILE, False),
    ("Unsupported value 'true' for NIM_JSONL_LOGGING", BAD_VALUE, False),
    ("NIM_LOG_LEVEL: unsupported value VERBOSE", BAD_VALUE, False),
    ("Missing HuggingFace configuration file named config.json in /opt/code/model-repo", FOLDER, False),
    ("Invalid repository ID or local directory specified: '/opt/code/model-repo'", FOLDER, False),
    ("The requested operation requires permissions that the user does not have", KEY, False),
    ("nim_hub.ManifestDownloadError: Error downloading manifest", KEY, False),
    ("HTTP status client error (401 Unauthorized) for url (https://api.ngc.nvidia.com/v2/org/nim)", KEY, False),
    ("HTTP status client error (403 Forbidden) for url (https://authn.nvidia.com/token)", KEY, False),
    ("Authentication failed for nvcr.io", KEY, False),
    ("HTTP 402 payment required", ENTITLEMENT, False),
    ("HTTP status client error (451 Unavailable For Legal Reasons)", ENTITLEMENT, False),
    ("error sending request for url (https://api.ngc.nvidia.com/v2/org/nim)", NETWORK, None),
    ("socket.gaierror: [Errno -3] Temporary failure in name resolution", NETWORK, None),
    ("urllib3: getaddrinfo failed for huggingface.co", NETWORK, None),
    (
        "HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded (NewConnectionError: [Errno 111] Connection refused)",
        NETWORK,
        None,
    ),
    ("One or more errors fetching files", DOWNLOAD, True),
    ("Download failed after 5 attempts", DOWNLOAD, True),
    ("I/O Error Permission denied (os error 13)", RIGHTS, False),
    ("PermissionError: [Errno 13] Permission denied: '/opt/nim/.cache/ngc'", RIGHTS, False),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", MEMORY, None),
    ("ValueError: No available memory for the cache blocks.", MEMORY, None),
    (
        "The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV cache (30976).",
        MEMORY,
        None,
    ),
    (  # vllm-project/vllm issue 34076: how the vLLM of NIM 2.x says it
        "ValueError: To serve at least one request with the models's max seq len (262144), (24.0 GiB KV cache is needed, which is larger than the available KV cache memory (3.18 GiB).",
        MEMORY,
        None,
    ),
    ("OSError: [Errno 98] Address already in use", PORT, True),
    ("OSError: [Errno 24] Too many open files: '/opt/nim/.cache/x'", FILES, False),
    ("mkdir: cannot create directory '/opt/nim/nginx': Read-only file system", READ_ONLY, False),
    ('nginx: [emerg] mkdir() "/var/lib/nginx/body" failed (30: Read-only file system)', READ_ONLY, False),
    ("OSError: [Errno 28] No space left on device", DISK, False),
    # vLLM 0.32.0 on a CPU; the first as argparse says it of any flag that it does not know
    ("vllm: error: unrecognized arguments: --api-server-count 4", API_SERVERS, False),
    ("launch_server.py: error: unrecognized arguments: --foo 1 --api_server_count=4", API_SERVERS, False),
    (
        "ValueError: VLLM_ALLOW_RUNTIME_LORA_UPDATING cannot be used with api_server_count > 1",
        API_SERVERS,
        False,
    ),
    (
        "ValueError: --api-server-count=2 cannot be used with --headless (no API servers are started in headless mode).",
        API_SERVERS,
        False,
    ),
    ("ERROR Unsupported argument in NIM_PASSTHROUGH_ARGS: --api-server-count", API_SERVERS, False),
    ("RuntimeError: Process ApiServer_1 (PID: 25481) died with exit code None", API_SERVER, True),
]


@pytest.mark.parametrize(("line", "words", "retry"), LINES, ids=[line[:50] for line, _, _ in LINES])
def test_known_lines(line: str, words: str, retry: bool | None) -> None:
    """Each gets the sentence of its meaning, also in other letters, and among lines that say nothing."""
    for spelled in (line, line.upper(), line.lower()):
        cause = find_cause(["INFO starting", spelled, "INFO shutting down"], 1)
        assert words in cause.sentence
        assert cause.retry is retry


@pytest.mark.parametrize(
    "line",
    [
        'nginx: [emerg] open() "/opt/nim/nginx/nginx.conf" failed (2: No such file or directory)',
        "Error constructing Workspace: VFS error",
    ],
)
def test_missing_writable_folders(line: str) -> None:
    """Both speak of folders that must be mounted writable (section 8 of the container reference)."""
    cause = find_cause([line], 1)
    assert UNKNOWN not in cause.sentence
    assert cause.retry is False


@pytest.mark.parametrize(
    "line",
    [
        'INFO: 127.0.0.1:40312 - "GET /v1/models HTTP/1.1" 200 OK',
        "INFO Application startup complete.",
        "INFO Detected 10 compatible profile(s).",
        "INFO Selected profile: 4f90 (vllm-fp16-tp1)",
        "INFO Received request: prompt: 'May I have your permission to leave the room?'",
        "INFO Received request: prompt: 'What does a profile of a GPU look like?'",
        "INFO Authentication to NGC succeeded",
        "INFO Downloading ngc://nim/meta/llama-3.1-8b-instruct: 403 of 812 MiB",
        "INFO Downloaded 401 files from NGC",
        "INFO 402 of 812 tensors loaded from ngc://nim/meta/llama",
        "INFO GPU blocks: 451, CPU blocks: 512",
        "WARNING Using port 9999",
        "INFO non-default args: {'api_server_count': 4, 'port': 8001, 'max_model_len': 4096}",
        "WARNING AsyncLLM created with api_server_count more than 1; disabling stats logging to avoid incomplete stats.",
        "INFO Defaulting api_server_count to data_parallel_size (2).",
        "WARNING Ignoring --api-server-count=4 when using rust front-end process",
        "INFO Started 4 API server processes",
        "",
    ],
)
def test_innocent_lines(line: str) -> None:
    """A line that healthy engines print too is no cause, so that a failure is not blamed on it."""
    cause = find_cause([line], 1)
    assert UNKNOWN in cause.sentence
    assert cause.retry is None


def test_a_refused_hugging_face_token_is_not_nvidias_fault() -> None:
    """A gated model answers 401 too: the sentence must not send its reader to NGC."""
    line = "huggingface_hub.errors.GatedRepoError: 401 Client Error: Unauthorized for url: https://huggingface.co/api/models/meta-llama"
    assert "NGC_API_KEY" not in find_cause([line], 1).sentence


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (0, "ended with code 0"),
        (1, "ended with code 1"),
        (127, "ended with code 127"),
        (137, "ended with code 137 (killed, often for want of memory)"),
        (-9, "ended by SIGKILL"),
        (-11, "ended by SIGSEGV"),
        (-200, "ended by signal 200"),
        (None, "ended on its own"),
    ],
)
def test_an_unknown_failure_says_how_it_ended_and_what_was_last(exit_code: int | None, words: str) -> None:
    """Exit code or signal in words, and the last line; nobody knows whether trying again helps."""
    cause = find_cause(["first", "the last words"], exit_code)
    assert words in cause.sentence
    assert cause.sentence.endswith("Its last line was: the last words")
    assert cause.retry is (True if exit_code == -9 else None)  # SIGKILL comes from outside


def test_an_engine_that_said_nothing() -> None:
    """No empty quotation."""
    assert "last line" not in find_cause([], 1).sentence


def test_a_blank_last_line_is_not_the_last_word() -> None:
    """Many programs end with one."""
    assert "the last words" in find_cause(["the last words", "", "  "], 1).sentence


def test_a_long_last_line_is_cut() -> None:
    """The sentence goes into health answers."""
    assert len(find_cause(["x" * 5000], 1).sentence) < 500


@settings(max_examples=150)
@given(st.lists(st.text(max_size=40), max_size=10), st.none() | st.integers(-300, 300))
def test_there_is_always_a_cause(lines: list[str], exit_code: int | None) -> None:
    """Any log and any exit code: one of the known causes or the unknown one."""
    cause = find_cause(lines, exit_code)
    assert cause in [known for _, known in KNOWN] or UNKNOWN in cause.sentence
