"""From text to token ids as one model does it. The tokenizer library is imported only where a model has a tokenizer."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lem_runner.failures import one_line
from lem_runner.lengths import frame_of
from lem_runner.prompts import tokenizer_files, vocabulary

BYTE_VALUES = 256
#: Stands for a message where a template is asked what it writes around one.
_MARK = "\u2402message\u2403"


class TokenizeError(ValueError):
    """This model cannot turn that into ids; the message says why."""


class Encoder(ABC):
    """What prefetch needs of a tokenizer."""

    #: As `prompts.tokenizer_identity`.
    identity: str
    #: Drawn ids lie below this.
    vocab_size: int
    #: Ids that mean something to the model and are not drawn.
    special: frozenset[int]

    @abstractmethod
    def render(self, text: str, template: str) -> str:
        """The text that is tokenised: itself, or as one user message in the model's chat template."""

    @abstractmethod
    def encode(self, text: str, template: str) -> list[int]:
        """Ids of a rendered text."""

    @abstractmethod
    def parts(self, text: str, template: str) -> tuple[tuple[list[int], list[int]], list[int]]:
        """((ids before, ids after), ids of the bare text): what may be cut, and what must stay around it."""

    @abstractmethod
    def decode(self, ids: list[int]) -> str:
        """The text of ids, special ones written out."""


class ByteEncoder(Encoder):
    """For a model of random weights, which has no tokenizer: one id per byte of UTF-8, and declared so."""

    def __init__(self, config: Mapping[str, Any], identity: str) -> None:
        self.identity = identity
        fields = vocabulary(config)
        self.vocab_size = _vocab_size(fields, "the random model's config")
        self.special = _special_ids(fields)

    def render(self, text: str, template: str) -> str:
        """The text itself."""
        if template != "none":
            raise TokenizeError(f"template {template!r}: a random model has no chat template")
        return text

    def encode(self, text: str, template: str) -> list[int]:  # noqa: ARG002 - refused by `render`
        """The bytes."""
        if self.vocab_size < BYTE_VALUES:
            raise TokenizeError(f"bytes need a vocabulary of {BYTE_VALUES}, this random model has {self.vocab_size}")
        return list(text.encode())

    def parts(self, text: str, template: str) -> tuple[tuple[list[int], list[int]], list[int]]:
        """Nothing stands around bytes."""
        return ([], []), self.encode(self.render(text, template), template)

    def decode(self, ids: list[int]) -> str:
        """A character that was cut in two is marked."""
        return bytes(ids).decode(errors="replace")


class ModelEncoder(Encoder):
    """A stored model's own tokenizer. Drawn ids need only its config, so the tokenizer is loaded on first use."""

    def __init__(self, folder: Path, identity: str) -> None:
        fields = vocabulary(_read_config(folder))
        self.identity = identity
        self.vocab_size = _vocab_size(fields, f"{folder}: config.json")
        self.special = _special_ids(fields)
        self._folder = folder
        self._loaded: Any = None

    def render(self, text: str, template: str) -> str:
        """As one user message, where `chat` is asked for."""
        if template == "none":
            return text
        tokenizer = self._tokenizer()
        if not tokenizer.chat_template:
            raise TokenizeError(f"{self._folder}: this model has no chat template; set the template to none")
        message = [{"role": "user", "content": text}]
        return str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))

    def encode(self, text: str, template: str) -> list[int]:
        """A chat template writes its special tokens itself; otherwise the tokenizer adds its own."""
        return list(self._tokenizer()(text, add_special_tokens=template == "none")["input_ids"])

    def parts(self, text: str, template: str) -> tuple[tuple[list[int], list[int]], list[int]]:
        """The frame is what the template writes around a message, or the special tokens that the tokenizer adds."""
        body = self._bare(text)
        if template == "none":
            frame = frame_of(self.encode(text, template), body)
            if frame is None:
                raise TokenizeError(f"{self._folder}: its tokenizer tells no frame; lengths cannot be set with it")
            return frame, body
        before, mark, after = self.render(_MARK, template).partition(_MARK)
        if not mark:
            raise TokenizeError(f"{self._folder}: its chat template changes the text; lengths cannot be set with it")
        return (self._bare(before), self._bare(after)), body

    def decode(self, ids: list[int]) -> str:
        """As the tokenizer writes them."""
        return str(self._tokenizer().decode(ids, skip_special_tokens=False))

    def _bare(self, text: str) -> list[int]:
        return list(self._tokenizer()(text, add_special_tokens=False)["input_ids"])

    def _tokenizer(self) -> Any:
        if self._loaded is None:
            self._loaded = _load_tokenizer(self._folder)
        return self._loaded


def _load_tokenizer(folder: Path) -> Any:
    if not tokenizer_files(folder):
        raise TokenizeError(f"{folder}: no tokenizer files; only random prompts can be prepared for this model")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise TokenizeError(f"{folder}: its tokenizer cannot be loaded: {one_line(error)}") from error


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenizeError(f"{folder / 'config.json'}: {error}") from error
    if not isinstance(config, dict):
        raise TokenizeError(f"{folder / 'config.json'}: no JSON object")
    return config


def _vocab_size(fields: Mapping[str, Any], where: str) -> int:
    size = fields["vocab_size"]
    if type(size) is not int or size < 2:
        raise TokenizeError(f"{where}: vocab_size is {size!r}")
    return size


def _special_ids(fields: Mapping[str, Any]) -> frozenset[int]:
    """The ids the config names, and the first three, which many vocabularies use for padding, begin and end."""
    ids = {0, 1, 2}
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = fields[name]
        ids.update(item for item in (value if isinstance(value, list) else [value]) if isinstance(item, int))
    return frozenset(ids)
