"""``mnctl``, the client command line: noun, then verb. Read ``main`` first, ``kinds`` for what the nouns
are.
"""
