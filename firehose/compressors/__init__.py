"""Compression of an object as a whole. One module each: a config class and the compressor it builds."""
