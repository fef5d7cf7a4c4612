"""An outbox under faults, and its speed: real gateways, a real database, a client that counts what it gets.

Whoever runs this needs PostgreSQL's server programs for that half; SQLite needs nothing. Imports nothing of `gateway`:
rows are inserted as any backend would, with plain SQL.
"""
