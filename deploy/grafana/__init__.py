"""The dashboard, made from a table of panels."""
