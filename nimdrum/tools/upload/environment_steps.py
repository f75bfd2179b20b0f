"""The credential, the environment and its version.

Methods, paths and payloads: the `datarobot` client 3.20. It has no method for a credential with an API token: that
payload is the one of DataRobot's Terraform provider.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import datarobot as dr

from nimdrum import __version__
from nimdrum.base.errors import UploadError
from nimdrum.tools.upload.bundle import context_files, write_archive
from nimdrum.tools.upload.changes import BUILT, FAILED, environment_mark, environment_version
from nimdrum.tools.upload.context import Upload, there, wait_until
from nimdrum.tools.upload.exit_codes import BUILD_FAILED
from nimdrum.tools.upload.find import environment_version_from
from nimdrum.tools.upload.found import EnvironmentVersion, Found

LABEL_CHARACTERS = 50  # the client refuses to read a longer one
LOG_LINES = 30


def create_credential(upload: Upload, found: Found) -> Found:
    payload = {
        "name": upload.wanted.credential_name,
        "credentialType": "api_token",
        "apiToken": there(upload.key).reveal(),
    }
    made = upload.client.post("credentials/", data=payload).json()
    return replace(found, credential_id=made["credentialId"])


def create_environment(upload: Upload, found: Found) -> Found:
    made = dr.ExecutionEnvironment.create(
        upload.wanted.environment_name,
        upload.wanted.environment_description,
        programming_language="python",
        use_cases=["customModel"],
    )
    return replace(found, environment_id=made.id)


def add_environment_version(upload: Upload, found: Found) -> Found:
    wanted = upload.wanted
    label = f"nimdrum {__version__} {wanted.environment_content[:12]}"[:LABEL_CHARACTERS]
    about: dict[str, Any] = {
        "label": label,
        "description": f"nimdrum {__version__}; {environment_mark(wanted)}",
        "max_wait": None,
    }
    with tempfile.TemporaryDirectory(prefix="nimdrum-") as folder:
        context = Path(folder, "context.tar.gz")
        write_archive(context, context_files(upload.code_dir))
        versions = dr.ExecutionEnvironmentVersion
        if wanted.image_uri:
            made = versions.create(there(found.environment_id), docker_image_uri=wanted.image_uri, **about)
        elif wanted.image_archive:
            made = versions.upload(there(found.environment_id), str(wanted.image_archive), str(context), **about)
        else:
            made = versions.create(there(found.environment_id), docker_context_path=str(context), **about)
    version = EnvironmentVersion(made.id, about["description"], made.build_status, made.created_at or "")
    return replace(found, environment_versions=(*found.environment_versions, version))


def await_build(upload: Upload, found: Found) -> Found:
    version = there(environment_version(upload.wanted, found))
    path = f"executionEnvironments/{found.environment_id}/versions/{version.id}/"
    done = wait_until(
        "the build of the environment",
        lambda: environment_version_from(upload.client.get(path).json()),
        lambda seen: seen.status,
        lambda seen: seen.status in (BUILT, FAILED),
        upload.patience,
        upload.screen,
    )
    if done.status == FAILED:
        answer = upload.client.get(f"{path}buildLog/").json()
        last = "\n".join(f"  {line}" for line in f"{answer.get('log') or ''}".splitlines()[-LOG_LINES:])
        raise UploadError(
            f"The environment's version {version.id} could not be built: "
            f"{answer.get('error') or 'no reason given'}\n{last}\nThe same command tries it again, in a new version.",
            BUILD_FAILED,
        )
    others = tuple(v for v in found.environment_versions if v.id != done.id)
    return replace(found, environment_versions=(*others, done))
