"""``.terramind`` on embeddings, to look at them: documentation, one delegating line a method."""

from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    import geopandas as gpd


class ExploreMethods:
    """Pictures, maps and tables of embeddings: part of the accessor.

    Scikit-learn and geopandas are imported by the methods that need them.
    """

    _obj: Any

    def rgb_basis(self, *, robust: bool = True, seed: int = 0) -> xr.Dataset:
        """Fit the colours that `to_rgb` shows, to keep them and use them for other scenes.

        Parameters
        ----------
        robust : bool, default True
            Stretch each colour from its 2nd to its 98th percentile instead of its extremes.
        seed : int, default 0
            Chooses the cells that the principal components are fitted on, where there are many.

        Returns
        -------
        xarray.Dataset
            ``mean`` (feature), ``components`` (rgb, feature), ``low`` and ``high`` (rgb); it can
            be written to any file.

        Raises
        ------
        GridError
            Where there is no grid, or fewer than three cells with an embedding.
        """
        from xr_terramind.explore.rgb import rgb_basis

        return rgb_basis(self._obj, robust=robust, seed=seed)

    def to_rgb(
        self,
        method: str = "pca",
        *,
        basis: xr.Dataset | None = None,
        robust: bool = True,
        seed: int = 0,
    ) -> xr.DataArray:
        """Show the three strongest directions of an embedding as red, green and blue.

        Parameters
        ----------
        method : {"pca"}, default "pca"
            Principal components of the features.
        basis : xarray.Dataset, optional
            From `rgb_basis`: the same vector has the same colour in every scene. Without it one
            is fitted on a sample of the cells, for which those of a lazy embedding are computed.
        robust : bool, default True
            Stretch from the 2nd to the 98th percentile; a basis has its own stretch.
        seed : int, default 0

        Returns
        -------
        xarray.DataArray
            Dims ``([time,] y, x, rgb)``, 0 to 1, NaN where the embedding is; lazy where it is.
            ``.plot.imshow(rgb="rgb")`` draws it.

        Raises
        ------
        GridError
            Where there is no grid, fewer than three cells with an embedding, or a basis of
            another number of features.
        EngineError
            For another method.
        """
        from xr_terramind.explore.rgb import to_rgb

        return to_rgb(self._obj, method, basis=basis, robust=robust, seed=seed)

    def similarity(
        self, vector: Any = None, *, x: Any = None, y: Any = None, crs: Any = None
    ) -> xr.DataArray:
        """Map how alike all places are to one: the cosine of their vectors.

        Parameters
        ----------
        vector : array, shape (feature,) or (place, feature), optional
            What to compare with; a DataArray keeps its coordinates along ``place``.
        x, y : float or sequence of float, optional
            The place, or several, in place of `vector`: the vector of the patch that holds it, of
            each date where there are several.
        crs : any that pyproj reads, optional
            Of `x` and `y`, for example ``"EPSG:4326"`` for longitudes and latitudes; the
            embedding's own where it is left out.

        Returns
        -------
        xarray.DataArray
            float32, -1 to 1, dims ``([place,] [time,] y, x)``; NaN where the embedding is. Lazy
            where it is. Several places or vectors give the dim ``place``.

        Raises
        ------
        GridError
            For a place outside the grid or in a patch without data, a vector of another length,
            or neither place nor vector.
        """
        from xr_terramind.explore.similarity import similarity

        return similarity(self._obj, vector, x=x, y=y, crs=crs)

    def change(self, other: xr.DataArray) -> xr.DataArray:
        """Map how much two embeddings of the same grid differ: one less the cosine.

        Parameters
        ----------
        other : xarray.DataArray
            Of another date, for example; same grid, same model and layer. Where both have several
            dates they are the same ones; where one has, each of them is compared.

        Returns
        -------
        xarray.DataArray
            float32, 0 (the same direction) to 2, dims ``([time,] y, x)``; NaN where either is.
            Lazy where either is. Two single dates stand in the attrs ``date_from`` and
            ``date_to``.

        Raises
        ------
        GridError
            For another grid, other dates, or vectors of another model or layer.
        """
        from xr_terramind.explore.change import change

        return change(self._obj, other)

    def cluster(self, n: int, *, seed: int = 0) -> xr.DataArray:
        """Group patches whose vectors are alike: k-means.

        Parameters
        ----------
        n : int
            Number of clusters, from 2.
        seed : int, default 0
            The same seed gives the same labels.

        Returns
        -------
        xarray.DataArray
            int16 labels, dims ``([time,] y, x)``: 0 for the largest cluster of the sample that was
            fitted, and so on; -1 where the embedding is NaN. The coordinate ``category`` names
            them cell by cell, ``flag_values`` and ``flag_meanings`` as CF has it. Lazy where the
            embedding is, once the clusters are fitted.

        Raises
        ------
        GridError
            Where there is no grid, or fewer than `n` cells with an embedding.
        EngineError
            For an `n` that is no whole number from 2.
        """
        from xr_terramind.explore.cluster import cluster

        return cluster(self._obj, n, seed=seed)

    def sample(self, points: Any = None, *, lon: Any = None, lat: Any = None) -> "gpd.GeoDataFrame":
        """Look up the vectors at points.

        Parameters
        ----------
        points : geopandas.GeoDataFrame or GeoSeries, or array of shape (point, 2), optional
            In any CRS; an array holds longitudes and latitudes.
        lon, lat : array, optional
            Longitudes and latitudes in degrees, in place of `points`.

        Returns
        -------
        geopandas.GeoDataFrame
            A row a point (and a date, where there are several), in the points' own order, CRS and
            columns, with ``feature_0``, ``feature_1``, ... , ``valid_fraction`` and ``inside``;
            points outside the grid hold NaN, and a warning counts them.

        Raises
        ------
        GridError
            Where the embedding has no CRS or no grid, or the points have none.
        ImportError
            Without geopandas.
        """
        from xr_terramind.explore.sample import sample

        return sample(self._obj, points, lon=lon, lat=lat)

    def classify(
        self, points: Any, column: str, estimator: Any = None, *, seed: int = 0
    ) -> xr.Dataset:
        """Learn classes from labelled points, and map them.

        Parameters
        ----------
        points : geopandas.GeoDataFrame
            In any CRS; those outside the grid or on patches without data are left out, with a
            warning.
        column : str
            Which of its columns holds the labels.
        estimator : scikit-learn classifier, optional
            A copy of it is fitted. Logistic regression on standardised features by default.
        seed : int, default 0
            Of the folds, and of estimators that have a ``random_state`` which is not set.

        Returns
        -------
        xarray.Dataset
            ``label`` (int16, ``([time,] y, x)``), the number of the class in the coordinate
            ``category``, -1 where the embedding is NaN; and ``probability`` (float32,
            ``(category, [time,] y, x)``) where the estimator has it. Lazy where the embedding is.
            The attrs tell the accuracy of spatially blocked cross-validation: points of one block
            are never in the training and the test set at once, so that neighbours do not vouch
            for each other.

        Raises
        ------
        GridError
            For an embedding without grid or CRS, or labels that cannot be learned: one class only,
            none on the grid.
        ImportError
            Without geopandas.
        """
        from xr_terramind.explore.classify import classify

        return classify(self._obj, points, column, estimator, seed=seed)
