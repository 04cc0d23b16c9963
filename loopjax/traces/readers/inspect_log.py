"""inspect_ai's `.eval` logs, through inspect_ai's own reader (`pip install "loopjax[inspect]"`).

A log is a zip with a member a sample; of members with one name the last counts. Before inspect_ai opens a log, every
member is unpacked once in pieces that are thrown away: a log with a member beyond the limit is refused.

Each choice of a sample's output is a response; the epoch is the sample's number.

Source: inspect_ai, `read_eval_log` and `read_eval_log_sample`.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from loopjax.traces.readers import chat, fields
from loopjax.traces.readers.fields import Source
from loopjax.traces.trace import Kind, Problem, Trace

NAME = "inspect"
_PIECE = 2**20  # bytes
_DEFLATED, _ZSTANDARD = zipfile.ZIP_DEFLATED, 93
_UNUSED = {"events", "store", "model_usage", "timelines"}


def read_file(path: str, limit: int) -> Iterator[Trace | Problem]:
  """The traces of a log.

  Args:
    path: the `.eval` file.
    limit: the largest size of a member, unpacked, in bytes.

  Raises:
    ValueError: inspect_ai is not installed, the file is no log, or a member is larger than the limit.
  """
  try:
    from inspect_ai import log as logs
  except ImportError:
    raise ValueError('needs inspect_ai to read .eval files: pip install "loopjax[inspect]"') from None
  require_bounded(path, limit)
  try:
    header = logs.read_eval_log(path, header_only=True)
    names = list(_names(logs, header, path))
  except Exception as error:  # whatever its parsers raise on a file that is no log
    raise ValueError(f"inspect_ai cannot read it: {_line(error)}") from None
  for index, (name, epoch) in enumerate(names):
    source = Source(path, index + 1)
    try:
      sample = logs.read_eval_log_sample(path, name, epoch, resolve_attachments=True, exclude_fields=_UNUSED)
      yield from list(_traces(header, sample.model_dump(include=_USED), source))
    except IndexError:
      continue  # a sample of a run that did not finish
    except Exception as error:
      yield Problem(path, index + 1, f"inspect_ai cannot read sample {name!r}: {_line(error)}")


_USED = {"id", "epoch", "input", "output", "scores", "error"}


def _line(error: Exception) -> str:
  return " ".join(str(error).split())[:200] or type(error).__name__


def _names(logs: Any, header: Any, path: str) -> Iterator[tuple[Any, int]]:
  """Id and epoch of every sample that the log promises."""
  listed = header.eval.dataset.sample_ids
  if listed is None:
    yield from ((one.id, one.epoch) for one in logs.read_eval_log_sample_summaries(path))
    return
  for name in listed:
    for epoch in range(1, (header.eval.config.epochs or 1) + 1):
      yield name, epoch


def _traces(header: Any, sample: dict[str, Any], source: Source) -> Iterator[Trace | Problem]:
  output = sample["output"]
  if not output["choices"]:
    why = (sample["error"] or {}).get("message") or output.get("error") or "no output"
    yield Problem(source.file, source.line, f"the sample has no response: {why[:200]}", Kind.FAILED)
    return
  settings = header.eval.model_generate_config.temperature
  for choice in output["choices"]:
    parts = fields.message(choice["message"])
    ids, logprobs = chat.tokens(choice)
    yield Trace(
      problem=f"{header.eval.task}/{sample['id']}",
      sample=sample["epoch"] - 1 if len(output["choices"]) == 1 else None,
      model=header.eval.model,
      temperature=fields.number(settings if settings is not None else header.plan.config.temperature),
      prompt=fields.prompt(sample["input"]),
      reasoning=parts.reasoning,
      answer=parts.answer,
      ids=ids,
      logprobs=logprobs,
      ending=fields.ending(choice["stop_reason"]),
      label=_label(sample["scores"]),
      file=source.file,
      line=source.line,
    )


def _label(scores: dict[str, Any] | None) -> float | None:
  """The first score that is a label."""
  labels = (fields.label(score["value"]) for score in (scores or {}).values())
  return next((one for one in labels if one is not None), None)


def require_bounded(path: str, limit: int) -> None:
  """Refuses a zip with a member larger than the limit once unpacked, whatever its directory says of sizes.

  Raises:
    ValueError: it has such a member, or is no zip.
  """
  try:
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
      for member in archive.infolist():
        if max(member.file_size, _unpacked(file, member, limit)) > limit:
          raise ValueError(f"member {member.filename!r} is larger than {limit // 2**20} MiB once unpacked")
  except (zipfile.BadZipFile, struct.error, zlib.error, NotImplementedError) as error:
    raise ValueError(f"is no readable zip: {_line(error)}") from None


def _unpacked(file: BinaryIO, member: zipfile.ZipInfo, limit: int) -> int:
  """The size of a member once unpacked, or something above the limit; its pieces are thrown away."""
  if member.compress_type not in (_DEFLATED, _ZSTANDARD):
    return member.compress_size
  if member.compress_type == _DEFLATED and member.compress_size * 1032 <= limit:
    return 0  # no deflated stream grows by more than that
  file.seek(member.header_offset + 26)
  name, extra = struct.unpack("<HH", file.read(4))
  file.seek(name + extra, 1)
  size = 0
  for piece in _pieces(file, member):
    size += len(piece)
    if size > limit:
      break
  return size


def _pieces(file: BinaryIO, member: zipfile.ZipInfo) -> Iterator[bytes]:
  left = member.compress_size
  if member.compress_type == _ZSTANDARD:
    import zstandard  # inspect_ai's own dependency

    try:
      yield from zstandard.ZstdDecompressor(max_window_size=2**27).read_to_iter(file.read(left), write_size=_PIECE)
    except zstandard.ZstdError as error:
      raise ValueError(f"member {member.filename!r} is broken: {_line(error)}") from None
    return
  unpack = zlib.decompressobj(-15)
  while left > 0 and (packed := file.read(min(_PIECE, left))):
    left -= len(packed)
    while packed:
      yield unpack.decompress(packed, _PIECE)
      packed = unpack.unconsumed_tail
