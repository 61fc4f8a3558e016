"""One module a group of paths: parse, call, format."""
