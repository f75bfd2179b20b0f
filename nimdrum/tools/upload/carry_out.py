"""An upload: look, plan, and take step after step until nothing is left to do."""

from collections.abc import Callable

from nimdrum.base.errors import UploadError
from nimdrum.tools.upload import deployment_steps as deployment
from nimdrum.tools.upload import version_steps as environment
from nimdrum.tools.upload import version_steps as model
from nimdrum.tools.upload.changes import Action, plan
from nimdrum.tools.upload.context import Upload
from nimdrum.tools.upload.exit_codes import OF_DATAROBOT, REFUSED, fail
from nimdrum.tools.upload.wanted import Found

STEPS: dict[Action, Callable[[Upload, Found], Found]] = {
    Action.CREATE_CREDENTIAL: environment.create_credential,
    Action.CREATE_ENVIRONMENT: environment.create_environment,
    Action.ADD_ENVIRONMENT_VERSION: environment.add_environment_version,
    Action.AWAIT_BUILD: environment.await_build,
    Action.CREATE_MODEL: model.create_model,
    Action.ADD_MODEL_VERSION: model.add_model_version,
    Action.SET_RESOURCES: model.set_resources,
    Action.REGISTER: deployment.register,
    Action.AWAIT_REGISTERED: deployment.await_registered,
    Action.CREATE_PREDICTION_ENVIRONMENT: deployment.create_prediction_environment,
    Action.DEPLOY: deployment.deploy,
    Action.REPLACE: deployment.replace_model,
    Action.AWAIT_DEPLOYMENT: deployment.await_deployment,
}


def run(upload: Upload, found: Found) -> Found:
    """Make what was found into what is wanted, and return what is there then. Raises UploadError.

    After each step the plan is made anew from what is known, so that a first run, a run after an interruption and a run
    that has nothing to do are one and the same thing.
    """
    taken: set[Action] = set()
    while steps := plan(upload.wanted, found):
        step = steps[0]
        if step.action in taken:
            raise UploadError(f"A second {step} would follow: DataRobot did not keep the first one.", REFUSED)
        taken.add(step.action)
        upload.screen.say(f"{step} ...")
        try:
            found = STEPS[step.action](upload, found)
        except OF_DATAROBOT as error:
            fail(step.action.value, error)
    if not taken:
        upload.screen.say("unchanged: all of it is there already")
    return found
