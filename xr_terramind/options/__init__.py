"""What a caller may choose, and where it comes from where nobody passes it.

`table` has a row per option: default, check, environment variable and help. `defaults` finds the
value that counts: explicit argument > `set_options` > ``XR_TERRAMIND_*`` >
``RS_EMBED_TERRAMIND_*`` > default. `show` writes the options into signatures and docstrings.
A new option is a row of the table, and a line of `EmbedKeywords` for static type checkers.
"""

from xr_terramind.options.defaults import resolve_options, set_options, setting
from xr_terramind.options.show import show_options
from xr_terramind.options.table import OPTIONS, EmbedKeywords, EmbedOptions, Output

__all__ = [
    "OPTIONS",
    "EmbedKeywords",
    "EmbedOptions",
    "Output",
    "resolve_options",
    "set_options",
    "setting",
    "show_options",
]
