"""Bodies and headers: what comes in parsed, what goes out written."""
