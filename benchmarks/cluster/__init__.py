"""A whole cluster on this machine, whose parts are killed while clients ask it."""
