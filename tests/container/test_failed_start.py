"""A container that cannot serve: it says why, and ends or answers 513 as it was told."""

from images import Image
from sandbox import Sandbox
from server_container import READ_ONLY, SIGKILLED, run_image, tmpfs

DIES = {
    "die_before_ready": True,
    "load_until": "",
    "last_lines": ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",),
}
CAUSE = "The GPU's memory does not suffice"
NO_RETRY = '--env=MLOPS_RUNTIME_PARAM_max_watchdog_restarts={"type":"numeric","payload":0}'


def test_nim_dies_without_error_server(sandbox: Sandbox, image: Image) -> None:
    """The container ends with 3, and the log has the cause: the platform sees a crash, not an hour of waiting."""
    with run_image(sandbox, image.name, NO_RETRY, line=image.line, **DIES) as container:
        assert container.exit_code() == 3, container.log[-4000:]
        assert CAUSE in container.log


def test_nim_dies_with_error_server(sandbox: Sandbox, image: Image) -> None:
    """DRUM stays until SIGTERM: /health/ answers 513 with the cause, /predict/ too."""
    with run_image(sandbox, image.name, NO_RETRY, "--env=WITH_ERROR_SERVER=1", line=image.line, **DIES) as container:
        assert CAUSE in container.wait_health(513).text
        refused = container.post("/predict/", data=b"promptText\nhello\n", headers={"Content-Type": "text/csv"})
        assert refused.status_code == 513
        assert CAUSE in refused.text
        code, _ = container.stop()
        assert code == 0, container.log[-4000:]


def test_no_gpu(sandbox: Sandbox, image: Image) -> None:
    """Without nvidia-smi the container ends at once with 1 and one sentence that says what to do."""
    with run_image(sandbox, image.name, "--volume=/dev/null:/usr/bin/nvidia-smi:ro") as container:
        assert container.exit_code() == 1
        assert "No GPU is visible in this container (nvidia-smi is not on PATH)" in container.log
        assert "gunicorn" not in container.log


def test_read_only_root_without_temporary_folder(sandbox: Sandbox, image: Image) -> None:
    with run_image(sandbox, image.name, *READ_ONLY) as container:
        assert container.exit_code() == 1
        assert "fatal The temporary folder /tmp cannot be written by uid 1000, gid 0" in container.log


def test_read_only_root_without_cache(sandbox: Sandbox, image: Image) -> None:
    """The mount that was forgotten is named."""
    with run_image(sandbox, image.name, NO_RETRY, *READ_ONLY, tmpfs("/tmp")) as container:
        assert container.exit_code() not in (0, SIGKILLED)
        assert "The model cache /opt/code/nim/cache cannot be written" in container.log
