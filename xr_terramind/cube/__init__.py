"""Any cube, checked and brought into the model's order.

`datasets` takes the array of bands out of a Dataset, and notes how its `caller` writes it, so that
remedies work on it as it is. `dims` finds band, y, x and time among the dimensions, `bands` matches
the many names that bands have, `geometry` finds where the pixels lie: `transforms` stand beside the
coordinates, and `place` says what is doubtful. `check` puts these together and collects all that is
wrong: the outcome is a `Cube` (`arrange`) with the bands in the model's order, and a report
(`report`, as text and as HTML). `values` judges raw pixels by the unit of the training data.
"""
