"""What is deployed, and the few files of it that are made from the code."""
