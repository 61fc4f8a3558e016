"""Work that is accepted now and fetched later."""
