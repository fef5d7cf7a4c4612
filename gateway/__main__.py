"""`python -m gateway` is `nexus-gateway`."""

from gateway.cli import main

if __name__ == "__main__":
    main()
