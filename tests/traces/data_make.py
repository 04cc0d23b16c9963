"""Writes `tests/traces/data` with the libraries whose files are read: what they write is what must be read.

Needs inspect_ai, openai, lm-eval and lighteval with datasets, which the tests themselves do not. lighteval imports
torch for an annotation; a stand-in does. The versions that wrote the files are in `versions.json`.

  python tests/traces/data_make.py
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shutil
import sys
import types
from pathlib import Path
from unittest import mock

DATA = Path(__file__).parent / "data"
LOOP = "Wait, let me check that once more. " * 40
DATE = "2026-01-02T03-04-05.678901"


def write_inspect() -> None:
  """Three samples in two epochs: one finishes, one is cut in its reasoning, one has blocks and a wrong answer."""
  import inspect_ai
  from inspect_ai import dataset, model, scorer, solver

  samples = [dataset.Sample(id=f"p{i}", input=f"{i} + {i}?", target=str(2 * i)) for i in range(1, 4)]
  thought = [model.ContentReasoning(reasoning=LOOP), model.ContentText(text="So 5.")]
  outputs = {
    "1 + 1?": ("2", "stop"),
    "2 + 2?": ([model.ContentReasoning(reasoning=LOOP)], "max_tokens"),
    "3 + 3?": (thought, "stop"),
  }

  def answer(messages: list, *_: object) -> model.ModelOutput:
    content, reason = outputs[messages[-1].text]
    message = model.ChatMessageAssistant(content=content)
    choice = model.ChatCompletionChoice(message=message, stop_reason=reason)
    usage = model.ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # else it fetches a tokenizer to count
    return model.ModelOutput(model="mockllm/model", choices=[choice], usage=usage)

  task = inspect_ai.Task(
    name="sums", dataset=dataset.MemoryDataset(samples), solver=solver.generate(), scorer=scorer.includes(), epochs=2
  )
  fake = model.get_model("mockllm/model", custom_outputs=answer)
  log = inspect_ai.eval(task, model=fake, temperature=0.6, log_dir=str(DATA / "logs"), display="none")[0]
  shutil.move(log.location.removeprefix("file://"), DATA / "sums.eval")
  shutil.rmtree(DATA / "logs")


def write_openai() -> None:
  """A batch with a response of each API and a failure, as the library's own classes write their JSON."""
  from openai.types import Completion
  from openai.types.chat import ChatCompletion
  from openai.types.responses import Response

  message = {"role": "assistant", "content": "2"}
  entry = {"token": "2", "logprob": -0.25, "bytes": None, "top_logprobs": []}
  choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": [entry], "refusal": None}}
  second = {**choice, "index": 1, "message": {**message, "content": LOOP}, "finish_reason": "length", "logprobs": None}
  chat = ChatCompletion.model_validate(
    {"id": "chatcmpl-1", "created": 0, "model": "m", "object": "chat.completion", "choices": [choice, second]}
  )
  flat = {"tokens": ["2"], "token_logprobs": [-0.5], "top_logprobs": None, "text_offset": [0]}
  one = {"index": 0, "text": "2", "finish_reason": "length", "logprobs": flat}
  completion = Completion.model_validate(
    {"id": "cmpl-1", "created": 0, "model": "m", "object": "text_completion", "choices": [one]}
  )
  thought = {"id": "rs_1", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": LOOP}]}
  response = Response.model_validate(
    {
      "id": "resp_1", "created_at": 0, "model": "m", "object": "response", "status": "incomplete", "output": [thought],
      "incomplete_details": {"reason": "max_output_tokens"}, "parallel_tool_calls": False, "tool_choice": "auto",
      "tools": [], "temperature": 0.6,
    }
  )  # fmt: skip
  bodies = [json.loads(one.model_dump_json()) for one in (chat, completion, response)]
  (DATA / "chat.json").write_text(json.dumps(bodies[0], indent=2))
  lines = [
    {"id": f"batch_req_{i}", "custom_id": f"sum-{i}-sample-{i}", "error": None,
     "response": {"status_code": 200, "request_id": f"r{i}", "body": body}}
    for i, body in enumerate(bodies)
  ]  # fmt: skip
  failed = {"id": "batch_req_9", "custom_id": "sum-9", "response": None, "error": {"code": "x", "message": "too late"}}
  (DATA / "batch.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, failed]))


def write_lm_eval() -> None:
  """Two documents with two repeats each, under two filters; the second document's second response is empty."""
  from lm_eval.loggers import EvaluationTracker

  samples = [
    {
      "doc_id": doc, "doc": {"question": f"{doc} + {doc}?"}, "target": str(2 * doc), "filter": name,
      "arguments": [(f"{doc} + {doc}?", {"temperature": 0.6, "max_gen_toks": 64})], "metrics": ["exact_match"],
      "resps": [[str(2 * doc), LOOP if doc == 0 else ""]], "filtered_resps": [str(2 * doc)], "exact_match": 1.0,
    }
    for name in ("strict-match", "flexible-extract") for doc in range(2)
  ]  # fmt: skip
  tracker = EvaluationTracker(output_path=str(DATA / "lm_eval"))
  tracker.general_config_tracker.model_name_sanitized = "org__model"
  tracker.date_id = DATE
  tracker.save_results_samples("sums", samples)


def write_lighteval() -> None:
  """A row with two texts and their ids, one with a reasoning apart; and a row as 0.6 wrote it."""
  import datasets

  torch = mock.MagicMock(__spec__=types.SimpleNamespace(), Tensor=type("Tensor", (), {}), Generator=type("G", (), {}))
  torch.nn.Module = type("Module", (), {})
  sys.modules.setdefault("torch", torch)
  from lighteval.models.model_output import ModelResponse
  from lighteval.tasks.requests import Doc

  details = [
    {
      "doc": dataclasses.asdict(Doc(query="1 + 1?", choices=["2"], gold_index=0, id="0")), "metric": {"em": 1.0},
      "model_response": dataclasses.asdict(ModelResponse(
        input="1 + 1?", text=["2", LOOP], output_tokens=[[17], [5, 6] * 100], reasonings=[None, None])),
    },
    {
      "doc": dataclasses.asdict(Doc(query="2 + 2?", choices=["4"], gold_index=0, id="1")), "metric": {"em": 0.0},
      "model_response": dataclasses.asdict(ModelResponse(
        input="2 + 2?", text=["5"], output_tokens=[[20]], reasonings=[LOOP])),
    },
  ]  # fmt: skip
  folder = DATA / "details" / "org" / "model" / DATE
  folder.mkdir(parents=True)
  table = datasets.Dataset.from_list(details)
  table.select_columns(sorted(table.column_names)).to_parquet(str(folder / f"details_sums_{DATE}.parquet"))
  old = {"predictions": str([LOOP, "4"]), "cont_tokens": str([[5, 6] * 100, [19]]), "full_prompt": "2 + 2?"}
  datasets.Dataset.from_list([old]).to_parquet(str(DATA / "lighteval_0_6.parquet"))


def main() -> None:
  shutil.rmtree(DATA, ignore_errors=True)
  DATA.mkdir()
  for write in (write_inspect, write_openai, write_lm_eval, write_lighteval):
    write()
  names = ("inspect_ai", "openai", "lm_eval", "lighteval", "datasets")
  versions = {name: importlib.metadata.version(name) for name in names}
  (DATA / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
  main()
