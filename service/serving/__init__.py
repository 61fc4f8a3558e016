"""What a caller asks for: predictions, streams, jobs, clips. Knows no device and no transport."""
