"""The machine: processes and their output, kernel locks, ports, GPUs. Knows nothing of engines."""
