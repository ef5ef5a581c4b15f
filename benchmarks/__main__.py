"""All benchmarks, one after another: `make bench`. Each prints ratios of things measured in turn, in one process."""

from . import cached_latents, convolutions, reading, streaming

for benchmark in (reading, cached_latents, streaming, convolutions):
    print(f"{benchmark.__name__}: {benchmark.__doc__.splitlines()[0]}")
    benchmark.main([])
