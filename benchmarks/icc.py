"""Claim: the ICC of 1 million frames x 19 AUs, streamed in batches, in under 2 s and constant memory, exact.

    python -m benchmarks.icc [--rows 1000000] [--columns 19] [--batch 2048] [--offset 0] [--threads 1]

Batches are made on the fly and only ``update`` and ``compute`` are timed. The memory that the process gained (largest
resident set after a tenth of the rows against after all) must not grow with the rows. ``--check`` keeps all rows and
compares with the two-pass ``icc``, column by column.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from torch import Tensor

from lit_faces.metrics.icc import StreamingICC, icc


def batch_of(rows: int, columns: int, offset: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    labels = offset + 5 * torch.rand(rows, columns, generator=generator, dtype=torch.float64)
    predictions = labels + 0.5 + torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    labels[:, 0].masked_fill_(torch.rand(rows, generator=generator) < 0.1, float("nan"))
    return labels, predictions


def largest_memory() -> float:
    """MB, the most that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=19)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--offset", type=float, default=0.0, help="added to all values")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    metric, generator = StreamingICC(args.columns), torch.Generator().manual_seed(0)
    spent, at_a_tenth, kept = 0.0, 0.0, []
    for start in range(0, args.rows, args.batch):
        labels, predictions = batch_of(min(args.batch, args.rows - start), args.columns, args.offset, generator)
        begin = time.perf_counter()
        metric.update(labels, predictions)
        spent += time.perf_counter() - begin
        if args.check:
            kept.append(torch.stack([labels, predictions], -1))
        if start <= args.rows // 10:
            at_a_tenth = largest_memory()
    begin = time.perf_counter()
    values = metric.compute()
    spent += time.perf_counter() - begin
    state = metric.moments.numel() * metric.moments.element_size()
    print(f"{args.rows:,} rows x {args.columns} columns in batches of {args.batch}, {args.threads} thread(s)")
    print(f"{spent:.2f} s; state {state:,} bytes; memory grew by {largest_memory() - at_a_tenth:.1f} MB after a tenth")
    if args.check:
        table = torch.cat(kept)
        error = max(abs(icc(table[:, c]) - float(values[c])) for c in range(args.columns))
        print(f"largest difference from the two-pass ICC: {error:.1e}")


if __name__ == "__main__":
    main()
