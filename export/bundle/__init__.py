"""The bundle: each model's record is made, its files written beside and then renamed."""
