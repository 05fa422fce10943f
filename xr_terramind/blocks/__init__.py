"""Windows, grouped into tasks and run in order; nothing here knows torch or xarray.

`windows` says which pixels each window reads and which patches it owns, `plan` which windows share
a task (a block), `graph` how blocks become a Dask graph. `order` sorts blocks so that what is read
is used up before more is read, `run` runs them, and `progress` counts them. `dask_tasks` is the
only file that touches Dask's private tasks.
"""
