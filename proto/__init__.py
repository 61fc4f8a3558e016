"""The two contracts on the wire, and the code generated from them by scripts/proto. Never edited by hand below here."""
