"""The same batches without a runner, for `runner.py`: scripts of one engine each, as a person would write them."""

from __future__ import annotations

#: One line in, one window of work, one line out.
BARE_TRANSFORMERS = """
import json, sys, time
job = json.loads(sys.stdin.readline())
import torch
torch.set_num_threads(1)
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
fields = dict(job["shape"])
config = AutoConfig.for_model(fields.pop("model_type"), **fields)
torch.manual_seed(0)
model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
model.generation_config = GenerationConfig(pad_token_id=0)
settings = GenerationConfig(max_new_tokens=job["new_tokens"], pad_token_id=0, do_sample=False)
for line in sys.stdin:
    begin_ns = time.monotonic_ns()
    tokens = 0
    for start in range(0, len(job["prompts"]), job["batch_size"]):
        ids = torch.tensor(job["prompts"][start : start + job["batch_size"]])
        with torch.inference_mode():
            made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
            tokens += sum(len(row) for row in made[:, ids.shape[1] :].tolist())
    print(json.dumps({"window_ns": time.monotonic_ns() - begin_ns, "tokens": tokens}), flush=True)
"""

BARE_VLLM = """
import json, os, sys, tempfile, time
os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1",
                  VLLM_LOGGING_LEVEL="ERROR")
# vLLM writes its log to standard output, where the answers go.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
job = json.loads(sys.stdin.readline())
from transformers import AutoConfig
from vllm import LLM, SamplingParams
fields = dict(job["shape"])
config = AutoConfig.for_model(fields.pop("model_type"), **fields)
config.architectures = ["LlamaForCausalLM"]
with tempfile.TemporaryDirectory() as folder:
    config.save_pretrained(folder)
    llm = LLM(model=folder, load_format="dummy", skip_tokenizer_init=True, enable_prefix_caching=False,
              generation_config="vllm", **job["engine"])
params = SamplingParams(temperature=0, max_tokens=job["new_tokens"], ignore_eos=True, detokenize=False)
for line in sys.stdin:
    begin_ns = time.monotonic_ns()
    tokens = 0
    for start in range(0, len(job["prompts"]), job["batch_size"]):
        batch = [{"prompt_token_ids": ids} for ids in job["prompts"][start : start + job["batch_size"]]]
        tokens += sum(len(made.outputs[0].token_ids) for made in llm.generate(batch, params, use_tqdm=False))
    print(json.dumps({"window_ns": time.monotonic_ns() - begin_ns, "tokens": tokens}), file=answers, flush=True)
"""
