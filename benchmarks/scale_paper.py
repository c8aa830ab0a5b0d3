"""What a cluster takes for a hundred million photos, from what was measured here: `scale.py 1000 10000 --paper`."""

import os
import sys

import scale


def paper(told: list[scale.Told], nodes: int, cores: int, kilobytes: float, photos: int = 100_000_000) -> None:
    """What a cluster takes for so many photos, if a core there does what one does here, and prints what is assumed.

    hours = plan + photos / (rate per core * cores * nodes) + summary; plan and summary are made by one process, and
    take what they grow by from the fewest photos here to the most.
    """
    here, few, many = os.cpu_count() or 1, told[0], told[-1]
    more = many.photos - few.photos
    if not more:
        sys.exit("--paper needs two sizes")
    each = many.rate / here
    work = photos / (each * cores * nodes) / 3600
    start, end = (max(0.0, b - a) / more * photos / 3600 for a, b in ((few.start, many.start), (few.end, many.end)))
    traffic = each * cores * kilobytes / 1000
    print(
        f"\n{photos:,} photos, {nodes} nodes of {cores} cores; measured: {many.engine}, {few.photos} to {many.photos}"
    )
    print(f"  {each:.1f} photos a second per core (measured on {here}), {each * cores * nodes:,.0f} in all")
    print(f"  plan {start:.1f} h, work {work:.1f} h, summary {end:.1f} h")
    print(f"  {start + work + end:.1f} h, {nodes * (start + work + end):,.0f} node hours")
    print(f"  photos of {kilobytes:g} KB: {traffic:.0f} MB/s into each node, {traffic * nodes / 1000:.1f} GB/s in all")
    print(f"  {photos * many.size / 1e9:,.0f} GB of Parquet")
