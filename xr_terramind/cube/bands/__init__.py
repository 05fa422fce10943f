"""Bands: which is which, in which order, and where they hold no data.

`names` knows the many names of a band, `match` finds the model's bands by them and puts them in
order, `remedies` says what to do where they do not fit. `nodata` finds pixels without data,
`lacking` bands that have none where others do.
"""

from xr_terramind.cube.bands.lacking import lacking_issues
from xr_terramind.cube.bands.match import arrange_bands, match_bands
from xr_terramind.cube.bands.names import band_names, band_of
from xr_terramind.cube.bands.nodata import (
    belonging,
    drop_nodata,
    invalid_pixels,
    nodata_values,
    share_nodata,
)
from xr_terramind.cube.bands.remedies import subset_issues

# fmt: off
__all__ = ["arrange_bands", "band_names", "band_of", "belonging",
           "drop_nodata", "invalid_pixels", "lacking_issues", "match_bands", "nodata_values",
           "share_nodata", "subset_issues"]
