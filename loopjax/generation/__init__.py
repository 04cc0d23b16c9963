"""Drawing tokens from a model, one after the other. Knows token ids, not what they stand for."""
