"""``mnctl``, the client command line: noun, then verb. Reads ``main`` first, ``kinds`` for what the nouns
are.
"""
