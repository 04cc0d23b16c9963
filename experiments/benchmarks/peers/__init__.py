"""What others would write for the same task: the peers that `benchmark` measures loopjax against."""
