# One-line verbs; the work is in scripts/ and in the packages. `make serve` and `make test` need Python 3.11+ and a package index.
VENV ?= .venv
PYTHON ?= python3
PY = $(VENV)/bin/python
export VENV PYTHON
# The order of sets is part of a trace; small matrices are slower on several threads.
SIMULATED = PYTHONHASHSEED=0 OPENBLAS_NUM_THREADS=1 $(PY) -m simulator.service

.PHONY: help install install-dev serve worker test check format house coverage proto docs lock train evaluate bench bench-gpu bench-peers loop \
	simulate chaos restarts clips object-store swaps soak fuzz fuzz-guided deploy-check upgrade compose-check sim planted \
	api-server-check clients inputs clean

help:            ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 16
install:         ## a .venv with what the service needs, pinned
	@scripts/install service
install-dev:     ## the same, and what tests, training and checks need
	@scripts/install dev

serve: install   ## start the service: HTTP on DMVFN_HTTP_PORT (8000), gRPC on DMVFN_GRPC_PORT (8001)
	@exec $(PY) -m service serve
worker: install  ## start a worker for DMVFN_REDIS_URL
	@exec $(PY) -m service work

test: install-dev   ## checks, then every test that runs by default
	@scripts/check
	@scripts/test
check: install-dev  ## ruff, mypy strict, bandit
	@scripts/check
format: install-dev ## order imports and lay out every file
	@$(VENV)/bin/ruff check --fix-only --exit-zero -q . && $(VENV)/bin/ruff format -q .
house: install-dev  ## names, docstrings, sizes, and the files that one prediction passes
	@$(PY) scripts/house
coverage: install-dev   ## the default tests with branch coverage
	@rm -f .coverage; scripts/test --cov --cov-append --cov-report= && $(PY) -m coverage report --skip-covered

proto: install-dev  ## generate the code of the contracts under proto/
	@scripts/proto
docs: install    ## rewrite the parts of docs/ that come from code
	@scripts/docs
lock:            ## write requirements/*.txt from requirements/*.in
	@scripts/lock

train: install-dev  ## train: make train RUN=name (of model/training/runs) or file [ARGS=...]
	@$(PY) -m model train $(RUN) $(ARGS)
evaluate: install-dev   ## evaluate: make evaluate CLIPS=folder [ARGS=...]
	@$(PY) -m model evaluate $(CLIPS) $(ARGS)

bench: install-dev  ## every benchmark, one after the other
	@scripts/bench
loop: install-dev   ## a car driven by delayed pictures, with and without prediction: the table and picture of docs/loop.md
	@$(PY) -m benchmarks.loop --plot docs/loop.png $(ARGS)
simulate: install-dev   ## the policies on a simulated clock: tables and pictures of docs/scaling.md section 8
	@$(PY) -m simulator run --write
sim: install-dev    ## the service itself on a simulated clock, network and Redis: make sim SEEDS=1000 [FIRST=0 RESULTS=FILE], or SEED=7 for one, with its trace
	@$(SIMULATED) $(if $(SEED),seed $(SEED) --trace $(or $(TRACE),seed-$(SEED).trace),seeds $(or $(SEEDS),100) \
		--first $(or $(FIRST),0) $(if $(RESULTS),--results $(RESULTS))) --stretch $(or $(STRETCH),1) $(ARGS)
planted: install-dev    ## faults put into the service on purpose, each of which the simulation must catch
	@$(SIMULATED) planted
bench-gpu: install-dev  ## on a machine with a GPU: its loops tested there, then the network's speed and roofline
	@scripts/bench-gpu
bench-peers: install-dev    ## the same predictor behind LitServe, BentoML, Mosec, Ray Serve and Triton (installs them)
	@scripts/bench-peers
chaos: install-dev  ## 300 faults of 22 kinds (processes, devices, releases, Redis) while 2,000 jobs come in: make chaos [ARGS="--server valkey9"]
	@$(PY) -m tests.system.chaos.run $(ARGS)
restarts: install-dev ## twenty accepted jobs across a restart of every Redis and Valkey we claim, as shipped, real processes
	@$(PY) -m pytest -q -m "" tests/system/e2e/test_jobs_across_restart.py
clips: install-dev  ## a clip of 600 frames that three workers predict, one killed with the clip's maker: as one makes it, to the byte
	@$(PY) -m pytest -q -m "" tests/system/e2e/test_clip_fleet.py
object-store: install-dev ## clips and jobs whose bytes are in an S3 server (installs moto and obstore in a folder of its own)
	@VENV=$(VENV) scripts/object-store
upgrade: install-dev ## an upgrade from the release before (UPGRADE_FROM) with twenty jobs and calls in flight: none lost
	@$(PY) -m pytest -q -s -m "" tests/system/e2e/test_upgrade.py
api-server-check: install-dev ## the manifests applied to a real API server: make api-server-check KUBE_APISERVER=program (scripts/build-api-server makes one)
	@$(PY) -m pytest -q -s -m "" tests/system/api_server
compose-check: install-dev ## twenty jobs across `down` and `up` of docker-compose.yml, by a real engine
	@docker info > /dev/null 2>&1 && $(PY) scripts/compose-check || BUILD=1 scripts/docker-engine $(PY) scripts/compose-check
swaps: install-dev  ## 1,000 swaps of the weights under load: none lost, no batch mixed, every answer its version's
	@SWAPS=1000 $(PY) -m pytest -q -s tests/unit/engine/versions/test_repository.py -k swaps
soak: install-dev   ## three times what a real service can do, then 10,000 mixed requests: make soak [ARGS="--seconds 3600"]
	@$(PY) -m tests.system.soak $(ARGS)
fuzz: install-dev   ## a million hostile inputs at every parser of the edges
	@$(PY) -m tests.system.fuzz 1000000
fuzz-guided: install-dev ## the same parsers under libFuzzer, a minute each (installs atheris)
	@$(PY) -m pip install -q --disable-pip-version-check -r requirements/fuzz.txt && $(PY) -m tests.system.fuzz.guided $(ARGS)
clients: install-dev ## six stock clients of the Open Inference Protocol against a started service: docs/clients.md (fetches 600 MB)
	@$(PY) -m tests.system.clients
inputs: install-dev ## clips and pictures by many tools (installs them), each sent and judged by ffprobe and pixels: docs/inputs.md
	@scripts/install-system requirements/apt-inputs.txt && $(PY) -m tests.system.inputs $(ARGS)
deploy-check: install-dev   ## manifests, rules, dashboards and image files, with the real tools
	@scripts/deploy-check
clean:           ## remove what the other verbs made
	@rm -rf $(VENV) .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
