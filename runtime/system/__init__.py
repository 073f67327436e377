"""The machine: its memory, large pages and processor. Imports nothing of this package."""
