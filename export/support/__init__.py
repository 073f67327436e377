"""Faults in one line, progress, interrupts, locks, scratch folders: for all of the export, and importing none of it."""
