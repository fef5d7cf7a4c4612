"""Programs that use the cache; `gateway/cache/README.md` shows them."""
