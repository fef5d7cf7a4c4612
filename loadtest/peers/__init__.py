"""`python -m loadtest.peers`: this gateway beside whatever is installed of the servers that people would take instead.

The benchmark's own lanes, generators and pinning (`loadtest.bench`), with more servers, more messages a pass, and
clients that stop reading. Who is not installed is named as not measured, with the reason.
"""
