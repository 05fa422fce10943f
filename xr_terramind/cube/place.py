"""What is doubtful about a cube's place: what contradicts its coordinates, and what is missing."""

from collections.abc import Iterator

import numpy as np
import xarray as xr
from affine import Affine
from rasterio.crs import CRS

from xr_terramind.cube.caller import AS_USUAL, Caller
from xr_terramind.cube.geometry import (
    PixelGrid,
    find_crs,
    list_codes,
    number_pixels,
    pixel_size_m,
    read_centres,
    starts_at_first,
)
from xr_terramind.cube.report import Issue, make_warning
from xr_terramind.cube.transforms import (
    DEGREES_2D,
    TOLERANCE_PX,
    find_place,
    find_places_2d,
    find_shift,
    find_transforms,
    is_identity,
    name_utm,
    read_points,
    write_affine,
    write_crs,
)

PIXEL_SIZE_M = 10.0
"""Ground sampling distance of the images that TerraMind was pretrained on."""

_PIXEL_SIZE_TOLERANCE = 0.1

_TO_A_TENTH = "pixel centres that agree to a tenth of a pixel"


def place_issues(array: xr.DataArray, grid: PixelGrid, caller: Caller) -> Iterator[Issue]:
    """Say what is doubtful about where a cube lies."""
    crs = find_crs(array)
    issues = list(_transform_issues(array, grid, caller))
    yield from issues
    if not grid.is_located:
        # Where pixel numbers stand beside a transform, that has been said.
        yield from [] if issues else [_say_no_place(array, crs, caller)]
    elif grid.crs is None:
        yield _say_no_crs(array, grid, caller)
    else:
        yield from _size_issues(array, grid, caller)
        yield from _longitude_issues(array, grid, caller)
        yield from _point_issues(array, grid)


def _say_no_crs(array: xr.DataArray, grid: PixelGrid, caller: Caller) -> Issue:
    x, y = caller.x, caller.y
    turned = [f"{y} rises"] * (grid.dy > 0) + [f"{x} falls"] * (grid.dx < 0)
    kept = f"{x} and {y} are kept all the same"
    if grid.north == 0 and turned:
        although = f"although {' and '.join(turned)} from pixel to pixel"
        kept += f". Until then the first row is the top: nothing is turned, {although}"
    return make_warning(
        "no-crs",
        "no CRS",
        "an EPSG code, so that the embedding knows where it lies",
        f"{_say_write_crs(array, caller)} {kept}.",
    )


def _say_write_crs(array: xr.DataArray, caller: Caller) -> str:
    codes, name = list_codes(array), array.encoding.get("grid_mapping")
    name = name or array.attrs.get("grid_mapping")
    if codes:
        named = f"{', '.join(codes)} are named: write the right one"
        return f"{named} with cube.rio.write_crs('EPSG:...');"
    if name is not None and name not in array.coords:
        return (
            "Write it with cube.rio.write_crs('EPSG:...'), or open the file with "
            f"decode_coords='all', which brings its variable {name!r} along;"
        )
    code = "EPSG:4326" if caller.y.lower() in ("lat", "latitude") else "EPSG:..."
    return f"Write it with cube.rio.write_crs({code!r});"


def _say_no_place(array: xr.DataArray, crs: CRS | None, caller: Caller) -> Issue:
    present = [f"{name!r}" for dim, name in caller.axes if dim in array.coords]
    pair = find_places_2d(array)
    if pair:
        found = f"coordinates {pair[0]} and {pair[1]} of two dimensions, and none along rows"
        remedy = _warp_2d(array, pair, crs, caller)
    else:
        found = _describe_numbers(array, caller) if present else "no coordinates"
        dropped = f".drop_vars([{', '.join(present)}])" if present else ""
        cube = caller.named.replace("cube", f"cube{dropped}", 1)
        cube += "" if crs else ".rio.write_crs('EPSG:...')"
        remedy = (
            f"Write where it lies with {cube}.rio.write_transform("
            "Affine(10, 0, west, 0, -10, north)), for pixels of 10 m."
        )
    found = f"{found}, in {_name(crs)}" if crs else f"no CRS, and {found}"
    expected = "pixel centres along rows and columns, and their CRS"
    until = " Until then it is an image without a place, and its first row is the top."
    return make_warning("no-place" if crs else "no-crs", found, expected, remedy + until)


def _name(crs: CRS) -> str:
    return str(crs.to_string())[:60]


def _describe_numbers(array: xr.DataArray, caller: Caller) -> str:
    spans = []
    for dim, name in caller.axes:
        centres = read_centres(array, dim, caller)
        if centres is not None:
            spans.append(f"{name} from {centres[0]:g} to {centres[-1]:g}")
    if len(spans) < 2:
        return f"coordinates along one axis alone ({', '.join(spans)})"
    return f"coordinates that only number the pixels ({', '.join(spans)})"


def _warp_2d(array: xr.DataArray, pair: tuple[str, str], crs: CRS | None, caller: Caller) -> str:
    # GDAL warps by arrays of places; their own CRS goes before.
    x, y = (array.coords[name] for name in pair)
    lonlat = tuple(name.lower() for name in pair) in DEGREES_2D
    own = CRS.from_epsg(4326) if lonlat else crs
    utm = None
    if own is not None and x.chunks is None and y.chunks is None:  # nothing is computed for it
        middle = {dim: size // 2 for dim, size in array.sizes.items() if dim in ("y", "x")}
        utm = name_utm(own, float(x.isel(middle)), float(y.isel(middle)))
    cube = caller.ready
    arrays = ", ".join(f"{cube}.{name}.values" for name in pair)
    code = "'EPSG:4326'" if lonlat else write_crs(crs, cube) if crs else "'EPSG:...'"
    return (
        f"Warp it with {cube}.rio.write_crs({code}).rio.reproject('{utm or 'EPSG:...'}', "
        f"resolution=10, src_geoloc_array=({arrays}))."
    )


def _size_issues(array: xr.DataArray, grid: PixelGrid, caller: Caller) -> Iterator[Issue]:
    size = pixel_size_m(grid, (array.sizes["y"], array.sizes["x"]))
    if size and any(abs(edge / PIXEL_SIZE_M - 1) > _PIXEL_SIZE_TOLERANCE for edge in size):
        yield make_warning(
            "pixel-size",
            f"pixels of {size[0]:.4g} x {size[1]:.4g} m on the ground",
            f"{PIXEL_SIZE_M:g} m, as TerraMind was trained on",
            f"Resample with {_warp_to_10_m(array, grid, size, caller)}.",
        )


def _warp_to_10_m(
    array: xr.DataArray, grid: PixelGrid, size: tuple[float, float], caller: Caller
) -> str:
    # In its own CRS where that measures metres on the ground, else in the UTM zone of its centre.
    assert grid.crs is not None  # there is no size without one
    cube = caller.ready + ("" if array.rio.crs else f".rio.write_crs({write_crs(grid.crs)})")
    metric = all(
        abs(abs(step) / edge - 1) < 0.01
        for step, edge in zip((grid.dx, grid.dy), size, strict=True)
    )
    utm = None if metric else name_utm(grid.crs, *_centre(array, grid))
    target = f"'{utm}'" if utm else write_crs(grid.crs, cube)
    return f"{cube}.rio.reproject({target}, resolution=10)"


def _centre(array: xr.DataArray, grid: PixelGrid) -> tuple[float, float]:
    height_px, width_px = array.sizes["y"], array.sizes["x"]
    return grid.x0 + grid.dx * (width_px - 1) / 2, grid.y0 + grid.dy * (height_px - 1) / 2


def _longitude_issues(array: xr.DataArray, grid: PixelGrid, caller: Caller) -> Iterator[Issue]:
    if grid.crs is None or not grid.crs.is_geographic:
        return
    ends = grid.x0, grid.x0 + grid.dx * (array.sizes["x"] - 1)
    east, west = max(ends) + abs(grid.dx) / 2, min(ends) - abs(grid.dx) / 2
    if east <= 180 + abs(grid.dx) or east > 360 + abs(grid.dx):
        return
    if west < 180 - abs(grid.dx):
        utm = name_utm(grid.crs, *_centre(array, grid))
        remedy = f"Resample with {caller.ready}.rio.reproject('{utm}', resolution=10)."
    elif "x" in array.coords:
        remedy = f"Write them so with cube.assign_coords({caller.x}=cube.{caller.x} - 360)."
    else:
        place = Affine(grid.dx, 0, grid.x0 - grid.dx / 2 - 360, 0, grid.dy, grid.y0 - grid.dy / 2)
        remedy = f"Write them so with {caller.named}.rio.write_transform({write_affine(place)})."
    yield make_warning(
        "longitudes",
        f"longitudes from {west:.6g} to {east:.6g}",
        "-180 to 180, as points and tables have them: these would miss the embedding",
        remedy + " The labels are kept as they are.",
    )


def _transform_issues(array: xr.DataArray, grid: PixelGrid, caller: Caller) -> Iterator[Issue]:
    # What is written in two places is said once, and its remedy rewrites both.
    told: dict[Affine, list[str]] = {}
    for where, affine in find_transforms(array, caller).items():
        if not is_identity(affine):
            told.setdefault(affine, []).append(where)
    for affine, places in told.items():
        issue = _compare_transform(array, grid, places, affine, caller)
        if issue:
            yield issue


def _compare_transform(
    array: xr.DataArray, grid: PixelGrid, told: list[str], affine: Affine, caller: Caller
) -> Issue | None:
    where = told[0]
    if number_pixels(array, caller):
        return _say_numbers(array, where, affine, caller)
    width_px, height_px = array.sizes["x"], array.sizes["y"]
    xs = grid.x0 + grid.dx * np.arange(width_px)
    ys = grid.y0 + grid.dy * np.arange(height_px)
    period = 360 if grid.crs is not None and grid.crs.is_geographic else None
    shift_x = find_shift(xs, affine.c, affine.a, period)
    shift_y = find_shift(ys, affine.f, affine.e)
    if shift_x == shift_y == 0:
        return None
    places = f"{caller.x}={grid.x0:.10g} and {caller.y}={grid.y0:.10g}"
    own = f"{caller.x} and {caller.y}"
    right = f"Where {own} are right, write their transform: {_write_own(told, caller)}."
    if np.isnan(shift_x + shift_y):
        found = (
            f"{places} in steps of {grid.dx:.6g} and {grid.dy:.6g} for the first pixel, where "
            f"{where} has {affine.c + affine.a / 2:.10g} and {affine.f + affine.e / 2:.10g} "
            f"in steps of {affine.a:.6g} and {affine.e:.6g}"
        )
        expected = "a selection of the pixels that the transform describes"
        drop = f"drop them: cube.drop_vars([{caller.x!r}, {caller.y!r}])"
        remedy = f"{right} Where the transform is right, {drop}."
        return make_warning("place-differs", found, expected, remedy)
    off_px = abs(shift_x / affine.a), abs(shift_y / affine.e)
    is_half = any(abs(off - 0.5) <= TOLERANCE_PX for off in off_px)
    found = (
        f"{places} for the first pixel, where {where} puts its centre at "
        f"{grid.x0 + shift_x:.10g} and {grid.y0 + shift_y:.10g}: "
        + (
            "half a pixel off, as coordinates of corners are"
            if is_half
            else f"{off_px[0]:.2g} and {off_px[1]:.2g} pixels off"
        )
    )
    move = f"Where the transform is right, move them: {_write_move(shift_x, shift_y, caller)}."
    remedy = f"{move} {right} Until then they are used as they are."
    return make_warning("place-differs", found, _TO_A_TENTH, remedy)


def _write_move(shift_x: float, shift_y: float, caller: Caller) -> str:
    moves = [
        f"{name}=cube.{name} {'+' if shift > 0 else '-'} {abs(shift):.12g}"
        for name, shift in ((caller.x, shift_x), (caller.y, shift_y))
        if shift
    ]
    return f"cube.assign_coords({', '.join(moves)})"


def _write_own(told: list[str], caller: Caller) -> str:
    # write_transform() computes it from the coordinates, and drops attrs["transform"].
    attrs = [where[6:-1] for where in told if where.startswith("attrs")]
    cube = caller.named
    if "'transform'" in attrs and caller.keeps_transforms:
        cube += ".map(lambda band: band.rio.write_transform())"
    elif len(attrs) < len(told) or "'transform'" in attrs:
        cube += ".rio.write_transform()"
    own = f"{caller.named}.rio.transform(recalc=True)"
    for name in attrs:
        if name != "'transform'":
            order = ".to_gdal()" if "Geo" in name else "[:6]"
            cube += f".assign_attrs({{{name}: {own}{order}}})"
    return cube


def _say_numbers(array: xr.DataArray, where: str, affine: Affine, caller: Caller) -> Issue:
    found = (
        f"{_describe_numbers(array, caller)}, where {where} puts the centre of the first pixel at "
        f"{affine.c + affine.a / 2:.10g} and {affine.f + affine.e / 2:.10g}"
    )
    if starts_at_first(array, caller):
        remedy = (
            f"The transform is used: drop them with cube.drop_vars([{caller.x!r}, {caller.y!r}])."
        )
    else:
        x, y = _write_counts(array, affine, caller)
        remedy = (
            "Until then it is an image without a place, and its first row is the top. Where they "
            f"count from 0, write centres with cube.assign_coords({x}, {y})."
        )
    return make_warning("place-differs", found, "pixel centres in the cube's CRS", remedy)


def _write_counts(array: xr.DataArray, affine: Affine, caller: Caller) -> Iterator[str]:
    starts, steps = (affine.c, affine.f), (affine.a, affine.e)
    for (dim, name), start, step in zip(caller.axes, starts, steps, strict=True):
        centres = read_centres(array, dim, caller)
        assert centres is not None  # only coordinates can number pixels
        number = f"(cube.{name} + 0.5)" if centres[0] == round(centres[0]) else f"cube.{name}"
        yield f"{name}={start:.12g} {'-' if step < 0 else '+'} {abs(step):.12g} * {number}"


def _point_issues(array: xr.DataArray, grid: PixelGrid) -> Iterator[Issue]:
    # The points count the rows and columns of the file, and so does the transform beside them.
    points = read_points(array)
    stored = find_place(array, AS_USUAL)
    size = array.sizes
    if stored is None and any(p.row > size["y"] or p.col > size["x"] for p in points):
        return  # a selection was made since
    own = Affine(grid.dx, 0, grid.x0 - grid.dx / 2, 0, grid.dy, grid.y0 - grid.dy / 2)
    affine = stored or own
    off = [
        max(abs(p.col - (p.x - affine.c) / affine.a), abs(p.row - (p.y - affine.f) / affine.e))
        for p in points
    ]
    if not off or max(off) <= TOLERANCE_PX:
        return
    p = points[int(np.argmax(off))]
    found = (
        f"a ground control point at {p.x:.10g} and {p.y:.10g} for row {p.row:g} and column "
        f"{p.col:g}, where the coordinates have {affine.a * p.col + affine.c:.10g} and "
        f"{affine.e * p.row + affine.f:.10g}"
    )
    remedy = (
        "The coordinates are used as they are: drop the points with "
        "cube.rio.write_gcps([], cube.rio.crs)."
    )
    yield make_warning("place-differs", found, _TO_A_TENTH, remedy)
