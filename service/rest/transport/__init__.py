"""What every request passes, whatever its path."""
