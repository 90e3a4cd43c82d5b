"""Run measurements: `python -m tests.bench [GROUP ...]`, groups: wire wake heap flash latency throughput hub, and
fleet, which takes ten minutes and runs only when it is named."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from . import flash_wear, node_heap, wake_cycle, wake_time, wire_sizes
from .report import Result, table, write_json

OUTPUT = Path("build/bench.json")
GROUPS = ("wire", "wake", "heap", "flash", "latency", "throughput", "hub")
LONG_GROUPS = ("fleet",)


def main() -> int:
    chosen = sys.argv[1:] or list(GROUPS)
    unknown = [name for name in chosen if name not in GROUPS + LONG_GROUPS]
    if unknown:
        print(f"error: no group {unknown[0]}\nhint: one of {', '.join(GROUPS + LONG_GROUPS)}", file=sys.stderr)
        return 2
    results: list[Result] = []
    for name in chosen:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        if name == "wire":
            results += wire_sizes.measure()
        elif name == "wake":
            results += wake_cycle.measure()
            results += asyncio.run(wake_time.measure())
        elif name == "heap":
            results += node_heap.measure()
        elif name == "flash":
            results += flash_wear.measure()
        elif name == "latency":
            from . import latency

            results += asyncio.run(latency.measure())
        elif name == "hub":
            from . import hub_link

            results += asyncio.run(hub_link.measure())
        elif name == "fleet":
            from . import fleet

            results += asyncio.run(fleet.measure())
        else:
            from . import throughput

            results += asyncio.run(throughput.measure())
    print(table(results))
    write_json(results, OUTPUT)
    print(f"\nas JSON: {OUTPUT}", file=sys.stderr)
    missed = [result.name for result in results if result.is_met is False]
    if missed:
        print(f"budgets missed: {'; '.join(missed)}", file=sys.stderr)
    return 0


sys.exit(main())
