"""The CPU path: folded weights and compiled loops."""
