"""The side of the caller: submit, wait, keep jobs. Never imports the worker."""
