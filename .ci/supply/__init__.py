"""The supply chain, for `make`: locks, licences, bill of materials, known vulnerabilities. Not shipped."""
