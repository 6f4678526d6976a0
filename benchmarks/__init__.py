"""How fast the package is, beside others that do the same: `python -m benchmarks`.

| module | what it is |
|---|---|
| __main__, options | the command: sections in, tables out |
| steps, search, memory, start, growth | the sections: what is run, and which ratios are taken |
| process, first_step | other processes, run and timed |
| worker, task, timing | one contender in its own process: what it trains, how it is timed |
| loop, fits, jax_loop, torch_loop | the contenders |
| rows, tables, machine | figures kept and shown, and where they were taken |
"""
