"""The service itself on a simulated clock, network and Redis: every run, and every failure, has a seed.

    make sim SEEDS=1000     many seeds, what they broke, and how fast
    make sim SEED=7         one of them, with its trace; the same bytes each time
    make planted            faults put into the service on purpose, and the seeds that catch them

Real: the scheduling, the batcher and its device thread, the front end's client and engine, the worker, the Lua.
Made up: the clock (`virtual_loop`), threads (`virtual_threads`), the device, the network and the server's commands
(`redis_model`, compared with a real server by a test).
"""
