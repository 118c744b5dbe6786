"""The functions for people who write Python: each does what its command does."""
