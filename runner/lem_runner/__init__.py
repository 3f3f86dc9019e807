"""The runner: one process, one engine, driven by JSON lines. Standard library and its engine only."""
