"""Serves DMVFN over HTTP, gRPC and Redis. `service.app` joins the parts; `python -m service` starts them."""
