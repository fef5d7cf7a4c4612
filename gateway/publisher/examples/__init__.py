"""Programs to start from. Each runs as it stands; `tests/publisher/test_examples.py` runs them."""
