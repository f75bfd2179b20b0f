"""A file of prompts, answered by the hooks of `drum score`, for a person at a terminal or a program."""
