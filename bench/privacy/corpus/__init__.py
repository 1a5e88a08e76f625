"""The corpus: generators by group, each a function from a seeded source of randomness to cases."""
