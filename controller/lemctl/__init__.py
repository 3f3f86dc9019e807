"""lemctl: campaigns of LLM inference experiments, run unattended and measured so that the figures can be trusted."""

__version__ = "0.1.0"
