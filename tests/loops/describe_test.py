import subprocess
import sys

from absl.testing import absltest, parameterized

from loopjax.loops import units
from loopjax.loops.describe import CLASSES, describe
from tests.loops import peers as loop_peers
from tests.loops.inputs import KINDS, ROWS, digits
from tests.loops.inputs_reviewed import REVIEWED


class DescribeTest(parameterized.TestCase):
  @parameterized.named_parameters((row.name, row) for row in ROWS)
  def test_rows_with_known_answers(self, row):
    found = describe(row.ids, digits=digits(row))
    self.assertEqual(found.loop_class, row.loop_class)
    self.assertEqual((found.recurrence_count, found.recurrence_fired), (row.count, row.fired))
    start, end, period = row.cycle or (None, None, None)
    self.assertEqual((found.cycle_onset, found.cycle_end, found.cycle_period), (start, end, period))
    self.assertEqual(found.cycle_is_tail, end == row.ids.size if row.cycle else None)
    self.assertEqual(found.variant is not None, row.loop_class in ("variant", "enumeration"))
    self.assertIn(row.loop_class, CLASSES)

  @parameterized.named_parameters((kind.name, kind) for kind in (*KINDS, *REVIEWED))
  def test_kinds_that_users_report(self, kind):
    found = units.words(kind.text)
    self.assertEqual(describe(found.ids, digits=found.digits).loop_class, kind.loop_class)

  @parameterized.parameters(*loop_peers.PEERS)
  def test_no_peer_is_right_on_all_kinds(self, peer):
    is_right = lambda kind: loop_peers.PEERS[peer](kind.text) == kind.loops
    for kinds in (KINDS, REVIEWED):
      self.assertFalse(all(is_right(kind) for kind in kinds))  # `all` stops at the first that it is wrong on
      self.assertTrue(any(is_right(kind) for kind in kinds if kind.name in ("table", "log_lines")))

  def test_a_blank_after_the_last_word_is_not_outside_of_the_loop(self):
    """A server that cuts a response may cut it there."""
    for text in ("so I check it again. " * 20, "so I check it again. " * 20 + " "):
      found = units.words(text)
      self.assertEqual(describe(found.ids).cycle_is_tail, text[-2] != " ")

  def test_needs_no_jax(self):
    code = (
      "import sys, loopjax.loops.describe, loopjax.loops.online, loopjax.loops.units; sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
  absltest.main()
