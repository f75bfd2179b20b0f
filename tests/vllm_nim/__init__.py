"""A stand-in of NIM 3 with the real vLLM in it, on the CPU: test code.

NIM 2.x and 3.x are vLLM behind a thin proxy. Their images cannot be had everywhere, vLLM can. This is their layout
(start script, nginx in front, health paths, JSON lines, environment variables) around it:

    image.py             an image tree on disk, which the launcher finds as it finds NIM's
    serve.py             what the start script runs: vLLM and nginx, and no way to have one without the other
    nginx.conf.template  the proxy
    prepare.py           what pip leaves to do: metadata, and SmolLM2-135M-Instruct out of the GGUF file of the embedded engine

What is in here of NIM is from NVIDIA's documentation and public reports; what vLLM answers is vLLM's.
`make vllm` installs vLLM; docs/vllm.md has the rest.
"""
