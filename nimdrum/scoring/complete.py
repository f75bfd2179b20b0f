"""Prompts that a hook of the user made, as the frame and the settings with which `score` answers them. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from nimdrum.base.fields import FIELDS
from nimdrum.base.parameters import not_a_parameter
from nimdrum.base.settings import Settings
from nimdrum.scoring.columns import MESSAGES

PARAMETERS = ("system_prompt", "n", *FIELDS)

Conversation = Sequence[Mapping[str, Any]]
Prompts = pd.DataFrame | Sequence[str | Conversation]


def asked_of(prompts: Prompts, parameters: Mapping[str, Any], settings: Settings) -> tuple[pd.DataFrame, Settings]:
    """`prompts` as a frame, and `settings` with `parameters` in their place. Raises TypeError for one that is none."""
    if unknown := set(parameters) - set(PARAMETERS):
        raise TypeError("; ".join(not_a_parameter(name, PARAMETERS) for name in sorted(unknown)))
    fields = {name: value for name, value in parameters.items() if name in FIELDS}
    others = {name: value for name, value in parameters.items() if name not in FIELDS}
    settings = replace(settings, **others, fields={**settings.fields, **fields})
    if isinstance(prompts, pd.DataFrame):
        return prompts, settings
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    if len(texts) == len(prompts):
        return pd.DataFrame({settings.prompt_column: texts}, dtype=object), replace(settings, per_row_columns=False)
    cells = [json.dumps(_conversation(prompt)) for prompt in prompts]
    return pd.DataFrame({MESSAGES: cells}, dtype=object), replace(settings, per_row_columns=True)


def _conversation(prompt: str | Conversation) -> list[Any]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
