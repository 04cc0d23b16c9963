"""An output folder keeps the results of one run, whatever of it is lost, damaged or made by other code."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from unittest import mock

import pandas as pd
from absl import logging
from absl.testing import absltest, parameterized

from loopjax import results
from loopjax.runtime import config, files, provenance


@dataclasses.dataclass(frozen=True)
class Settings:
  scale: float = 1.0
  sizes: tuple[float, ...] = (0.0, 1.0)
  num_seeds: int = 2


A, B = Settings(), Settings(scale=2.0)


def rows(settings: Settings) -> pd.DataFrame:
  return pd.DataFrame({"seed": [0, 1], "value": [settings.scale, 3.0]})


class ResultsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.record, self.table = (self.folder / "results" / f"toy{suffix}" for suffix in (".json", ".parquet"))
    self.side = self.folder / "results" / "toy_by_lag.parquet"

  def run_both(self, settings: Settings = A, computed: bool = True) -> dict[str, pd.DataFrame]:
    def compute() -> dict[str, pd.DataFrame]:
      self.assertTrue(computed, "ran again")
      return {"toy": rows(settings), "toy_by_lag": rows(settings).head(1)}

    return results.compute_once(self.folder, "toy", settings, compute)

  def run_toy(self, settings: Settings = A, computed: bool = True) -> pd.DataFrame:
    return self.run_both(settings, computed)["toy"]

  def read_side(self, settings: Settings = A) -> pd.DataFrame:
    return self.run_both(settings, computed=False)["toy_by_lag"]

  def refused(self, message: str, use) -> None:
    with self.assertRaisesRegex(ValueError, message) as caught:
      use()
    self.assertNotIn("\n", str(caught.exception))

  def test_results_are_computed_once_and_read_again(self):
    expected = rows(A)
    pd.testing.assert_frame_equal(self.run_toy(), expected)
    pd.testing.assert_frame_equal(self.run_toy(computed=False), expected)
    pd.testing.assert_frame_equal(self.read_side(), expected.head(1))
    expected = results.identity("toy", config.to_json(A)) | {"tables": ["toy", "toy_by_lag"]}
    self.assertEqual(files.read_identity(self.table), expected)
    self.assertEqual(files.read_identity(self.side), expected)

  def test_ints_for_floats_are_the_same_run(self):
    self.run_toy(Settings(scale=1, sizes=(0, 1)))
    self.run_toy(A, computed=False)
    other = Settings(scale=1, sizes=(0, 1))
    hashes = {results.identity("toy", config.to_json(settings))["hash"] for settings in (A, other, B)}
    self.assertLen(hashes, 2)

  def test_another_config_is_refused_with_and_without_the_json(self):
    self.run_toy()
    self.refused(r"toy\.\w+ holds another run: .*scale=1\.0 there, 2\.0 asked for", lambda: self.run_toy(B))
    self.record.unlink()
    self.refused(r"toy\.parquet holds another run: config\.scale=1\.0 there, 2\.0 asked", lambda: self.run_toy(B))
    self.assertFalse(self.record.exists())  # B has claimed nothing
    pd.testing.assert_frame_equal(self.run_toy(A, computed=False), rows(A))
    self.assertEqual(files.read_json(self.record)["config"], config.to_json(A))

  def test_the_results_of_another_experiment_are_refused(self):
    self.run_toy()
    self.table.rename(self.folder / "results" / "other.parquet")
    compute = mock.Mock(side_effect=AssertionError)
    self.refused("experiment='toy' there", lambda: results.compute_once(self.folder, "other", A, compute))

  def test_parquet_that_tells_no_run_is_refused(self):
    self.run_toy()
    rows(A).to_parquet(self.table)
    self.refused(r"toy\.parquet: does not tell which run it is of; remove it", self.run_toy)
    self.table.unlink()  # as advised
    self.run_toy()
    rows(A).to_parquet(self.side)
    self.refused(r"toy_by_lag\.parquet: does not tell which run it is of", self.read_side)

  @parameterized.parameters(
    "[]", "3", "{}", '{"config": {}}', '{"config": [], "provenance": {}}', '{"config": {}, "provenance": null}', "{"
  )
  def test_json_of_another_shape_is_one_line(self, text):
    self.run_toy()
    self.record.write_text(text)
    self.refused(r"toy\.json: is not (of a run|JSON)", self.run_toy)
    self.assertEqual(self.record.read_text(), text)

  def test_side_tables_missing_damaged_or_of_another_run_are_one_line(self):
    self.run_toy()
    whole = self.side.read_bytes()
    advice = r"; without toy\.parquet, all are computed again$"
    for size in (0, 3, len(whole) // 2, len(whole) - 1):
      self.side.write_bytes(whole[:size])
      self.refused(r"^.*toy_by_lag\.parquet: is not readable Parquet: .*" + advice, self.read_side)
    self.side.unlink()
    self.refused(r"^.*toy_by_lag\.parquet: is not readable Parquet: .*No such file.*" + advice, self.read_side)
    files.write_parquet(rows(B), self.side, results.identity("toy", config.to_json(B)))
    self.refused(r"toy_by_lag\.parquet holds another run: config\.scale=2\.0 there, 1\.0.*" + advice, self.read_side)
    self.table.unlink()  # as advised
    self.run_toy()
    self.read_side()

  def test_every_commit_is_recorded_and_one_line_warns_of_others(self):
    def run_at(commit: str | None) -> list[str]:
      with (
        mock.patch.object(results, "git_commit", return_value=commit),
        mock.patch.object(provenance, "git_commit", return_value=commit),
        mock.patch.object(logging, "warning") as warning,
      ):
        self.run_toy()
      return [call.args[0] % call.args[1:] for call in warning.call_args_list]

    self.assertEmpty(run_at("aaa"))
    self.assertEmpty(run_at("aaa"))
    (line,) = run_at("bbb")
    self.assertRegex(line, r"toy\.json: code of commit aaa worked here before, now that of bbb does$")
    self.assertLen(run_at("bbb"), 1)
    self.assertLen(run_at(None), 1)
    origin = files.read_json(self.record)["provenance"]
    self.assertEqual((origin["git_commit"], origin["git_commits"]), ("aaa", ["aaa", "bbb", None]))
    self.assertIn("wall_seconds", files.read_json(self.record))
    del origin["git_commits"]  # as older versions wrote it
    files.write_json(files.read_json(self.record) | {"provenance": origin}, self.record)
    self.assertLen(run_at("bbb"), 1)
    self.assertEqual(files.read_json(self.record)["provenance"]["git_commits"], ["aaa", "bbb"])


if __name__ == "__main__":
  absltest.main()
