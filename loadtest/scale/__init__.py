"""How many connections one machine holds, and what each of them costs.

    make scale CONNECTIONS=100000            # a table, and artifacts/scale-100000.json
    make curves                              # 1k → 100k connections, 1 → 10,000 channels, 1 → 8 workers

Every client is authenticated with a token of its own and subscribed to a channel. Clients are raw sockets on one epoll
for each generator process (`loadtest.bench.clients`), from source addresses 127.0.0.x. Everything is on loopback, is
started by the run and ends with it.
"""
