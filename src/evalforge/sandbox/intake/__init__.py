"""What applications send: spans from the SDK and its agent, evaluations, feedback, and much that only wants an answer.

`llm_obs`, `apm` and `evaluations` map what is in a body to what the searches serve, `routes` are the endpoints. Nothing that
can be read is refused: an odd item is dropped and counted, its neighbours stay.
"""
