"""Hours in minutes: clients come and go, some stop reading, workers are rolled, and at the end nothing is left of it.

    make soak MINUTES=10

Two workers, a real Redis, a publisher with history. What is compared is a worker at rest, before and after: resident
memory, open files, asyncio tasks. Everything is on loopback and ends with the run.
"""
