"""`python -m loadtest.fleet`: gateways on Redis Sentinel and on Redis Cluster, with servers that die under load.

Two gateways, a publisher with history, and the clients of `loadtest.faults`, which check every offset. The servers are
started here, on ports of their own: `servers`, `sentinels`, `cluster`. The tests use them, too.
"""
