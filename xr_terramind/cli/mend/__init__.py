"""What the command line is told about a file, by flags, and the flags that it asks for.

`mends` holds the flags and applies them to a cube, `bands` does so for ``--bands``, `remedies`
words the remedies of messages, which are Python, as flags.
"""
