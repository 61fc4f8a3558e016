"""The service's own policy on a simulated clock, with measured costs: batches, routes, autoscaling, fleets.

    python -m benchmarks.simulate                         all questions, tables on the screen
    python -m benchmarks.simulate run --write             and into docs/ (tables, JSON, pictures)
    python -m benchmarks.simulate measure --out FILE      this machine's costs; then: run --table FILE
    python -m benchmarks.simulate cost --worker-price P   what a million frames cost at your price per hour

Imported, not rewritten: `service.core.batching`, `cost`, `lane` and `deadline`, by way of `service.engine.line`.
Written here on the simulated clock: the device thread's turns, the routers, the autoscaler, and the policies that the
service's own is compared with.
"""
