"""``xr-terramind``: check, plan and embed cubes in files, without writing Python."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
import xarray as xr
from dask.utils import format_bytes
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import xr_terramind as xtm
from xr_terramind.cli import look
from xr_terramind.cli.flags import add_flags, add_mends
from xr_terramind.cli.mend.mends import Mends
from xr_terramind.cli.messages import ReadableGroup, console
from xr_terramind.cli.read import open_cube, open_source
from xr_terramind.cli.write import check_embedding, check_target, write_embedding
from xr_terramind.options import EmbedKeywords

app = typer.Typer(
    cls=ReadableGroup,
    help="TerraMind embeddings of satellite cubes. Try [bold]xr-terramind demo[/bold] first: "
    "it needs no data. Shell completion: [bold]xr-terramind --install-completion[/bold].",
    epilog="Examples:\n\nxr-terramind demo\n\nxr-terramind check s2.tif\n\n"
    "xr-terramind embed s2.tif embedding.zarr\n\nxr-terramind rgb embedding.zarr picture.png",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Flag = typer.Option
Source = Annotated[Path, typer.Argument(metavar="IN", help="A .tif, .nc or .zarr.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xr-terramind {xtm.__version__}")
        raise typer.Exit


@app.callback()
def _read_program_flags(
    version: Annotated[
        bool, Flag("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: xr-terramind demo --size 448")
@add_flags("model", "weights")
def demo(
    folder: Annotated[Path, Flag(help="Folder for the results.")] = Path("demo"),
    size: Annotated[int, Flag(min=64, help="Edge of the scene in pixels of 10 m.")] = 1120,
    **options: Any,
) -> None:
    """Embed a synthetic scene: shows within a minute that all works, and what comes out."""
    from xr_terramind.cli.demo import draw_overview

    started_s = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    target, picture = folder / "embedding.zarr", folder / "overview.png"
    scene = xtm.sample_scene(size, chunks={"y": 512, "x": 512})
    typer.echo(scene.terramind.check())
    typer.echo(scene.terramind.plan(**options))
    try:
        embedding = _make_embedding(scene, options, target)
    except xtm.WeightsError as error:
        if "weights" in options:
            raise
        _warn_of_random_weights(error)
        embedding = scene.terramind.embed(**options, weights="random")
    _write(embedding, target)
    with open_cube(target) as written:
        draw_overview(scene, written["embedding"], picture)
    typer.echo(f"wrote {picture}: true colour beside the principal components of the embedding")
    typer.echo(f"done in {time.perf_counter() - started_s:.1f} s: success")


def _warn_of_random_weights(error: xtm.WeightsError) -> None:
    warning = (
        "The pretrained weights cannot be fetched, so the demo goes on with RANDOM weights.\n"
        "What it writes only shows the plumbing: the vectors mean nothing.\n\n"
    )
    text = Text.assemble((warning, "bold"), str(error))
    console.print(Panel(text, title="RANDOM WEIGHTS", border_style="bold red", width=100))


@app.command(epilog="Example: xr-terramind check s2.tif")
@add_mends
@add_flags("modality", "missing_bands", "fit", "window_size")
def check(
    source: Source,
    mends: Mends,
    sample: Annotated[int | None, Flag(min=1, help="Windows to read for the values.")] = None,
    **options: Any,
) -> None:
    """Say what is wrong with a cube and what to do about it; exit code 1 where it is an error."""
    with open_source(source, mends, options) as opened, xtm.set_options(**options):
        report = opened.reword_report(opened.cube.terramind.check(sample))
    typer.echo(report)
    raise typer.Exit(0 if report.ok else 1)


@app.command(epilog="Example: xr-terramind plan s2.tif --model terramind_v1_base --overlap 64")
@add_mends
@add_flags("output", "model", "modality", "missing_bands", "fit", "window_size", "overlap")
def plan(
    source: Source,
    mends: Mends,
    calibrate: Annotated[
        bool, Flag("--calibrate", help="Measure for two seconds how long it would take here.")
    ] = False,
    **options: Any,
) -> None:
    """Say what embed would run: windows, tasks, memory, size of the output. Nothing is computed."""
    with open_source(source, mends, options) as opened:
        typer.echo(opened.cube.terramind.plan(**options, calibrate=calibrate))


@app.command(
    epilog="Examples:\n\n"
    "xr-terramind embed s2.tif embedding.zarr\n\n"
    "xr-terramind embed s2.tif embedding.zarr --resume\n\n"
    "xr-terramind embed s2.tif embedding.zarr --dtype int8\n\n"
    "xr-terramind embed reflectance.nc embedding.zarr --scale 10000 --nodata -9999\n\n"
    "xr-terramind embed s2.nc embedding.tif --model terramind_v1_base --overlap 64\n\n"
    "xr-terramind embed s2.zarr vector.nc --output pooled --pooling max"
)
@add_mends
@add_flags("output", *EmbedKeywords.__annotations__)
def embed(
    source: Source,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A .zarr, .nc or .tif.")],
    mends: Mends,
    overwrite: Annotated[bool, Flag("--overwrite", help="Replace OUT where it exists.")] = False,
    resume: Annotated[
        bool, Flag("--resume", help="Go on with a .zarr that was begun: only what is missing.")
    ] = False,
    dtype: Annotated[
        str, Flag(metavar="float32|int8", help="Of a .zarr; int8 has one scale per vector.")
    ] = "float32",
    **options: Any,
) -> None:
    """Embed a cube block by block and write the embedding."""
    started_s = time.perf_counter()
    check_target(target, source, overwrite=overwrite, resume=resume, dtype=dtype)
    with open_source(source, mends, options) as opened:
        embedding = _make_embedding(opened.cube, options, target)
        _write(embedding, target, resume=resume, dtype=dtype)
    typer.echo(f"done in {time.perf_counter() - started_s:.1f} s")


def _make_embedding(cube: Any, options: dict[str, Any], target: Path) -> xr.DataArray:
    embedding: xr.DataArray = cube.terramind.embed(**options)
    check_embedding(embedding, target)
    if embedding.attrs["weights"] == "pretrained" and not embedding.attrs["weights_sha256"]:
        # Not on this machine yet. The first block would fetch them too, but an embedding that is
        # made afterwards knows their checksum.
        xtm.download(embedding.attrs["model_key"])
        embedding = cube.terramind.embed(**options)
    return embedding


def _write(
    embedding: xr.DataArray, path: Path, *, resume: bool = False, dtype: str = "float32"
) -> None:
    write_embedding(embedding, path, console, resume=resume, dtype=dtype)
    n_bytes = embedding.nbytes
    if dtype == "int8":
        n_bytes = sum(array.nbytes for array in embedding.terramind.quantize().values())
    shape = " x ".join(f"{dim} {size:,}" for dim, size in embedding.sizes.items())
    typer.echo(f"wrote {path}: {shape}, {format_bytes(n_bytes)}")
    if embedding.attrs["weights"] == "random":
        typer.echo("its weights are random: the vectors mean nothing")


app.command(epilog="Example: xr-terramind info embedding.zarr")(look.info)
app.command(
    epilog="Examples:\n\nxr-terramind rgb embedding.zarr picture.png\n\n"
    "xr-terramind rgb series.zarr june.tif --date 2022-06-15"
)(look.rgb)
app.command(
    epilog="Examples:\n\nxr-terramind similarity embedding.zarr alike.tif --lon 8.1 --lat 55.5\n\n"
    "xr-terramind similarity embedding.zarr alike.png --x 445000 --y 6155000"
)(look.similarity)


@app.command(epilog="Example: xr-terramind models")
def models() -> None:
    """List the encoders, and which of them are on this machine."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")  # fits 80 columns
    table.add_column("model", no_wrap=True)
    table.add_column("features", justify="right")
    table.add_column("weights", justify="right")
    table.add_column("hub", overflow="fold")
    table.add_column("here")
    for row in xtm.list_models().reset_index().to_dict("records"):
        millions = f"{row['parameters'] / 1e6:.1f} M"
        here = "yes" if row["cached"] else "no"
        table.add_row(row["model"], str(row["features"]), millions, row["hub_id"], here)
    Console().print(table)


@app.command(epilog="Example: xr-terramind download terramind_v1_base")
def download(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="See xr-terramind models.")
    ] = None,
) -> None:
    """Fetch pretrained weights from the Hugging Face hub, and print where they lie."""
    typer.echo(xtm.download(model))


def main() -> None:
    """Run the command line."""
    app()
