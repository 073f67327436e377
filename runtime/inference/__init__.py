"""Ids in, rows of logits out: KV caches, passes and their bits, and what was read before.

Import `open_model`, `Decoder` (one text in one cache), `RememberedRows` (a decoder that answers again from what it
read) and `CachePool`. That a row has the same bits however it was asked for is kept here.
"""
