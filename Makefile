# One-line verbs; the work is in scripts/. `make serve` and `make test` need nothing but Python 3.11+.
VENV ?= .venv
PYTHON ?= python3
export VENV PYTHON

.PHONY: help install install-dev serve worker test check bench proto train evaluate coverage chaos soak fuzz v2-clients deploy-check client clean

help:            ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 16
install:         ## a .venv with what the service needs, pinned
	@scripts/install service
install-dev:     ## the same, and what tests and checks need
	@scripts/install dev
serve: install   ## start the service: HTTP on DMVFN_HTTP_PORT (8000), gRPC on DMVFN_GRPC_PORT (8001)
	@exec $(VENV)/bin/python -m service serve
worker: install  ## start a worker for DMVFN_REDIS_URL
	@exec $(VENV)/bin/python -m service work
test: install-dev   ## checks, then every test that runs by default (under 10 minutes on 2 cores)
	@scripts/check
	@scripts/test
check: install-dev  ## ruff, mypy strict
	@scripts/check
