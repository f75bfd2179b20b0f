"""Weights that see and think, made up around a text model: `sighted.py WEIGHTS FOLDER`, under vLLM's Python.

The language model is WEIGHTS as it is. Eyes of random numbers stand before it (as in SmolVLM, pictures of 32 x 32), so
that another picture gives another answer, and neither means anything. The chat template has the switch enable_thinking.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    Idefics3VisionConfig,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.utils import logging

MARKS = {
    "<repo_name>": "<think>",
    "<file_sep>": "</think>",
    "<jupyter_start>": "<image>",
    "<jupyter_text>": "<fake_token_around_image>",
    "<jupyter_code>": "<end_of_utterance>",
    "<jupyter_output>": "<global-img>",
}
"""Tokens of the vocabulary that no text has get another name: vLLM looks for these."""
TEMPLATE = """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}
{%- if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}
{%- if part['type'] == 'text' %}{{ part['text'] }}{% else %}{{ '<image>' }}{% endif %}{% endfor %}{% endif %}
{{- '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' + ('<think>\nThe user' if enable_thinking else '') }}{% endif %}"""
SIZE, PATCH, SCALE = 32, 8, 2


def main() -> None:
    source, folder = map(Path, sys.argv[1:])
    logging.disable_progress_bar()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    for token, mark in MARKS.items():
        text = text.replace(json.dumps(token), json.dumps(mark))
    path.write_text(text, encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(folder, chat_template=TEMPLATE)

    speaks = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    eyes = Idefics3VisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=PATCH,
    )
    sees = Idefics3ForConditionalGeneration(
        Idefics3Config(
            vision_config=eyes,
            text_config=speaks.config,
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
            scale_factor=SCALE,
            pad_token_id=speaks.config.pad_token_id,
            tie_word_embeddings=True,
        )
    ).to(torch.bfloat16)
    sees.model.text_model.load_state_dict(speaks.model.state_dict())
    sees.save_pretrained(folder)
    edge = {"longest_edge": SIZE}
    Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False),
        tokenizer=tokenizer,
        image_seq_len=(SIZE // PATCH // SCALE) ** 2,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)


if __name__ == "__main__":
    main()
