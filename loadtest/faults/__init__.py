"""`python -m loadtest.faults`: what a gateway loses when things break around it, counted.

Two workers and a Redis of their own, a publisher with history, and clients that behave as the SDKs do and check every
offset. While publications flow, one fault after another: connections to Redis are cut, Redis falls silent, is killed
with and without its data, a worker is killed, clients stop reading, clients vanish. The rule that is easiest to break:
a client counts what it sees by the wire contract alone. Lost is what the publisher was told is accepted and a
subscriber neither got nor was told about; only a new epoch excuses a gap.
"""
