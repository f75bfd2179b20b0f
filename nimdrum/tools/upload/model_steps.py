"""The custom model, its version, and the resources of the version.

Methods, paths and payloads: the `datarobot` client 3.20. It has no method for the resource bundle: that payload is the
one of DataRobot's Terraform provider.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import datarobot as dr
from datarobot.models.runtime_parameters import RuntimeParameterValue

from nimdrum import __version__
from nimdrum.base.errors import UploadError
from nimdrum.tools.upload.changes import environment_version, model_mark, model_version, patchable_version
from nimdrum.tools.upload.context import Upload, there
from nimdrum.tools.upload.exit_codes import REFUSED
from nimdrum.tools.upload.find import model_version_from
from nimdrum.tools.upload.found import Found
from nimdrum.tools.upload.wanted import KEY


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
