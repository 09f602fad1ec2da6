"""Compression of an object as a whole: for each form a module with its config class and the compressor it builds.

`streams`, `deflate`, `snappy_blocks` and `zip_format` hold what they share, or what their formats are made of.
"""
