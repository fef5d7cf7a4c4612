"""What a gateway costs while nothing happens, and what its connections notice when 10,000 others come at once.

    make idle                                # about three minutes
    python -m loadtest.idle --small          # 1,000 clients, a look in half a minute

Idle: the CPU of one edge worker with so many connected clients, over whole ping intervals. Storm: the round trip of a
`ping` command on one connection that is there already, while the others connect, with and without a pace
(`limits.handshakes_per_s`), in turns in one run. Everything is on loopback, against a Redis and gateways of its own,
and ends with the run.
"""
