"""`python -m loadtest.bench`: this gateway and its peers, measured side by side in one run.

The driver (`run`) starts every server on one core and one load generator per server on the other, keeps all of them up,
and measures them in alternating rounds, so that a machine that slows down for a minute slows down for all. The rule
that is easiest to break: every figure that is printed was measured in this run; what could not be measured is absent.
"""
