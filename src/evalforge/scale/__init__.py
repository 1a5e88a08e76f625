"""The same pure core on a distributed engine: archives and stored captures that outgrow one machine.

`partitions` is what a worker does with its part, without the engine: iterators in, counts out. `jobs` is Spark's side of it.
"""
