"""How alike a block that is embedded again has to be, where the Dask name does not vouch for it."""

import numpy as np
import pytest
import xarray as xr

import xr_terramind as xtm
from tests.support.cubes import embed, scene


def moved(embedding: xr.DataArray, by: float) -> xr.DataArray:
    """The same embedding but for a little, and under another name of Dask's."""
    return embedding.copy(data=embedding.data + np.float32(by))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_what_engines_differ_by_is_gone_on_with_and_what_cubes_differ_by_is_not(tmp_path, dtype):
    store = tmp_path / "e.zarr"
    embedding = embed(scene(64, 64).chunk({"y": 32, "x": 32}))
    written = embedding.terramind.to_zarr(store, dtype=dtype).compute()
    # Engines agree to 1e-4 in float32; bfloat16, and the slightest other cube, differ by more.
    again = moved(embedding, 1e-4).terramind.to_zarr(store, dtype=dtype, resume=True)
    xr.testing.assert_identical(again.compute(), written)
    for by in (1e-3, -1e-2, 0.1):
        with pytest.raises(xtm.StoreError, match="embedded again differs"):
            moved(embedding, by).terramind.to_zarr(store, dtype=dtype, resume=True)
