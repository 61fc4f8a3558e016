"""The side of the device: claim, run, answer. Never imports the front end."""
