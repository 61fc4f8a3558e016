"""Tables and pictures of the answers."""
