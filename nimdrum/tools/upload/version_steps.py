"""Steps of an upload: the credential; the environment, the custom model and a version of each; its resources.

Methods, paths and payloads: the `datarobot` client 3.20. It has no method for a credential with an API token, nor for
the resource bundle: those payloads are the ones of DataRobot's Terraform provider.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import datarobot as dr
from datarobot.models.runtime_parameters import RuntimeParameterValue

from nimdrum import __version__
from nimdrum.base.errors import UploadError
from nimdrum.tools.upload.bundle import context_files, write_archive
from nimdrum.tools.upload.changes import (
    BUILT,
    FAILED,
    environment_mark,
    environment_version,
    model_mark,
    model_version,
    patchable_version,
)
from nimdrum.tools.upload.context import Upload, there, wait_until
from nimdrum.tools.upload.exit_codes import BUILD_FAILED, REFUSED
from nimdrum.tools.upload.find import environment_version_from, model_version_from
from nimdrum.tools.upload.wanted import KEY, EnvironmentVersion, Found

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


def create_model(upload: Upload, found: Found) -> Found:
    made = dr.CustomInferenceModel.create(
        upload.wanted.model_name,
        target_type=dr.TARGET_TYPE.UNSTRUCTURED if upload.wanted.unstructured else dr.TARGET_TYPE.TEXT_GENERATION,
        target_name=None if upload.wanted.unstructured else upload.wanted.target_name,
        language="python",
        description=f"NVIDIA NIM language model, owned by DRUM hooks (nimdrum {__version__})",
    )
    return replace(found, model_id=made.id)


def add_model_version(upload: Upload, found: Found) -> Found:
    wanted, environment = upload.wanted, there(environment_version(upload.wanted, found))
    mark = there(model_mark(wanted, found))
    values = [RuntimeParameterValue(field_name=p.name, type=p.type, value=p.value) for p in wanted.parameters]
    credential_id = wanted.credential_id or found.credential_id
    if credential_id:
        values.append(RuntimeParameterValue(field_name=KEY, type="credential", value=credential_id))
    with tempfile.TemporaryDirectory(prefix="nimdrum-") as folder:
        for file in wanted.model_files:
            target = Path(folder, file.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.content)
        Path(folder, mark).write_text(_about(upload), encoding="utf-8")
        names = [*(file.name for file in wanted.model_files), mark]
        made = dr.CustomModelVersion.create_clean(
            there(found.model_id),
            base_environment_id=found.environment_id,
            base_environment_version_id=environment.id,
            files=[(str(Path(folder, name)), name) for name in names],
            network_egress_policy=wanted.egress,
            runtime_parameter_values=values,
            max_wait=int(upload.patience.max_wait_sec),  # the time-out of the request, since there is no training data
        )
    raw = upload.client.get(f"customModels/{found.model_id}/versions/{made.id}/").json()
    return replace(found, model_versions=(*found.model_versions, model_version_from(raw)))


def _about(upload: Upload) -> str:
    """For people: what the version was made of. The program only looks at the file's name."""
    values = {p.name: p.value for p in upload.wanted.parameters}
    about = {"nimdrum": __version__, "parameters": values, "network_egress": upload.wanted.egress}
    return json.dumps(about, indent=1, ensure_ascii=False) + "\n"


def set_resources(upload: Upload, found: Found) -> Found:
    base, bundle = there(patchable_version(upload.wanted, found)), there(found.bundle)
    payload = {
        "isMajorUpdate": "false",
        "baseEnvironmentId": found.environment_id,
        "baseEnvironmentVersionId": there(environment_version(upload.wanted, found)).id,
        "resourceBundleId": bundle.id,
    }
    raw = upload.client.patch(f"customModels/{found.model_id}/versions/", data=payload).json()
    after = replace(found, model_versions=(*found.model_versions, model_version_from(raw)))
    if model_version(upload.wanted, after) is None:
        raise UploadError(
            f"DataRobot made version {raw['id']} out of {base.id}, but with the resource bundle "
            f"{raw.get('resourceBundleId')!r} instead of {bundle.id!r}, or with other files. "
            "Set the bundle in DataRobot, and give --gpus 0 here.",
            REFUSED,
        )
    return after
