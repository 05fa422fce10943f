"""Any cube, checked and brought into the model's order.

`dims` finds band, y, x and time among the dimensions, `bands` matches the many names that bands
have, `geometry` finds where the pixels lie. `arrange` puts the three together: a `Cube` with the
model's bands in the model's order. `values` judges raw pixels by the unit that the model was
trained on; `check` collects all that is wrong, and `report` says it as text and as HTML.
"""
