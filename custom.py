"""DRUM's hooks: each hands over to the package, and nothing else happens here.

For this folder alone. Hooks of your own are a model of their own, in another folder: docs/models.md.
"""

from nimdrum import hooks


def load_model(code_dir):
    """Start or attach to the engine. DRUM passes the result to the other hooks as `model`."""
    return hooks.load_model(code_dir, reads_rows=True)  # by read_input_data and score as they stand below


def read_input_data(binary_data):
    """Read the prompts as they were written: no number, date or NA is guessed."""
    return hooks.read_input_data(binary_data)


def score(data, model, **kwargs):
    """One answer for each row of the prompt column."""
    return hooks.score(data, model)


def chat(params, model, **kwargs):
    """One OpenAI chat completion, passed through. DRUM passes `headers` because there is a third parameter."""
    return hooks.chat(params, model, kwargs.get("headers"))


def get_supported_llm_models(model):
    """The models that the engine serves."""
    return hooks.list_models(model)
