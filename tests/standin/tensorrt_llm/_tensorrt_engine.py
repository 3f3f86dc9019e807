from tensorrt_llm._interface import TrtLlmArgs
from tensorrt_llm._runtime import Engine

__all__ = ["LLM"]


class LLM(Engine):
    """The engine backend."""

    args_class = TrtLlmArgs
