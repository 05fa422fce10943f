"""Every check says what was found, what was expected and what to do; what fits passes them all."""

import numpy as np
import pytest
import xarray as xr

import xr_terramind as xtm
from xr_terramind.cube.transforms import read_transform
from xr_terramind.result.cells import north_up
from xr_terramind.result.check import check_grid, check_image, check_made_by_embed, check_storable


def grid(*dims: str) -> xr.DataArray:
    """An embedding north up, of two features, three rows and four columns, without data yet."""
    sizes = {"time": 2, "feature": 2, "y": 3, "x": 4}
    dims = dims or ("feature", "y", "x")
    return xr.DataArray(
        np.zeros([sizes[dim] for dim in dims], np.float32),
        dims=dims,
        coords={"y": 40.0 - 10 * np.arange(3), "x": 10.0 * np.arange(4)},
        attrs={"model": "terramind", "model_key": "terramind_v1_tiny"},
    ).rio.write_crs("EPSG:32632")


def test_an_embedding_passes_all():
    check_grid(grid(), with_crs=True)
    check_grid(grid("time", "feature", "y", "x"))
    check_made_by_embed(grid(), "feature", "y", "x")
    check_storable(grid("time", "feature", "y", "x"))
    check_image(grid())


@pytest.mark.parametrize(
    ("check", "change", "words"),
    [
        (check_grid, lambda e: e.isel(y=0), r"found dimensions \('feature', 'x'\); .* y and x"),
        (check_grid, lambda e: e.to_dataset(name="e"), r"found a Dataset .*ds\[.embedding.\]"),
        (check_grid, lambda e: e.values, r"found a ndarray with .*embed\(output='grid'\)"),
        (check_grid, lambda e: e.astype("int8"), r"of int8; expected .* floats.*dequantize\(\)"),
        (check_grid, lambda e: e.isel(feature=[]), "vectors of 0 features"),
        (check_storable, lambda e: e.drop_attrs(), "without the attributes .*model_key.*keep_attr"),
        (check_storable, lambda e: e.isel(feature=0), "without the dimension 'feature'"),
        (check_storable, lambda e: e.isel(y=[]), "an empty embedding of shape .*one vector"),
        (check_made_by_embed, lambda e: e.drop_attrs(), "without the attributes that embed writes"),
        (check_image, lambda e: e.isel(y=0, x=0), "pooled vector goes to Zarr or NetCDF"),
        (check_image, lambda e: e.expand_dims(time=2), "time series of 2 dates; expected one date"),
        (check_image, lambda e: e.isel(x=[0, 1, 3], y=[0, 2, 1]), "coordinate y .*sortby"),
        (check_image, lambda e: e.isel(x=[0, 1, 3]), "not evenly spaced along x"),
        (check_image, lambda e: e.isel(x=[0], y=[0]), "a single cell without a transform"),
    ],
)
def test_what_does_not_fit(check, change, words):
    with pytest.raises(xtm.GridError, match=words):
        check(change(grid()))


@pytest.mark.parametrize("y_step", [1, -1])
@pytest.mark.parametrize("x_step", [1, -1])
def test_north_up_turns_what_runs_otherwise(y_step, x_step):
    turned = grid().isel(y=slice(None, None, y_step), x=slice(None, None, x_step))
    xr.testing.assert_identical(north_up(turned), grid())


def test_the_transform_is_read_as_gdal_writes_it():
    assert read_transform(grid()) is None
    written = grid().rio.write_transform()
    assert read_transform(written) == written.rio.transform()
    for text, words in (("1 2 3", "six finite numbers"), ("0 1 1 0 0 1", "rotated")):
        written.spatial_ref.attrs["GeoTransform"] = text
        with pytest.raises(xtm.GridError, match=words):
            read_transform(written)
