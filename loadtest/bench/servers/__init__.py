"""The servers that are measured, one module each: how it is started, and how a client and a publisher speak to it."""
