from tensorrt_llm._interface import DecodingBaseConfig, TorchLlmArgs, TrtLlmArgs

__all__ = ["DecodingBaseConfig", "TorchLlmArgs", "TrtLlmArgs"]
