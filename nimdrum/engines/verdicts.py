"""What becomes of each variable and flag of NIM that NVIDIA documents: the one list, as data. Pure.

The plan goes by it (`config_file.py`, `nim.py`), docs/variables.md is made from it, and a test starts a plan with each
name. Names and lines are those of NVIDIA's documentation of 1.x to 3.0.0; a name that is not here passes as it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase


class Handling(str, Enum):
    """What becomes of a variable. The values are the words of the documentation."""

    PASSES = "passes"
    """The engine gets it as it is set, by the container or by engine_config.json."""
    FILE_ONLY = "from the file only"
    """As in engine_config.json; the container's stays out of the engine."""
    PARAMETER = "a parameter"
    """The runtime parameter of this name sets it; engine_config.json wins over that."""
    MAPPED = "mapped"
    """The engine gets what the note says."""
    CHECKED = "checked"
    """It passes where what it needs is there, and else stops the start with a sentence."""
    ROUTE = "the weights' route"
    """Passed, set or left out by the route that the weights take; what cannot go together stops the start."""
    OWNED = "the launcher's"
    """engine_config.json with it stops the start; the container's value is not used."""
    REFUSED = "refused"
    """The engine could not work with it. engine_config.json with it stops the start; of the container, which the
    user of an image may not be able to change, it is left out with a warning."""


@dataclass(frozen=True)
class Rule:
    """One row: names (a `*` at the end stands for any ending), and what becomes of them."""

    names: tuple[str, ...]
    handling: Handling
    note: str = ""
    """What it is for or what happens; of OWNED and REFUSED why, and what to do: the end of an error's sentence."""
    lines: str = ""
    """The lines of NIM that read it, where not all do."""
    harmless: tuple[str, ...] = ("",)
    """Values, in small letters, with which a REFUSED one changes nothing and passes."""

    def refusal(self, name: str, value: str) -> str:
        """The end of a sentence that begins with who sets `name`, where `value` stops the start; else empty."""
        if self.handling is Handling.OWNED:
            return f"{name}, which the launcher owns: {self.note}."
        if self.handling is Handling.REFUSED and value.strip().lower() not in self.harmless:
            return f"{name}, with which the engine cannot work here: {self.note}."
        return ""


ONE, TWO, THREE = "1.x", "2.x and later", "3.0"
OFF = ("", "0", "false", "no", "off")
PLAIN_HTTP = "DRUM asks the engine over plain HTTP, on loopback. Remove it: TLS for callers is the platform's"
ONE_NODE = (
    "one container is one node. Remove it; for a model that needs more than the GPUs here set the engine to external, "
    "and reach the cluster that has them"
)
ONE_FRONT = (
    "only one half of Dynamo would run. Set NIM_DYNAMO_SINGLE for all of it in this container, or the engine to "
    "external for a Dynamo that runs elsewhere"
)
OWN_PORT = "set DR_NIM_SERVER_PORT instead"

VARIABLES: tuple[Rule, ...] = (
    # where it listens
    Rule(("NIM_SERVER_PORT",), Handling.OWNED, OWN_PORT),
    Rule(("NIM_HEALTH_PORT",), Handling.OWNED, "it must equal the server port", TWO),
    Rule(("NIM_HTTP_API_PORT", "PORT", "HOST"), Handling.OWNED, OWN_PORT),
    Rule(("VLLM_PORT",), Handling.OWNED, "it makes vLLM's processes fight over one port"),
    Rule(
        ("NIM_BACKEND_PORT",),
        Handling.CHECKED,
        "the port of vLLM or SGLang behind NIM's proxy: free, and not DRUM's",
        TWO,
    ),
    Rule(("NIM_BACKEND_HOST",), Handling.PASSES, "where the backend listens", TWO),
    Rule(
        ("NIM_SAGEMAKER_MODE",),
        Handling.REFUSED,
        "it moves the engine to DRUM's port 8080. Remove it",
        TWO,
        harmless=OFF,
    ),
    Rule(("SAGEMAKER_*",), Handling.OWNED, "NIM takes it for SageMaker, and moves to DRUM's port 8080"),
    Rule(("WEB_CONCURRENCY",), Handling.OWNED, "set api_server_count instead"),
    Rule(
        ("NIM_SSL_MODE",),
        Handling.REFUSED,
        PLAIN_HTTP,
        harmless=("", "disabled", "disable", "none", "off", "0", "false"),
    ),
    Rule(
        ("NIM_SSL_KEY_PATH", "NIM_SSL_CERTS_PATH", "NIM_SSL_CERT_PATH", "NIM_SSL_CA_CERTS_PATH"),
        Handling.REFUSED,
        PLAIN_HTTP,
    ),
    Rule(("VLLM_API_KEY",), Handling.REFUSED, "no request of DRUM carries a key. Remove it: the engine is on loopback"),
    Rule(
        ("NIM_CORS_*", "NIM_PROXY_MGMT_ENDPOINT_PATTERN", "NIM_NGINX_DIR", "NIM_MIDDLEWARE_CONFIG_PATH"),
        Handling.PASSES,
        "NIM's proxy",
        TWO,
    ),
    Rule(("NIM_CAPTURE_ENABLE", "NIM_CAPTURE_ARGS"), Handling.PASSES, "writes requests down, prompts too", TWO),
    # several processes
    Rule(("NIM_NUM_COMPUTE_NODES", "CLUSTER_SIZE"), Handling.REFUSED, ONE_NODE, harmless=("", "0", "1")),
    Rule(("NIM_MULTI_NODE",), Handling.REFUSED, ONE_NODE, ONE, harmless=OFF),
    Rule(("NIM_NODE_RANK",), Handling.REFUSED, ONE_NODE, ONE, harmless=("", "0")),
    Rule(("NIM_LEADER_ROLE",), Handling.REFUSED, ONE_NODE, ONE, harmless=("", "1", "true")),
    Rule(("GPUS_PER_NODE", "CLUSTER_START_TIMEOUT"), Handling.PASSES, "nothing reads it on one node", ONE),
    Rule(
        ("NIM_TENSOR_PARALLEL_SIZE", "NIM_PIPELINE_PARALLEL_SIZE"),
        Handling.CHECKED,
        "their product must not be more than the GPUs here",
    ),
    Rule(
        ("NIM_DYNAMO_SINGLE",),
        Handling.MAPPED,
        "with it DYN_HTTP_PORT is the engine's port and DYN_HTTP_SVC_HEALTH_PATH the health route: Dynamo has no proxy",
        THREE,
    ),
    Rule(("NIM_DYNAMO_FRONTEND", "NIM_DYNAMO_WORKER"), Handling.REFUSED, ONE_FRONT, THREE, harmless=OFF),
    Rule(("DYN_HTTP_PORT",), Handling.OWNED, OWN_PORT, THREE),
    Rule(("DYN_HTTP_SVC_HEALTH_PATH",), Handling.OWNED, "set DR_NIM_HEALTH_ROUTE instead", THREE),
    Rule(("DYN_SYSTEM_PORT", "DYN_EVENT_PLANE"), Handling.PASSES, "Dynamo's parts among themselves", THREE),
    Rule(("NIM_MPI_ALLOW_RUN_AS_ROOT",), Handling.PASSES, "1 may be needed for several GPUs as root", ONE),
    Rule(("NCCL_*",), Handling.PASSES, "how GPUs talk to each other"),
    # which model, from where
    Rule(("NIM_SERVED_MODEL_NAME",), Handling.OWNED, "set served_model_name instead"),
    Rule(("NIM_MODEL_PROFILE", "NIM_MAX_MODEL_LEN"), Handling.PARAMETER),
    Rule(("NIM_MODEL_PATH",), Handling.ROUTE, "an absolute folder, or hf://, ngc://, modelscope://, s3://, gs://", TWO),
    Rule(("NIM_MODEL_NAME",), Handling.ROUTE, "an absolute folder, or hf://, ngc://", ONE),
    Rule(("NIM_FT_MODEL",), Handling.ROUTE, "a folder with fine-tuned weights; in 2.x that is NIM_MODEL_PATH", ONE),
    Rule(
        ("NIM_REPOSITORY_OVERRIDE",), Handling.ROUTE, "a mirror: s3://, https://, jfrog:// in 1.x; s3://, gs:// in 2.x"
    ),
    Rule(("NIM_DISABLE_MODEL_DOWNLOAD",), Handling.ROUTE, "the weights are in the image"),
    Rule(
        ("NGC_API_KEY", "HF_TOKEN"),
        Handling.ROUTE,
        "passed where NIM downloads, else left out: with a key NIM calls a registry",
    ),
    Rule(
        ("NGC_CLI_API_KEY", "MODELSCOPE_API_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
        Handling.ROUTE,
        "as NGC_API_KEY, but from engine_config.json only",
    ),
    Rule(("HF_HUB_OFFLINE",), Handling.ROUTE, "set to 1 for local weights"),
    Rule(("AWS_*", "GOOGLE_*"), Handling.ROUTE, "keys pass where NIM itself reads from a bucket"),
    Rule(("NIM_CACHE_PATH",), Handling.CHECKED, "must be writable"),
    Rule(("HF_HOME", "TMPDIR", "HOME", "OUTLINES_CACHE_DIR"), Handling.PASSES, "folders that must be writable"),
    Rule(("TIKTOKEN_*",), Handling.PASSES, "tokenizer files of gpt-oss, where there is no internet"),
    Rule(("NIM_CACHE_PROBE_TIMEOUT",), Handling.PASSES, "how long a network cache may be silent", TWO),
    Rule(("NIM_MANIFEST_ALLOW_UNSAFE", "NIM_CUSTOM_MODEL_NAME"), Handling.PASSES, "old profiles; a built engine", ONE),
    Rule(("NIM_DRAFT_MODEL_PATH",), Handling.PASSES, "speculative decoding", TWO),
    Rule(("NIM_MANIFEST_PROFILE", "NIM_ENGINE_MODEL_PATH"), Handling.PASSES, "read by NIMs of other kinds only"),
    Rule(
        ("NIM_ENGINE_MODEL_DOWNLOAD_ONLY",),
        Handling.REFUSED,
        "the engine would download and end. Remove it; `python -m nimdrum warm` fills a cache",
        harmless=OFF,
    ),
    # memory and speed
    Rule(("NIM_PASSTHROUGH_ARGS",), Handling.CHECKED, "flags for the backend, each judged by the list below", TWO),
    Rule(("NIM_KVCACHE_PERCENT",), Handling.PASSES, "in 2.x: --gpu-memory-utilization", ONE),
    Rule(("NIM_GPU_MEM_FRACTION", "NIM_KV_CACHE_PERCENT"), Handling.PASSES, "seen in some releases", TWO),
    Rule(
        (
            "NIM_ENABLE_KV_CACHE_REUSE",
            "NIM_ENABLE_KV_CACHE_HOST_OFFLOAD",
            "NIM_KV_CACHE_HOST_MEM_FRACTION",
            "NIM_NUM_KV_CACHE_SEQ_LENS",
        ),
        Handling.PASSES,
        "the key-value cache; in 2.x the backend's flags",
        ONE,
    ),
    Rule(("LMCACHE_*", "NIXL_*", "MOONCAKE_*"), Handling.PASSES, "tiers of the key-value cache", TWO),
    Rule(
        ("NIM_RELAX_MEM_CONSTRAINTS", "NIM_LOW_MEMORY_MODE", "NIM_MAX_BATCH_SIZE", "NIM_MAX_NUM_SEQS"),
        Handling.PASSES,
        "memory; in 2.x --max-num-seqs and the backend's other flags",
        ONE,
    ),
    Rule(("NIM_DISABLE_CUDA_GRAPH",), Handling.PASSES),
    Rule(
        (
            "NIM_SCHEDULER_POLICY",
            "NIM_GUIDED_DECODING_BACKEND",
            "NIM_CUSTOM_GUIDED_DECODING_BACKENDS",
            "NIM_USE_SGLANG",
            "NIM_USE_TRTLLM_LEGACY_BACKEND",
            "NIM_DISABLE_TRTLLM_PYTORCH_RT",
            "NIM_DISABLE_OVERLAP_SCHEDULING",
            "NIM_ENABLE_PROMPT_LOGPROBS",
            "NIM_FORCE_DETERMINISTIC",
            "NIM_REWARD_*",
            "NIM_FORCE_TRUST_REMOTE_CODE",
        ),
        Handling.PASSES,
        "in 2.x the backend's flags",
        ONE,
    ),
    Rule(("NIM_TRUST_CUSTOM_CODE", "NIM_RUNTIME_MAX_WORKER_THREADS"), Handling.PASSES),
    # LoRA
    Rule(
        ("NIM_PEFT_SOURCE",),
        Handling.CHECKED,
        "the folder with a folder for each adapter must be here; model_artifacts_target `adapters` sets it",
    ),
    Rule(("NIM_PEFT_REFRESH_INTERVAL",), Handling.PASSES, "seconds until that folder is read again"),
    Rule(("NIM_PEFT_API_TIMEOUT_SECS",), Handling.PASSES, "", TWO),
    Rule(("VLLM_ALLOW_RUNTIME_LORA_UPDATING",), Handling.PASSES, "lets vLLM load adapters while it runs", TWO),
    Rule(
        ("NIM_MAX_GPU_LORAS", "NIM_MAX_CPU_LORAS", "NIM_MAX_LORA_RANK"),
        Handling.PASSES,
        "in 2.x: --max-loras, --max-cpu-loras, --max-lora-rank",
        ONE,
    ),
    # logs, metrics, traces
    Rule(("NIM_LOG_LEVEL",), Handling.MAPPED, "a parameter too; TRACE and DEFAULT are DEBUG and INFO in 2.x"),
    Rule(("NIM_JSONL_LOGGING",), Handling.MAPPED, "true and false are 1 and 0, which every line reads"),
    Rule(("VLLM_LOGGING_LEVEL", "SGLANG_LOG_LEVEL"), Handling.PASSES, "", TWO),
    Rule(("NIM_ENABLE_OTEL", "NIM_OTEL_*"), Handling.PASSES, "in 2.x: --otlp-traces-endpoint", ONE),
    Rule(
        ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_*_HEADERS"), Handling.FILE_ONLY, "may hold DataRobot's key"
    ),
    Rule(("OTEL_*",), Handling.PASSES, "where to send traces and metrics to"),
    Rule(("NIM_PER_REQ_METRICS_ENABLE", "NIM_DISABLE_LOG_REQUESTS"), Handling.PASSES, "", ONE),
    Rule(("NIM_TELEMETRY_MODE", "DO_NOT_TRACK"), Handling.PASSES, "what NVIDIA is told", TWO),
    # the network and Python
    Rule(("NO_PROXY", "no_proxy"), Handling.MAPPED, "loopback is added"),
    Rule(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), Handling.PASSES, "the way to registries"),
    Rule(("SSL_CERT_FILE", "NIM_SDK_USE_NATIVE_TLS"), Handling.PASSES, "certificates for registries"),
    Rule(("PATH", "PYTHONPATH"), Handling.MAPPED, "of the container without DRUM's own entries"),
    Rule(("VIRTUAL_ENV", "PYTHONHOME"), Handling.FILE_ONLY, "the container's is DRUM's Python"),
    Rule(("OPENAI_HOST", "OPENAI_PORT", "CODE_DIR", "DRUM_*", "DR_*"), Handling.FILE_ONLY, "DRUM's"),
)

ON_LOOPBACK = "the engine listens on loopback"
FLAGS: tuple[Rule, ...] = (
    Rule(("--port",), Handling.OWNED, "the engine's port is DR_NIM_SERVER_PORT"),
    Rule(("--host", "--uds"), Handling.OWNED, ON_LOOPBACK),
    Rule(("--served-model-name",), Handling.OWNED, "set served_model_name instead"),
    Rule(("--model", "--model-path"), Handling.OWNED, "the model comes from the weights' route (docs/weights)"),
    Rule(("--api-key",), Handling.OWNED, "no request of DRUM carries a key"),
    Rule(("--ssl-*", "--enable-ssl-refresh"), Handling.OWNED, "DRUM asks the engine over plain HTTP"),
    Rule(("--root-path",), Handling.OWNED, "DRUM asks the engine at its usual paths"),
    Rule(
        ("--headless", "--grpc", "--grpc-mode"), Handling.REFUSED, "without its HTTP server nobody can ask the engine"
    ),
    Rule(
        ("--nnodes", "-n", "--node-rank", "-r", "--master-addr", "--master-port", "--dist-init-addr"),
        Handling.REFUSED,
        "one container is one node; several are an external engine",
    ),
    Rule(("--dry-run",), Handling.REFUSED, "the engine would print its command and end"),
    Rule(
        ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size"),
        Handling.CHECKED,
        "with their short forms: their product must not be more than the GPUs here",
    ),
    Rule(("--api-server-count",), Handling.CHECKED, "set api_server_count instead, or leave it 0"),
    Rule(("--enable-lora", "--max-loras", "--max-cpu-loras", "--max-lora-rank"), Handling.PASSES, "LoRA adapters"),
    Rule(("--enable-auto-tool-choice", "--tool-call-parser"), Handling.PASSES, "tools"),
    Rule(("--reasoning-parser",), Handling.PASSES, "thinking apart from the answer"),
    Rule(("--gpu-memory-utilization", "--max-num-seqs", "--context-length"), Handling.PASSES, "memory"),
    Rule(("--scheduling-policy",), Handling.PASSES, "`priority` lets requests have one"),
    Rule(("--shutdown-timeout",), Handling.PASSES, "seconds for requests that run when the engine is stopped"),
    Rule(("--otlp-traces-endpoint",), Handling.PASSES, "where vLLM sends its traces to"),
)


def rule_of(name: str, rules: Iterable[Rule] = VARIABLES) -> Rule | None:
    """The first row that has `name`; None where nobody knows it, so that it passes."""
    return next((rule for rule in rules if any(fnmatchcase(name, each) for each in rule.names)), None)


def flag_rule(argument: str) -> Rule | None:
    """The row of a flag, as it stands among the arguments: `--ssl_keyfile=x` too, since vLLM takes both spellings."""
    return rule_of(argument.partition("=")[0].replace("_", "-"), FLAGS)


def kept_out(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of the container that the engine must not get, each with the sentence of a warning. Nobody is warned of
    those that the launcher sets itself: that sentence is empty."""
    found = {}
    for name, value in variables.items():
        rule = rule_of(name)
        if rule is not None and rule.refusal(name, value):
            refused = rule.handling is Handling.REFUSED
            found[name] = f"{name} of the container is not passed to the engine: {rule.note}." if refused else ""
    return found


def of_another_line(names: Iterable[str], line: int) -> list[str]:
    """A sentence for each variable that NVIDIA documents for other lines of NIM only: `line` may take no notice."""
    sentences = []
    for name in names:
        rule = rule_of(name)
        if rule is None or not rule.lines or rule.handling is Handling.ROUTE:
            continue
        if (rule.lines == ONE) != (line == 1):
            hint = f" ({rule.note})" if rule.note.startswith("in 2.x") and line > 1 else ""
            sentences.append(f"{name} is a variable of NIM {rule.lines}; NIM {line}.x may take no notice of it{hint}.")
    return sentences


BEGIN = "<!-- variables: made by `python -m nimdrum variables --write docs/variables.md` -->"
END = "<!-- end of variables -->"


def tables() -> str:
    """Both lists as Markdown."""
    parts = []
    for title, rules in (("Variables", VARIABLES), ("Flags", FLAGS)):
        rows = [f"## {title}", "", f"| {title.lower()} | NIM | what becomes of it | |", "| --- | --- | --- | --- |"]
        for rule in rules:
            names = ", ".join(f"`{name}`" for name in rule.names)
            rows.append(f"| {names} | {rule.lines or 'all'} | {rule.handling.value} | {rule.note} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)
