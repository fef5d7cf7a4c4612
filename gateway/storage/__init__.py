"""The only room that opens connections to Redis: endpoints, clients, the embedded server."""
