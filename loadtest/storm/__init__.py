"""Ten thousand clients at once, on the machine that the gateway is on: they come, are thrown out, and come back.

    make storm                               # about two minutes; reports in artifacts/storm*
    make storm ARGS="--clients 2000"

Four scenarios, one after the other, on one gateway with two workers: a connection storm, a worker killed, broadcasts
while clients come and go, a rolling reload. Lean clients (`loadtest.bench.clients`) carry it; a few users of Locust are
there all the time and say what it was like for them.
"""
