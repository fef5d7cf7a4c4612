"""Load on a running gateway, from outside: the benchmark, and whatever else measures it.

May import `protocol`, never `gateway`: the gateway is started as a process, like any other server.
"""
