"""The registered version and its deployment.

Methods, paths and payloads: the `datarobot` client 3.20; the deployment's states: DataRobot's Terraform provider.
"""

from dataclasses import replace

import datarobot as dr
from datarobot.enums import MODEL_REPLACEMENT_REASON, PredictionEnvironmentPlatform

from nimdrum.base.errors import UploadError
from nimdrum.tools.upload.changes import FAILED, model_version, registered_version
from nimdrum.tools.upload.context import Upload, there, wait_until
from nimdrum.tools.upload.exit_codes import BUILD_FAILED
from nimdrum.tools.upload.find import deployment_from, registered_version_from
from nimdrum.tools.upload.wanted import Deployment, Found, RegisteredVersion


def register(upload: Upload, found: Found) -> Found:
    wanted, version = upload.wanted, there(model_version(upload.wanted, found))
    made = dr.RegisteredModelVersion.create_for_custom_model_version(
        version.id,
        name=f"{wanted.model_name} {version.number[0]}.{version.number[1]} [{version.id}]",
        registered_model_name=None if found.registered_model_id else wanted.registered_model,
        registered_model_id=found.registered_model_id,
    )
    registered = RegisteredVersion(made.id, version.id, made.name, made.build_status)
    return replace(
        found,
        registered_model_id=made.registered_model_id,
        registered_versions=(*found.registered_versions, registered),
    )


def await_registered(upload: Upload, found: Found) -> Found:
    version = _registered(upload, found)
    path = f"registeredModels/{found.registered_model_id}/versions/{version.id}/"
    done = wait_until(
        "the registered version",
        lambda: registered_version_from(upload.client.get(path).json()),
        lambda seen: seen.status or "",
        lambda seen: seen.status in (None, "complete", FAILED),
        upload.patience,
        upload.screen,
    )
    others = tuple(v for v in found.registered_versions if v.id != done.id)
    return replace(found, registered_versions=(*others, replace(done, model_version_id=version.model_version_id)))


def create_prediction_environment(upload: Upload, found: Found) -> Found:
    platform = PredictionEnvironmentPlatform.DATAROBOT_SERVERLESS
    made = dr.PredictionEnvironment.create(upload.wanted.prediction_environment, platform=platform)
    return replace(found, prediction_environment_id=made.id)


def deploy(upload: Upload, found: Found) -> Found:
    # As Deployment.create_from_registered_model_version, which then waits in silence and cannot be resumed.
    package_id = _registered(upload, found).id
    payload = {
        "modelPackageId": package_id,
        "label": upload.wanted.deployment,
        "predictionEnvironmentId": found.prediction_environment_id,
    }
    answer = upload.client.post("deployments/fromModelPackage/", data=payload)
    made = Deployment(answer.json()["id"], package_id, "launching", answer.headers.get("Location"))
    return replace(found, deployment=made)


def replace_model(upload: Upload, found: Found) -> Found:
    # As Deployment.perform_model_replace, for the same reason.
    deployment, package_id = there(found.deployment), _registered(upload, found).id
    payload = {"modelPackageId": package_id, "reason": MODEL_REPLACEMENT_REASON.OTHER}
    answer = upload.client.patch(f"deployments/{deployment.id}/model/", data=payload)
    job_url = answer.headers.get("Location")
    return replace(found, deployment=Deployment(deployment.id, package_id, "replacingModel", job_url))


def await_deployment(upload: Upload, found: Found) -> Found:
    begun = there(found.deployment)
    job_url = begun.job_url

    def seen() -> Deployment:
        nonlocal job_url
        if job_url is not None:
            job = upload.client.get(job_url, allow_redirects=False)
            told = job.json() if job.status_code == 200 else {"status": "COMPLETED"}
            status = str(told.get("status", "")).upper()
            if status in ("ERROR", "ABORTED", "EXPIRED"):
                raise UploadError(
                    f"The deployment {begun.id} has failed ({status}): {told.get('message') or 'no reason given'}. "
                    f"Its log: {_log_page(upload, begun)}",
                    BUILD_FAILED,
                )
            if status == "COMPLETED":
                job_url = None
        return deployment_from(upload.client.get(f"deployments/{begun.id}/").json())

    done = wait_until(
        "the deployment",
        seen,
        lambda now: now.status,
        lambda now: "error" in now.status or (now.status == "active" and now.package_id == begun.package_id),
        upload.patience,
        upload.screen,
    )
    if "error" in done.status:
        raise UploadError(
            f"The deployment {begun.id} is {done.status}: delete it before the next try. "
            f"Its log: {_log_page(upload, begun)}",
            BUILD_FAILED,
        )
    return replace(found, deployment=done)


def _log_page(upload: Upload, deployment: Deployment) -> str:
    return f"{upload.client.domain}/console-nextgen/deployments/{deployment.id}/activity-log/otel-logs"


def _registered(upload: Upload, found: Found) -> RegisteredVersion:
    return there(registered_version(model_version(upload.wanted, found), found))
