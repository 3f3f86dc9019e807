"""The data sets that a campaign file may name in one word: where they lie on the hub, and how their rows are read."""

from __future__ import annotations

from dataclasses import dataclass

#: What tells one part of a data set from another, and how its rows are read.
HUB_PARTS = ("config", "split", "column", "form", "files")


@dataclass(frozen=True)
class NamedDataset:
    """A repository of the hub. `config` and `split` choose its part, `files` where set its files by a pattern, `column`
    and `form` are those of `forms.Form`."""

    repository: str
    config: str | None = None
    split: str = "train"
    column: str | None = None
    form: str | None = None
    files: str | None = None


NAMED = {
    "alpaca": NamedDataset("tatsu-lab/alpaca", column="instruction"),
    "gsm8k": NamedDataset("openai/gsm8k", config="main", split="test", column="question"),
    "mmlu": NamedDataset("cais/mmlu", config="all", split="test", form="choices"),
    # The part that GPT-4 answered: 1 of 4.2 million rows, and a third of the bytes.
    "openorca": NamedDataset("Open-Orca/OpenOrca", form="system", files="1M-GPT4-Augmented.parquet"),
    "ultrafeedback": NamedDataset("HuggingFaceH4/ultrafeedback_binarized", split="train_prefs", column="prompt"),
}
