"""Start the local Earth Engine by hand: ``python -m tests.support.earth_engine [--port 8080]``."""

from __future__ import annotations

import argparse
import threading

from tests.support.earth_engine import PROJECT, LocalEarthEngine
from tests.support.earth_engine.scenes import BANDS, DATES, TILES

_SNIPPET = """\
local Earth Engine at {url}, Ctrl-C stops it

    import ee
    from google.auth.credentials import AnonymousCredentials
    ee.Initialize(credentials=AnonymousCredentials(), url="{url}", project="{project}")

collections  {collections}
tiles        {tiles}
dates        {first:%Y-%m-%d} to {last:%Y-%m-%d}
try          point=(121.5, 31.2), start="2022-06-01", end="2022-09-01"

Initialize also asks a storage host. Without the internet, start Python with
    HTTPS_PROXY=http://127.0.0.1:9 NO_PROXY=127.0.0.1"""


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.earth_engine", description=__doc__
    )
    parser.add_argument("--port", type=int, default=0, help="where to listen (default: any free)")
    options = parser.parse_args(arguments)
    with LocalEarthEngine(options.port) as engine:
        print(
            _SNIPPET.format(
                url=engine.url,
                project=PROJECT,
                collections=", ".join(BANDS),
                tiles=", ".join(f"{tile.name} ({tile.crs})" for tile in TILES),
                first=DATES[0],
                last=DATES[-1],
            ),
            flush=True,
        )
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
