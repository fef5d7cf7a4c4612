"""Locust: users that speak the real protocol, and a backend's calls of the API, with thresholds that fail the run.

    make load                                # about a minute; reports in artifacts/load*
    make load ARGS="--scale 5 --seconds 120"

The driver (`python -m loadtest.load`) starts Redis, a gateway with a worker a core, publishers and Locust, shows how it
goes, and ends everything by its own process ids. `locustfile` is what Locust loads. Only `users`, `api` and
`locustfile` import Locust, which changes the standard library (gevent) as soon as it is imported.
"""
