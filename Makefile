# Each target is one step of somebody who works with the pipeline; what is longer than a line or
# two stands in deploy/bin.
.DEFAULT_GOAL := help
.PHONY: up publish halt drain pause resume status board observe forget repartition dead-letters replay
.PHONY: doctor logs secure down clean test test-board test-faults test-secured soak bench check stage
.PHONY: lock images sbom audit help
.PHONY: test-swarm test-kubernetes
.PHONY: upgrade preflight ready-to-test ours running

# How many processes run the tests, each with a broker of its own.
WORKERS ?= 5

# Any text may be published, the empty one too. So make must not expand it ($5), as it does with
# what it exports from its command line by itself. `given` says which there is: text, file or both.
given := $(if $(filter-out undefined,$(origin MSG)),text) $(if $(value FILE),file)
export TEXT := $(value MSG)
export TEXT_FILE := $(value FILE)
unexport MSG FILE STAGE
# Where it is set, each of the many processes of a test run would compile all that it loads.
unexport PYTHONDONTWRITEBYTECODE

# With TARGET=swarm or kubernetes these are for a stack or a cluster, and nothing is asked of Compose.
target := $(filter swarm kubernetes,$(TARGET))
$(if $(filter-out $(target),$(TARGET)),$(error TARGET=$(TARGET) is not known: swarm or kubernetes, or nothing for Compose))
control := $(if $(target),deploy/$(target)/run control,docker compose run --rm --no-deps control)
here := $(if $(target),,running)

up: $(if $(target),,preflight ours) ## set up what is missing, build, start; ends when all stages are ready
	@deploy/$(or $(target),bin)/up

publish: $(if $(target),,ours) ## publish MSG='any text', or FILE=lines.txt, a message per line (FILE=- reads standard input)
	@deploy/bin/publish $(given)

halt: $(here) ## stop all stages now, with proof, or ARGS='to_upper printer/1b0ad5cf6fa4'; the queued stays
	@deploy/bin/control halt $(ARGS)

drain: $(here) ## stop the stages in flow order, each after its queue is empty; ARGS=to_upper
	@deploy/bin/control drain $(ARGS)

pause: $(here) ## have stages take no messages, with proof, also those that start later: STAGE=printer or ARGS=
	@deploy/bin/control pause $(STAGE) $(ARGS)

resume: $(here) ## have them go on: STAGE=printer, or ARGS='to_upper printer/1b0ad5cf6fa4'; without: all
	@deploy/bin/control resume $(STAGE) $(ARGS)

status: $(here) ## stages, queues, rates; ARGS=--watch: live; ARGS=--replicas; ARGS='printer --format json'
	@deploy/bin/control status $(ARGS)

observe: preflight ours ## Prometheus, with alerts, and the board that it scrapes
	@deploy/bin/observe

board: preflight ours ## the pipeline as a page: starts it, and says where it is and who may log in
	@deploy/bin/board

forget: $(here) ## let go of replicas that are cut off and never come back: ARGS=printer/1b0ad5cf6fa4
	@$(control) forget $(ARGS)

repartition: $(here) ## remove the partitions of an ordered edge that is drained: ARGS=orders; then up with another PARTITIONS
	@deploy/bin/control repartition $(ARGS)

dead-letters: $(here) ## what was given up, and why; ARGS='--reason ValueError' or '--queue upper'
	@$(control) dead-letters list $(ARGS)

replay: $(here) ## publish dead letters again: ARGS=--all, or '--reason ValueError', '--id ID', '--queue upper'
	@$(control) dead-letters replay $(ARGS)

doctor: $(here) ## differences between what the stages declare and what the broker has; ARGS=--fix, --graph
	@deploy/bin/doctor $(ARGS)

upgrade: $(if $(filter swarm,$(TARGET)),,running) ## of three brokers, make one after the other anew, with the image there is now, under load
	@deploy/$(or $(target),bin)/upgrade

logs: ours ## follow the logs of all services
	@docker compose logs --follow --tail 100

secure: preflight ours ## TLS, and a user for each stage; replace with ROTATE=passwords or certificates
	@deploy/bin/secure

down: ours ## remove the containers; the broker's data stays
	@docker compose --profile '*' down

clean: ours ## remove the containers and the broker's data; asks first (YES=1: does not ask)
	@deploy/bin/clean

test: ready-to-test ## all that each part is to do, and what goes wrong most: minutes
	@deploy/bin/test tests -m "not thorough and not board" --numprocesses $(WORKERS) $(ARGS)

test-board: preflight .venv/complete ## the board, in a real browser, and what Prometheus gets of it
	@deploy/bin/test tests/board tests/e2e -m board $(ARGS)

test-faults: preflight .venv/complete ## what goes wrong with containers, network and broker, at length
	@deploy/bin/test tests --ignore=tests/secured --ignore=tests/swarm --ignore=tests/kubernetes -m "quick or thorough" $(ARGS)

test-secured: preflight .venv/complete ## all tests of a secured pipeline
	@deploy/bin/test tests/secured $(ARGS)

test-swarm: .venv/complete ## three brokers on the nodes of a swarm, which SWARM_HOSTS names, with faults
	@deploy/bin/test tests/swarm -m thorough $(ARGS)

test-kubernetes: .venv/complete ## the cluster of kubectl's context, in a namespace of its own, with faults; asks first
	@deploy/bin/test tests/kubernetes -m thorough --capture no $(ARGS)

soak: preflight .venv/complete ## a million messages, a fault every 20 s; MESSAGES=100000 EVERY=20 SEED=7
	@PYTHONPATH=shared:. TESTCONTAINERS_RYUK_DISABLED=true .venv/bin/python -m tests.faults.soak \
		$(if $(MESSAGES),--messages $(MESSAGES)) $(if $(SEED),--seed $(SEED)) $(if $(EVERY),--every $(EVERY))

bench: preflight .venv/complete ## measure, against a C client and others: half an hour; QUICK=1: two minutes
	@PYTHONPATH=shared:. .venv/bin/python -m tests.benchmarks $(if $(QUICK),--quick) $(ARGS)

check: .venv/complete ## format, lint, types, import rules, unit tests: before each commit
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	PYTHONPATH=shared:. .venv/bin/lint-imports
	.venv/bin/pytest --quiet tests/unit

stage: ## write a new stage, with its test and its Compose entry, in front of the printer: NAME=exclaim
	@deploy/bin/stage "$$NAME"

lock: ## renew the hash-locked requirements from pyproject.toml and services/*/requirements.in
	@deploy/bin/lock

sbom: preflight ## write what is in each image, as sbom/IMAGE.cdx.json, in CycloneDX's form
	@deploy/bin/sbom

audit: ## ask whether vulnerabilities of the locked Python packages are known
	@deploy/bin/audit

images: ## build the base images from Debian packages, for a site without a registry
	@deploy/offline/build

help: ## list the targets
	@awk -F ': .*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

# From here on: what other targets need first.

# Docker, its plugins and the base images
preflight:
	@deploy/bin/preflight

# the same and the tests' environment, side by side: a machine that is new waits for both
ready-to-test:
	@$(MAKE) --no-print-directory --jobs 2 preflight .venv/complete

# containers, if any, that were started in this folder
ours:
	@deploy/bin/ours

# a broker that runs
running: ours
	@deploy/bin/running

# the tests' virtual environment, made anew when its requirements have changed
.venv/complete: tests/requirements.txt
	@deploy/bin/venv
