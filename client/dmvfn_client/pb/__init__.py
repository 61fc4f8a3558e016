"""The contract dmvfn.v1, generated: a copy of proto/dmvfn/v1, which a test compares."""
