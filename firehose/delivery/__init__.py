"""From rows to delivered objects: knows the protocols, never an implementation.

Read it in this order: `plan` (what a stream is made of), `worker` (the loop), `intake` (read, transform), `buffer`,
`sealer` (cells become files), `outbox`, `courier` (files become objects), `ledger` (what is committed, and when).
"""
