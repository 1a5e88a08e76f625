"""The privacy benchmark: a generated corpus with planted personal values, a scorer, peers on the same corpus, and speed."""
