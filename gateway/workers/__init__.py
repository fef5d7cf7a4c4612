"""Worker processes. `edge` and `control` are the two composition roots; `link` is the entry point they share."""
