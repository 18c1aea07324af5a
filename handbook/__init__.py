"""The handbook's generated parts: what the program says of itself, as Markdown.

A page of ``docs/`` has a line ``<!-- generated: NAME -->`` where such a part stands; ``hook.py``
puts it there when the site is built. Nothing here is part of the installed package.
"""
