"""The service's own policy on a simulated clock, with measured costs: batches, routes, autoscaling, fleets.

    python -m simulator                         all questions, tables on the screen
    python -m simulator run --write             and into docs/ (tables, JSON, pictures)
    python -m simulator measure --out FILE      this machine's costs; then: run --table FILE
    python -m simulator cost --worker-price P   what a million frames cost at your price per hour

Imported, not rewritten: everything under `service.engine.scheduling`, by way of `service.engine.request_queue`.
Written here on the simulated clock: the device thread's turns, the routers, the autoscaler, and the policies that the
service's own is compared with.
"""
