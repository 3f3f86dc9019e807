"""A stand-in for TensorRT-LLM: its published arguments, and a toy in place of the engine. For tests without a GPU."""

from tensorrt_llm._interface import SamplingParams, TorchLlmArgs
from tensorrt_llm._runtime import Engine

__version__ = "1.2.1"
__all__ = ["LLM", "SamplingParams"]


class LLM(Engine):
    """The PyTorch backend."""

    args_class = TorchLlmArgs
