"""Proofs over real input: the service as its users run it, and what came out checked by readers that are not ours."""
