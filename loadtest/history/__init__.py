"""What history costs: publishing with it beside publishing without, and many clients that come back at once.

    make bench           # runs this behind the comparison with others
    python -m loadtest.history --quick

Everything is on loopback, against a Redis and a gateway of its own, and ends with the run.
"""
