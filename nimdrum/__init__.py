"""DRUM hooks that own an NVIDIA NIM language-model server and drive it at full speed without losing a row."""

__version__ = "0.1.0"
