"""How much memory the tensors of a call take at its peak."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from torch.profiler import ProfilerActivity, profile


def peak_memory(call: Callable[[], object]) -> int:
    """Run call(), and return the most bytes that the tensors it allocated on the CPU took at one time.

    torch's profiler records every tensor that is allocated and freed. What was there before the call does not count.
    """
    if not callable(call):
        raise ValueError(f"call must be a function without arguments, got {type(call).__name__}")
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler reports its own start and end on stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = [e["args"] for e in json.loads(path.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    before = events[0]["Total Allocated"] - events[0]["Bytes"] if events else 0
    return max([0, *(event["Total Allocated"] - before for event in events)])
