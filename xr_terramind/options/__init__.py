"""What a caller may choose, and where a value comes from when nobody passes it.

`table` has a row per option: default, check, environment variable and help. `defaults` finds the
value that counts: explicit argument > `set_options` > ``XR_TERRAMIND_*`` >
``RS_EMBED_TERRAMIND_*`` > default. `show` writes the options into signatures and docstrings.
A new option is a row of the table, and a line of `EmbedKeywords` for static type checkers.
"""

from xr_terramind.options.defaults import resolve_options, set_options, setting
from xr_terramind.options.show import show_options
from xr_terramind.options.table import OPTIONS, EmbedKeywords, EmbedOptions

# fmt: off
__all__ = ["OPTIONS", "EmbedKeywords", "EmbedOptions", "resolve_options", "set_options", "setting",
           "show_options"]
